"""Permits and requests in SQL, as they are written: many at a time."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, case, delete, select, update
from sqlalchemy.orm import Session

from segue.model.ids import NodeId, SystemName
from segue.server.databases import Insert
from segue.server.facts import Ask, Permit
from segue.server.schema import AskRow, Base, NodeRow, PermitRow, table_of
from segue.server.sql_nodes import upsert
from segue.server.store import Back
from segue.server.verdicts import Outcome

_NODES, _PERMITS, _ASKS = table_of(NodeRow), table_of(PermitRow), table_of(AskRow)
#: What of a request is known only while it is made.
_PASSING = ("avoided", "holds", "agreed")


def keep_outcome(session: Session, insert: Callable[[type[Base]], Insert], system: SystemName, became: Outcome) -> None:
    """Write what verdicts made of a system, but for what is to be recorded.

    Args:
        session: in a transaction in which nobody else decides about the system.
        insert: the database's.
        system: which.
        became: what is to be kept.
    """
    if became.granted:
        rows = [{"system": system, **asdict(permit)} for permit in became.granted.values()]
        session.execute(insert(PermitRow), rows)
    if became.shortened:
        mine = (_PERMITS.c.system == system) & (_PERMITS.c.id == bindparam("permit"))
        shorter = [{"permit": one.id, "leads_to": one.to_version} for one in became.shortened.values()]
        session.connection().execute(update(_PERMITS).where(mine).values(to_version=bindparam("leads_to")), shorter)
    # In one order for all, so that two servers never wait for each other.
    asks = sorted(became.asks.items())
    upsert(session, insert, AskRow, [_row(system, ask) for _, ask in asks if ask is not None])
    gone = [node for node, ask in asks if ask is None]
    if gone:
        session.execute(delete(_ASKS).where(_ASKS.c.system == system, _ASKS.c.node.in_(gone)))


def close_permits(
    session: Session, system: SystemName, returns: Sequence[Back], now: Callable[[], datetime]
) -> tuple[tuple[bool, ...], list[Permit]]:
    """Close permits that nodes give back, and note what these run.

    Args:
        session: in a transaction in which nobody else decides about the system.
        system: which.
        returns: in the order in which they came.
        now: the database's clock; it is read once these permits are held.

    Returns:
        Of each, whether the node has such a permit; and the permits that are closed now.
    """
    # In the order in which heartbeats take them: nodes by id, then what they hold.
    nodes = {back.node for back in returns}
    held = select(_NODES.c.id).where(_NODES.c.system == system, _NODES.c.id.in_(nodes)).order_by(_NODES.c.id)
    session.execute(held.with_for_update(key_share=True)).all()
    named = PermitRow.id.in_({back.permit for back in returns})
    rows = {row.id: row for row in session.scalars(select(PermitRow).where(PermitRow.system == system, named))}
    at = now()
    known: list[bool] = []
    closed: list[Permit] = []
    for back in returns:
        row = rows.get(back.permit)
        known.append(row is not None and row.node == back.node)
        if row is None or row.node != back.node or row.returned_at is not None:
            continue
        permit = back.close(row.fact(), at)
        row.returned_at, row.failure, row.final = permit.returned_at, permit.failure, permit.final
        row.failed_version = permit.failed_version
        closed.append(permit)
    session.flush()
    _note_versions(session, system, closed)
    return tuple(known), closed


def _note_versions(session: Session, system: SystemName, closed: Sequence[Permit]) -> None:
    """Have nodes run what their permits led to, unless they said that they carry a newer release."""
    reached: dict[NodeId, int] = {one.node: one.to_version for one in closed if one.failure is None}
    if not reached:
        return
    mine = (_NODES.c.system == system) & (_NODES.c.id == bindparam("node"))
    newer = case((_NODES.c.version < bindparam("reached"), bindparam("reached")), else_=_NODES.c.version)
    rows = [{"node": node, "reached": version} for node, version in sorted(reached.items())]
    session.connection().execute(update(_NODES).where(mine).values(version=newer), rows)


def _row(system: SystemName, ask: Ask) -> dict[str, Any]:
    kept = asdict(ask)
    return {"system": system, **{name: value for name, value in kept.items() if name not in _PASSING}}
