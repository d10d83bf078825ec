"""Releases, permits and requests in SQL, read as a picture of a system."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from segue.model.ids import NodeId, SystemName, Version
from segue.server.facts import Ask, NodeRecord, Permit, Picture, Release
from segue.server.kept import Kept, Stamp
from segue.server.raw import raw_rows
from segue.server.schema import AskRow, PermitRow, ReleaseRow, table_of
from segue.server.sql_halts import halts_of, heard_since

_PERMITS = table_of(PermitRow)
_ASKS = table_of(AskRow)
#: Keys in one question: databases have limits.
_AT_ONCE = 1000


class SqlRollouts:
    """Reads who may be away and who waits, and keeps what it read. Any thread may call."""

    def __init__(self) -> None:
        self._permits: defaultdict[SystemName, Kept[str, Permit]] = defaultdict(Kept)
        self._asks: defaultdict[SystemName, Kept[NodeId, Ask]] = defaultdict(Kept)

    def picture(
        self, session: Session, system: SystemName, at: datetime, nodes: tuple[NodeRecord, ...], *, lowest: Version
    ) -> Picture:
        """Put together a system.

        Args:
            session: in a transaction.
            system: which.
            at: the transaction's time.
            nodes: of the system.
            lowest: permits that are closed and lead no further than this are left out.
        """
        return Picture(
            system=system,
            at=at,
            releases=history_of(session, system),
            nodes=nodes,
            permits=self._read_permits(session, system, lowest),
            asks=self._read_asks(session, system),
            halts=halts_of(session, system),
            listens_since=heard_since(session, at),
        )

    def _read_permits(self, session: Session, system: SystemName, lowest: Version) -> tuple[Permit, ...]:
        of_system = _PERMITS.c.system == system
        light = select(
            _PERMITS.c.id, _PERMITS.c.granted_at, _PERMITS.c.to_version, _PERMITS.c.returned_at, _PERMITS.c.lapsed_at
        ).where(of_system, or_(_PERMITS.c.to_version > lowest, _PERMITS.c.returned_at.is_(None)))
        rows = raw_rows(session, light, key=itemgetter(1, 0))
        stamps: list[tuple[str, Stamp]] = [(row[0], row) for row in rows]
        found = dict(stamps)

        def fetch(missing: Sequence[str]) -> Mapping[str, tuple[Stamp, Permit]]:
            return {
                row.id: (found[row.id], row.fact())
                for some in _parts(missing)
                for row in session.scalars(select(PermitRow).where(of_system, PermitRow.id.in_(some)))
            }

        return tuple(self._permits[system].read(stamps, fetch))

    def _read_asks(self, session: Session, system: SystemName) -> tuple[Ask, ...]:
        of_system = _ASKS.c.system == system
        stamped = (
            _ASKS.c.asked_at, _ASKS.c.last_asked_at, _ASKS.c.good_for_s, _ASKS.c.class_name, _ASKS.c.from_version,
            _ASKS.c.to_version,
        )  # fmt: skip
        light = select(_ASKS.c.node, *stamped).where(of_system)
        rows = raw_rows(session, light, key=itemgetter(1, 0))
        stamps: list[tuple[NodeId, Stamp]] = [(row[0], row) for row in rows]
        found = dict(stamps)

        def fetch(missing: Sequence[NodeId]) -> Mapping[NodeId, tuple[Stamp, Ask]]:
            return {
                NodeId(row.node): (found[NodeId(row.node)], row.fact())
                for some in _parts(missing)
                for row in session.scalars(select(AskRow).where(of_system, AskRow.node.in_(some)))
            }

        return tuple(self._asks[system].read(stamps, fetch))


def history_of(session: Session, system: SystemName) -> tuple[Release, ...]:
    """Return what was published for `system`, oldest first."""
    rows = session.scalars(select(ReleaseRow).where(ReleaseRow.system == system).order_by(ReleaseRow.version))
    return tuple(row.fact() for row in rows)


def permits_of(session: Session, system: SystemName, node: NodeId) -> tuple[Permit, ...]:
    """Return all permits that a node ever got."""
    rows = session.scalars(select(PermitRow).where(PermitRow.system == system, PermitRow.node == node))
    return tuple(row.fact() for row in rows)


def _parts(keys: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for begin in range(0, len(keys), _AT_ONCE):
        yield keys[begin : begin + _AT_ONCE]
