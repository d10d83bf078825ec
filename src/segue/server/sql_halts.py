"""Rollouts that have halted by themselves, in SQL; and since when somebody is there to hear nodes."""

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.orm import Session

from segue.model.ids import SystemName
from segue.server.databases import Database
from segue.server.entries import halted, lifted
from segue.server.facts import Halt, HaltChanges
from segue.server.history import Entry
from segue.server.leases import listens_since, was_just_tended
from segue.server.schema import ChoreRow, HaltRow

_TENDING, _BEGINNING = "tend", "begin to tend"


def halts_of(session: Session, system: SystemName) -> tuple[Halt, ...]:
    """Return the halts of `system` that stand, by class and version."""
    of_system = select(HaltRow).where(HaltRow.system == system)
    rows = session.scalars(of_system.order_by(HaltRow.class_name, HaltRow.version))
    return tuple(sorted((row.fact() for row in rows), key=lambda halt: (halt.class_name, halt.version)))


def keep_halts(session: Session, system: SystemName, changes: HaltChanges, at: datetime) -> list[Entry]:
    """Write down what became of halts, and return what is to be recorded: what stands already does not begin again.

    Args:
        session: in a transaction in which nobody else decides about the system.
        system: which.
        changes: of its halts.
        at: the transaction's time.
    """
    entries: list[Entry] = []
    for halt in changes.begun:
        if session.get(HaltRow, (system, halt.class_name, halt.version)) is None:
            session.add(HaltRow.of(system, halt))
            entries.append(halted(halt))
    for halt, why in changes.over:
        row = session.get(HaltRow, (system, halt.class_name, halt.version))
        if row is not None:
            session.delete(row)
            entries.append(lifted(halt, why, at))
    session.flush()
    return entries


def heard_since(session: Session, at: datetime) -> datetime | None:
    """Return since when nodes were heard without a gap; None if nobody ever looked after the database."""
    done = {chore.name: chore.done_at for chore in session.scalars(select(ChoreRow))}
    return listens_since(done.get(_TENDING), done.get(_BEGINNING), at)


def takes_chore(session: Session, database: Database, at: datetime) -> bool:
    """Say whether it is this server that looks after the database now, and note that, and whether none did before.

    Args:
        session: in a transaction that writes.
        database: which.
        at: the transaction's time.
    """
    for name, done_at in ((_TENDING, at - timedelta(days=1)), (_BEGINNING, at)):
        first = database.insert(ChoreRow).values(name=name, done_at=done_at)
        session.execute(first.on_conflict_do_nothing())
    chore = session.get_one(ChoreRow, _TENDING, with_for_update=True)
    beginning = session.get_one(ChoreRow, _BEGINNING)
    if was_just_tended(chore.done_at, at):
        return False
    beginning.done_at = listens_since(chore.done_at, beginning.done_at, at) or at
    chore.done_at = at
    return True
