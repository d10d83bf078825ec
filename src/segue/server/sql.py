"""The upgrade database in SQL, whichever product keeps it; of the server, only modules of SQL import SQLAlchemy."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import func, select, union
from sqlalchemy.orm import Session

from segue.model.clock import Clock
from segue.model.hand import Action
from segue.model.history import Kind
from segue.model.ids import NodeId, SystemName, Version
from segue.server.databases import Database
from segue.server.entries import lease_of, published, returned
from segue.server.facts import (
    CallerSum,
    HaltChanges,
    Heard,
    Permit,
    Picture,
    Release,
    Report,
    Tally,
    UsageSum,
    Verdict,
    everywhere,
    present,
)
from segue.server.history import Entry
from segue.server.leases import changed_leases
from segue.server.postgresql import PostgresqlDatabase
from segue.server.schema import HaltRow, HeadRow, NodeRow, PermitRow, ReleaseRow
from segue.server.sql_actions import actions_of, keep_action
from segue.server.sql_halts import keep_halts, takes_chore
from segue.server.sql_history import Asked, read_history, record
from segue.server.sql_nodes import SqlNodes, details_of
from segue.server.sql_permits import close_permits, keep_outcome
from segue.server.sql_removal import remove_old
from segue.server.sql_rollouts import SqlRollouts, history_of, permits_of
from segue.server.sql_tally import calls_of, permits_granted, permits_returned
from segue.server.sql_usage import callers_of, usage_of
from segue.server.sqlite import SqliteDatabase
from segue.server.store import Back, Deeds, Greet, Judge, Watch, is_watched, see_nothing, welcome
from segue.server.verdicts import outcome_of

_NEWEST = (
    select(ReleaseRow.system, func.max(ReleaseRow.version).label("version")).group_by(ReleaseRow.system).subquery()
)
#: The systems in which a release is not on every node, a permit is open, or a halt stands.
_UNFINISHED = union(
    select(NodeRow.system).join(_NEWEST, _NEWEST.c.system == NodeRow.system).where(NodeRow.version < _NEWEST.c.version),
    select(PermitRow.system).where(PermitRow.returned_at.is_(None)),
    select(HaltRow.system),
).order_by("system")


class SqlStore:
    """A `Store` in a SQL database. Several processes may have it open.

    Args:
        where: SQLite's file, or PostgreSQL's URL, `postgresql://…`; what is not there is made, what is of an older
            version of Segue is migrated.
        clock: the database's clock, for tests; None if it has its own.

    Attributes:
        database: where the tables are.
        clock: the database's clock; None if it has its own.

    Raises:
        OperatorError: the database cannot be used, or is of a newer version of Segue.
    """

    def __init__(self, where: Path | str, *, clock: Clock | None = None) -> None:
        self.database: Database = SqliteDatabase(where) if isinstance(where, Path) else PostgresqlDatabase(where)
        self.clock = clock
        self._nodes = SqlNodes(self.database.insert)
        self._rollouts = SqlRollouts()

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()

    def now(self) -> datetime:
        """Return the time by the database's clock."""
        with self.database.reading() as session:
            return self._now(session)

    def append(self, release: Release, watch: Watch = see_nothing) -> tuple[Release, ...]:
        """Add `release` to its system's history if it is the next one there, and only then."""
        with self.database.deciding(release.system) as session:
            history = history_of(session, release.system)
            if release.version != len(history) + 1:
                return history
            session.add(ReleaseRow(**asdict(release)))
            session.flush()
            entries = [published(release, self._now(session))]
            self.record(session, release.system, [*entries, *self._watched(session, release.system, watch)])
            return (*history, release)

    def history_of(self, system: SystemName) -> tuple[Release, ...]:
        """Return what was published for `system`, oldest first."""
        with self.database.reading() as session:
            return history_of(session, system)

    def hear(self, reports: Sequence[Report], greet: Greet = welcome) -> tuple[Heard, ...]:
        """Remember what nodes said of themselves, each in place of what it said before, in one transaction."""
        with self.database.writing() as session:
            heard, entries = self._nodes.hear(session, reports, lambda: self._now(session), greet)
            for system, new in entries.items():
                self.record(session, system, new)
            return heard

    def admit(self, system: SystemName, judge: Judge) -> Sequence[Verdict | Exception]:
        """Let `judge` decide over the system as it is, and keep what it decides, in one transaction."""
        with self.database.deciding(system) as session:
            picture, entries = self._settled(session, system)
            verdicts = judge(picture)
            became = outcome_of(picture, verdicts)
            keep_outcome(session, self.database.insert, system, became)
            halts = HaltChanges(begun=tuple(became.halts.values()))
            entries += [*became.entries, *keep_halts(session, system, halts, picture.at)]
            self.record(session, system, entries)
            return verdicts

    def give_back(self, system: SystemName, returns: Sequence[Back], watch: Watch = see_nothing) -> tuple[bool, ...]:
        """Close permits, in one transaction; one that is closed stays as it is."""
        with self.database.deciding(system) as session:
            known, closed = close_permits(session, system, returns, lambda: self._now(session))
            entries = [returned(permit) for permit in closed]
            if any(permit.failure is not None and permit.final for permit in closed):
                entries += self._watched(session, system, watch)
            self.record(session, system, entries)
            return known

    def picture_of(self, system: SystemName) -> Picture:
        """Return all that is known of `system`, but for calls."""
        with self.database.reading() as session:
            return self._whole(session, system)

    def glance_at(self, system: SystemName, node: NodeId | None = None) -> Picture:
        """Return `system` as decisions see it, and all of one node."""
        with self.database.reading() as session:
            picture = self._glance(session, system)
            if node is None:
                return picture
            nodes = tuple(details_of(session, system, one) if one.id == node else one for one in picture.nodes)
            others = (permit for permit in picture.permits if permit.node != node)
            permits = sorted((*others, *permits_of(session, system, node)), key=lambda one: (one.granted_at, one.id))
            return replace(picture, nodes=nodes, permits=tuple(permits))

    def tally_of(self, system: SystemName) -> Tally:
        """Return `system` in numbers."""
        with self.database.reading() as session:
            return Tally(
                picture=self._glance(session, system),
                granted=permits_granted(session, system),
                returned=permits_returned(session, system),
                calls=calls_of(session, system),
                upgrades=self._nodes.upgrades(session, system),
            )

    def usage_of(self, system: SystemName, node: NodeId | None = None) -> tuple[UsageSum, ...]:
        """Return the calls that were answered in `system`, or by one node of it, in the order of the fields."""
        with self.database.reading() as session:
            return usage_of(session, system, node)

    def history(
        self,
        system: SystemName,
        *,
        after: int = 0,
        limit: int = 1000,
        node: NodeId | None = None,
        kinds: Collection[Kind] = (),
        before: int | None = None,
    ) -> tuple[Entry, ...]:
        """Return what happened in `system`, the oldest first."""
        with self.database.reading() as session:
            asked = Asked(after=after, limit=limit, node=node, kinds=frozenset(kinds), before=before)
            return read_history(session, system, asked)

    def last_number(self, system: SystemName) -> int:
        """Return the number of the last entry in the history of `system`, 0 if there is none."""
        with self.database.reading() as session:
            return session.scalar(select(HeadRow.last).where(HeadRow.system == system)) or 0

    def act(self, system: SystemName, judge: Deeds, watch: Watch = see_nothing) -> Action:
        """Let `judge` say what an operator does to the system as it is, and keep that, in one transaction."""
        with self.database.deciding(system) as session:
            action = judge(self._glance(session, system))
            entries = keep_action(session, system, action)
            self.record(session, system, [*entries, *self._watched(session, system, watch)])
            return action

    def actions_of(self, system: SystemName) -> tuple[Action, ...]:
        """Return what operators did to `system`, oldest first."""
        with self.database.reading() as session:
            return actions_of(session, system)

    def callers_of(self, system: SystemName) -> tuple[CallerSum, ...]:
        """Return who called in `system` with which version, in the order of the fields."""
        with self.database.reading() as session:
            return callers_of(session, system)

    def systems(self) -> tuple[SystemName, ...]:
        """Return the systems that something was published for, by name."""
        first = select(ReleaseRow.system).where(ReleaseRow.version == 1)
        with self.database.reading() as session:
            return tuple(sorted(SystemName(name) for name in session.scalars(first)))

    def tend(self, keep: timedelta, watch: Watch = see_nothing) -> bool:
        """Note which leases ended and what became of halts, and remove what is old."""
        with self.database.writing() as session:
            at = self._now(session)
            if not takes_chore(session, self.database, at):
                return False
            systems = [SystemName(name) for name in session.scalars(_UNFINISHED)]
        for system in systems:
            # Whoever decides about the system waits for nobody, but where there is something to write down.
            with self.database.reading() as session:
                picture = self._glance(session, system)
            if not is_watched(picture) or not (any(changed_leases(picture)) or watch(picture) != HaltChanges()):
                continue
            with self.database.deciding(system) as session:
                self.record(session, system, self._watched(session, system, watch))
        remove_old(self.database, at - keep, at)
        return True

    def record(self, session: Session, system: SystemName, entries: Sequence[Entry]) -> None:
        """Add `entries`, the oldest first, to the history, as the last thing that a transaction does."""
        record(session, self.database.insert, system, entries)

    def _watched(self, session: Session, system: SystemName, watch: Watch) -> list[Entry]:
        """Write down what became of leases and halts, and return what is to be recorded."""
        picture, entries = self._settled(session, system)
        return [*entries, *keep_halts(session, system, watch(picture), picture.at)]

    def _whole(self, session: Session, system: SystemName) -> Picture:
        actions = actions_of(session, system)
        nodes = present(self._nodes.wholly(session, system), actions)
        picture = self._rollouts.picture(session, system, self._now(session), nodes, lowest=Version(0))
        return replace(picture, actions=actions)

    def _glance(self, session: Session, system: SystemName) -> Picture:
        """Return the system as decisions see it, with its leases as they were."""
        at = self._now(session)
        actions = actions_of(session, system)
        nodes = present(self._nodes.briefly(session, system), actions)
        picture = self._rollouts.picture(session, system, at, nodes, lowest=everywhere(nodes))
        return replace(picture, actions=actions)

    def _settled(self, session: Session, system: SystemName) -> tuple[Picture, list[Entry]]:
        """Return the system as decisions see it, with its leases as they are now; and what to record of that."""
        picture = self._glance(session, system)
        changed = {permit.id: permit for permit in changed_leases(picture)}
        if not changed:
            return picture, []
        for permit in changed.values():
            session.get_one(PermitRow, (system, permit.id)).lapsed_at = permit.lapsed_at
        session.flush()
        permits: tuple[Permit, ...] = tuple(changed.get(permit.id, permit) for permit in picture.permits)
        return replace(picture, permits=permits), [lease_of(permit, picture.at) for permit in changed.values()]

    def _now(self, session: Session) -> datetime:
        return self.clock.now() if self.clock else self.database.now(session)

    def __repr__(self) -> str:
        return f"SqlStore({self.database!r})"
