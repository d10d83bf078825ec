"""Nodes in SQL: what they say is written only where it is new, and read only where it changed."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from operator import itemgetter
from typing import Any

from sqlalchemy import bindparam, case, delete, func, select, update
from sqlalchemy.orm import Session

from segue.model.ids import NodeId, SystemName, Version
from segue.server.columns import as_utc
from segue.server.databases import Insert
from segue.server.entries import heard
from segue.server.facts import BULKY, Heard, NodeRecord, Report, Times, brief, is_present
from segue.server.history import Entry
from segue.server.kept import Kept, Stamp
from segue.server.raw import raw_rows
from segue.server.schema import Base, CallsRow, DetailsRow, NodeRow, ReleaseRow, table_of
from segue.server.sql_actions import end_permit, forgotten_at
from segue.server.store import Greet, welcome
from segue.wire.messages import Heartbeat

_NODES = table_of(NodeRow)
_DETAILS = table_of(DetailsRow)
_CALLS_COLUMNS = set(table_of(CallsRow).c.keys()) - {"system", "node", "last_at"}
# What every batch of heartbeats asks is put together once, and asked of the connection: where nothing is new, that
# would be most of the work.
_ITS = (_NODES.c.system == bindparam("of"), _NODES.c.id.in_(bindparam("nodes", expanding=True)))
#: What refers to a node, as a grant does, need not wait.
_HELD = (
    select(_NODES.c.id, _NODES.c.version, _NODES.c.said_version, _NODES.c.tag, _NODES.c.last_seen)
    .where(*_ITS)
    .order_by(_NODES.c.id)
    .with_for_update(key_share=True)
)
_SEEN = update(_NODES).where(*_ITS).values(last_seen=bindparam("at"))
_RELEASES = table_of(ReleaseRow)
_NEWEST = (
    select(_RELEASES.c.system, func.max(_RELEASES.c.version))
    .where(_RELEASES.c.system.in_(bindparam("systems", expanding=True)))
    .group_by(_RELEASES.c.system)
)

_NONE = Version(0)


@dataclass(slots=True)
class _Known:
    """A node as the database has it: whether what it says is new."""

    version: int
    said_version: int
    tag: str
    last_seen: datetime
    is_new: bool = False

    def says(self, tag: str) -> bool:
        """Say whether this is what the node said, and nothing since then says otherwise."""
        return self.tag == tag and self.version == self.said_version


@dataclass(slots=True)
class _Batch:
    """What is to be written of one system."""

    system: SystemName
    greet: Greet
    newest: Version = _NONE
    known: dict[NodeId, _Known] = field(default_factory=dict)
    #: What nodes said before that say something new.
    before: dict[NodeId, NodeRecord] = field(default_factory=dict)
    #: When an operator forgot nodes that say something new.
    forgotten_at: Mapping[NodeId, datetime] = field(default_factory=dict)
    #: Nodes whose permits end, and why.
    gone: list[tuple[NodeId, str]] = field(default_factory=list)
    seen: set[NodeId] = field(default_factory=set)
    #: What nodes said that is new, in the order in which it came.
    told: list[tuple[NodeId, Heartbeat]] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)


class SqlNodes:
    """Writes and reads nodes, and keeps what it read. Any thread may call.

    Args:
        insert: the database's.
    """

    def __init__(self, insert: Callable[[type[Base]], Insert]) -> None:
        self._insert = insert
        self._keep_larger = _keep_larger(insert)
        self._kept: defaultdict[SystemName, Kept[NodeId, NodeRecord]] = defaultdict(Kept)
        self._said: dict[tuple[SystemName, NodeId], tuple[str, Heartbeat]] = {}
        self._upgrades: defaultdict[SystemName, Kept[NodeId, tuple[NodeId, Times]]] = defaultdict(Kept)

    def hear(
        self, session: Session, reports: Sequence[Report], now: Callable[[], datetime], greet: Greet = welcome
    ) -> tuple[tuple[Heard, ...], Mapping[SystemName, Sequence[Entry]]]:
        """Write what nodes say.

        Args:
            session: in a transaction that writes.
            reports: in the order in which they came.
            now: the database's clock; it is read once these nodes are held.
            greet: as `Store.hear` has it.

        Returns:
            What became of each; and what is to be recorded of it, by system, in the order of their names.
        """
        said = [report.tag if report.said is None else tag_of(report.said) for report in reports]
        batches: dict[SystemName, _Batch] = {}
        # In one order for all, so that two servers never wait for each other.
        for system in sorted({report.system for report in reports}):
            mine = {
                report.node: tag or "" for report, tag in zip(reports, said, strict=True) if report.system == system
            }
            batches[system] = _begun(session, _Batch(system=system, greet=greet), mine)
        for system, version in _newest(session, batches).items():
            batches[system].newest = version
        at = now()
        tags = [_sort(batches[report.system], report, tag, at) for report, tag in zip(reports, said, strict=True)]
        entries = {system: self._write(session, system, batch, at) for system, batch in batches.items()}
        return tuple(
            Heard(newest=batches[report.system].newest, tag=tag) for report, tag in zip(reports, tags, strict=True)
        ), entries

    def briefly(self, session: Session, system: SystemName) -> tuple[NodeRecord, ...]:
        """Return the nodes by id, with what decisions need of what they said."""
        light = select(_NODES.c.id, _NODES.c.tag, _NODES.c.version, _NODES.c.last_seen)
        rows = raw_rows(session, light.where(_NODES.c.system == system), key=itemgetter(0))
        stamps: list[tuple[NodeId, Stamp]] = [(row[0], row) for row in rows]
        found = dict(stamps)
        return tuple(self._kept[system].read(stamps, lambda missing: self._records(session, system, missing, found)))

    def wholly(self, session: Session, system: SystemName) -> tuple[NodeRecord, ...]:
        """Return the nodes by id, with all that they said."""
        rows = session.execute(select(_DETAILS.c.node, _DETAILS.c.said).where(_DETAILS.c.system == system))
        details = {node: said for node, said in rows}  # noqa: C416 - rows are no tuples
        return tuple(_with_details(node, details.get(node.id)) for node in self.briefly(session, system))

    def upgrades(self, session: Session, system: SystemName) -> Mapping[NodeId, Times]:
        """Return the times of the upgrades that nodes tell of; what a node says is read once."""
        theirs = (_NODES.c.system == _DETAILS.c.system) & (_NODES.c.id == _DETAILS.c.node)
        tags = select(_NODES.c.id, _NODES.c.tag).join(_DETAILS, theirs).where(_NODES.c.system == system)
        found: dict[NodeId, Stamp] = {NodeId(node): (tag,) for node, tag in session.execute(tags)}

        def fetch(missing: Sequence[NodeId]) -> dict[NodeId, tuple[Stamp, tuple[NodeId, Times]]]:
            wanted = select(_DETAILS.c.node, _DETAILS.c.said).where(_DETAILS.c.system == system)
            return {
                NodeId(node): (found[NodeId(node)], (NodeId(node), _times(said)))
                for begin in range(0, len(missing), _AT_ONCE)
                for node, said in session.execute(wanted.where(_DETAILS.c.node.in_(missing[begin : begin + _AT_ONCE])))
            }

        return dict(self._upgrades[system].read(list(found.items()), fetch))

    def _records(
        self, session: Session, system: SystemName, nodes: Sequence[NodeId], stamps: Mapping[NodeId, Stamp]
    ) -> dict[NodeId, tuple[Stamp, NodeRecord]]:
        unknown = [node for node in nodes if self._said.get((system, node), ("",))[0] != stamps[node][1]]
        self._read_said(session, system, unknown)
        records: dict[NodeId, tuple[Stamp, NodeRecord]] = {}
        for node in nodes:
            _, _, version, last_seen = stamps[node]
            assert isinstance(version, int)
            said = self._said[system, node][1]
            record = NodeRecord(id=node, version=Version(version), said=said, last_seen=_time(last_seen))
            records[node] = (stamps[node], record)
        return records

    def _read_said(self, session: Session, system: SystemName, nodes: Sequence[NodeId]) -> None:
        wanted = select(_NODES.c.id, _NODES.c.tag, _NODES.c.said).where(_NODES.c.system == system)
        for begin in range(0, len(nodes), _AT_ONCE):
            some = nodes[begin : begin + _AT_ONCE]
            for node, tag, said in session.execute(wanted.where(_NODES.c.id.in_(some))):
                self._said[system, NodeId(node)] = (tag, Heartbeat.model_validate_json(said))

    def _write(self, session: Session, system: SystemName, batch: _Batch, at: datetime) -> list[Entry]:
        changed = dict(batch.told)
        if unchanged := batch.seen - changed.keys():
            session.connection().execute(_SEEN, {"of": system, "nodes": list(unchanged), "at": at})
        entries = self._told(session, system, batch, at)
        if changed:
            tags = {node: batch.known[node].tag for node in changed}
            self._write_said(session, system, changed, tags, at)
        if batch.calls:
            session.connection().execute(self._keep_larger, [{"system": system, **row} for row in batch.calls])
        return entries

    def _told(self, session: Session, system: SystemName, batch: _Batch, at: datetime) -> list[Entry]:
        """Return what is new in what nodes say."""
        before: dict[NodeId, Heartbeat | None] = {node: record.said for node, record in batch.before.items()}
        entries: list[Entry] = []
        for node, why in batch.gone:
            entries += end_permit(session, system, node, why, at)
        for node, said in batch.told:
            entries.extend(heard(node, before.get(node), said, at))
            before[node] = said
        return entries

    def _write_said(
        self,
        session: Session,
        system: SystemName,
        changed: Mapping[NodeId, Heartbeat],
        tags: Mapping[NodeId, str],
        at: datetime,
    ) -> None:
        rows, bulky, without = [], [], []
        for node, said in changed.items():
            rows.append(
                {
                    "system": system, "id": node, "version": said.version, "said": brief(said).model_dump_json(),
                    "last_seen": at, "said_version": said.version, "tag": tags[node],
                }
            )  # fmt: skip
            if any(getattr(said, name) for name in BULKY):
                details = said.model_dump_json(include=set(BULKY))
                bulky.append({"system": system, "node": node, "said": details})
            else:
                without.append(node)
        upsert(session, self._insert, NodeRow, rows)
        upsert(session, self._insert, DetailsRow, bulky)
        if without:
            gone = (_DETAILS.c.system == system) & _DETAILS.c.node.in_(without)
            session.execute(delete(_DETAILS).where(gone))


#: Names in one question: databases have limits.
_AT_ONCE = 1000


def tag_of(said: Heartbeat) -> str:
    """Return what tells that which a node says from all else that it could say."""
    return sha256(said.model_dump_json().encode()).hexdigest()[:32]


def upsert(
    session: Session, insert: Callable[[type[Base]], Insert], table: type[Base], rows: list[dict[str, Any]]
) -> None:
    """Write rows, each in place of one with the same key."""
    if not rows:
        return
    statement = insert(table)
    keys = [column.name for column in table_of(table).primary_key]
    others = {column.name: statement.excluded[column.name] for column in table_of(table).c if column.name not in keys}
    session.execute(statement.on_conflict_do_update(index_elements=keys, set_=others), rows)


def _begun(session: Session, batch: _Batch, tags: Mapping[NodeId, str]) -> _Batch:
    """Read what must be known of nodes that speak: `{node: tag of what it says}`."""
    batch.known = _held(session, batch.system, tags)
    news = [node for node, known in batch.known.items() if not known.says(tags[node])]
    if news:
        wanted = select(_NODES.c.id, _NODES.c.said).where(_NODES.c.system == batch.system, _NODES.c.id.in_(news))
        for name, text in session.execute(wanted):
            node, known = NodeId(name), batch.known[NodeId(name)]
            said = Heartbeat.model_validate_json(text)
            batch.before[node] = NodeRecord(
                id=node, version=Version(known.version), said=said, last_seen=known.last_seen
            )
        batch.forgotten_at = forgotten_at(session, batch.system, news)
    return batch


def _held(session: Session, system: SystemName, nodes: Iterable[NodeId]) -> dict[NodeId, _Known]:
    """Return what is known of these nodes, and hold them, so that nobody else hears them meanwhile."""
    rows = session.connection().execute(_HELD, {"of": system, "nodes": list(nodes)})
    return {NodeId(node): _Known(*known) for node, *known in rows}


def _sort(batch: _Batch, report: Report, tag: str | None, at: datetime) -> str | None:
    """Note what is to be written of a report; return the tag of what its node says, None if it must say all."""
    known = batch.known.get(report.node)
    assert tag is not None, f"the report of node {report.node} has neither words nor a tag"
    if known is None or not known.says(tag):
        if report.said is None:
            return None
        _greet(batch, report.node, report.said, at)
        is_new = known is None or known.is_new
        batch.known[report.node] = _Known(report.said.version, report.said.version, tag, at, is_new)
        batch.told.append((report.node, report.said))
    batch.seen.add(report.node)
    batch.calls += [
        {"node": report.node, "last_at": at, **row.model_dump(include=_CALLS_COLUMNS)} for row in report.usage
    ]
    return tag


def _greet(batch: _Batch, node: NodeId, said: Heartbeat, at: datetime) -> None:
    """Have a node welcomed that says something new; what it holds may end with that."""
    heard = NodeRecord(id=node, version=Version(said.version), said=said, last_seen=at)
    last = next((words for name, words in reversed(batch.told) if name == node), None)
    if last is not None:
        before: NodeRecord | None = replace(heard, version=Version(last.version), said=brief(last))
    else:
        known = batch.before.get(node)
        before = known if known is not None and is_present(known, batch.forgotten_at) else None
    why = batch.greet(batch.system, before, heard, batch.newest)
    if why is not None:
        batch.gone.append((node, why))


def _newest(session: Session, systems: Iterable[SystemName]) -> dict[SystemName, Version]:
    rows = session.connection().execute(_NEWEST, {"systems": list(systems)})
    return {SystemName(system): Version(newest) for system, newest in rows}


def _keep_larger(insert: Callable[[type[Base]], Insert]) -> Insert:
    """Return what writes counts, each in place of a smaller one with the same key."""
    statement = insert(CallsRow)
    new, old = statement.excluded, table_of(CallsRow).c
    grown = new["count"] > old["count"]
    later = case((new.last_at > old.last_at, new.last_at), else_=old.last_at)
    kept = {
        "count": case((grown, new["count"]), else_=old["count"]),
        "last_at": case((grown, later), else_=old.last_at),
    }
    keys = [column.name for column in table_of(CallsRow).primary_key]
    return statement.on_conflict_do_update(index_elements=keys, set_=kept)


def _with_details(node: NodeRecord, text: str | None) -> NodeRecord:
    if text is None:
        return node
    # The fields that a heartbeat must have are those of the node; only the bulky ones are read.
    details = Heartbeat.model_validate({**_EMPTY, **json.loads(text)})
    said = node.said.model_copy(update={name: getattr(details, name) for name in BULKY})
    return NodeRecord(id=node.id, version=node.version, said=said, last_seen=node.last_seen)


def details_of(session: Session, system: SystemName, node: NodeRecord) -> NodeRecord:
    """Return a node of which the brief part is known, with all that it said."""
    wanted = select(_DETAILS.c.said).where(_DETAILS.c.system == system, _DETAILS.c.node == node.id)
    return _with_details(node, session.scalar(wanted))


def _times(text: str) -> Times:
    """Return of each upgrade in what a node said its pause and its transform; without pydantic, for speed."""
    return tuple((float(row["pause_ms"]), float(row["transform_ms"])) for row in json.loads(text).get("upgrades", ()))


_EMPTY = {"class_name": "C", "version": 0, "address": "", "phase": ""}


def _time(raw: object) -> datetime:
    """Return a time as the driver had it: SQLite has text."""
    at = datetime.fromisoformat(raw) if isinstance(raw, str) else raw
    assert isinstance(at, datetime), f"a node was seen at {raw!r}"
    return as_utc(at)
