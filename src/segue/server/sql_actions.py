"""What operators did, in SQL, and what ends with it: permits whose nodes are gone."""

from collections.abc import Callable, Iterable
from dataclasses import asdict
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from segue.model.hand import Action, Deed
from segue.model.ids import NodeId, SystemName
from segue.server.entries import acted, returned
from segue.server.facts import Permit, ended, forgotten
from segue.server.history import Entry
from segue.server.schema import ActionRow, AskRow, PermitRow


def actions_of(session: Session, system: SystemName) -> tuple[Action, ...]:
    """Return what operators did to `system`, oldest first."""
    rows = session.scalars(select(ActionRow).where(ActionRow.system == system).order_by(ActionRow.number))
    return tuple(row.fact() for row in rows)


def forgotten_at(session: Session, system: SystemName, nodes: Iterable[NodeId]) -> dict[NodeId, datetime]:
    """Return when an operator last forgot each of these nodes, of those that one did."""
    wanted = (
        select(ActionRow)
        .where(ActionRow.system == system, ActionRow.deed == Deed.FORGET.value, ActionRow.node.in_(list(nodes)))
        .order_by(ActionRow.number)
    )
    return {NodeId(row.node): row.at for row in session.scalars(wanted) if row.node is not None}


def keep_action(session: Session, system: SystemName, action: Action) -> list[Entry]:
    """Add an action, and return what is to be recorded; with a node that is forgotten its permit and request end.

    Args:
        session: in a transaction in which nobody else decides about the system.
        system: which.
        action: what an operator did.
    """
    last = session.scalar(select(func.max(ActionRow.number)).where(ActionRow.system == system)) or 0
    session.add(ActionRow(system=system, number=last + 1, **{**asdict(action), "deed": action.deed.value}))
    entries: list[Entry] = []
    if action.deed is Deed.FORGET and action.node is not None:
        entries += _end(session, system, action.node, lambda held: forgotten(held, action))
    session.flush()
    return [*entries, acted(action)]


def end_permit(session: Session, system: SystemName, node: NodeId, why: str, at: datetime) -> list[Entry]:
    """End the permit that a node holds, if it does, and forget that it asks for one; return what is to be recorded."""
    return _end(session, system, node, lambda held: ended(held, why, at))


def _end(session: Session, system: SystemName, node: NodeId, close: Callable[[Permit], Permit]) -> list[Entry]:
    session.execute(delete(AskRow).where(AskRow.system == system, AskRow.node == node))
    open_ones = (PermitRow.system == system) & (PermitRow.node == node) & PermitRow.returned_at.is_(None)
    entries = []
    for row in session.scalars(select(PermitRow).where(open_ones).with_for_update()):
        closed = close(row.fact())
        row.returned_at, row.failure = closed.returned_at, closed.failure
        entries.append(returned(closed))
    session.flush()
    return entries
