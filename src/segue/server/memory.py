"""The upgrade database in memory: what the SQL one must agree with, and a fake for tests."""

import threading
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeAlias

from segue.model.clock import Clock, SystemClock
from segue.model.hand import Action, Deed
from segue.model.history import Kind
from segue.model.ids import ClassName, NodeId, SystemName, Version
from segue.model.usage import AnsweredBy
from segue.server.entries import acted, halted, heard, lease_of, lifted, published, returned
from segue.server.facts import (
    BULKY,
    Ask,
    CallerSum,
    CallKind,
    Halt,
    HaltChanges,
    Heard,
    NodeRecord,
    Permit,
    Picture,
    Release,
    Report,
    Tally,
    UsageSum,
    Verdict,
    brief,
    ended,
    everywhere,
    forgotten,
    present,
)
from segue.server.history import END, PASSING, Entry
from segue.server.leases import changed_leases, listens_since, was_just_tended
from segue.server.retention import is_due
from segue.server.store import Back, Deeds, Greet, Judge, Watch, is_watched, see_nothing, welcome
from segue.server.verdicts import outcome_of
from segue.wire.messages import UsageRow

#: (node's version, caller's version, caller, method, answered by, from a node, outcome)
_Kind: TypeAlias = tuple[int, int, str, str, AnsweredBy, bool, str]


@dataclass
class _System:
    releases: list[Release] = field(default_factory=list)
    nodes: dict[NodeId, NodeRecord] = field(default_factory=dict)
    #: in the order of granting
    permits: dict[str, Permit] = field(default_factory=dict)
    asks: dict[NodeId, Ask] = field(default_factory=dict)
    #: {(node, incarnation, kind): (count, when it last grew)}
    usage: dict[tuple[NodeId, str, _Kind], tuple[int, datetime]] = field(default_factory=dict)
    #: {node: what the store calls that which it said}, of those that run what they said
    tags: dict[NodeId, str] = field(default_factory=dict)
    history: list[Entry] = field(default_factory=list)
    last: int = 0
    actions: list[Action] = field(default_factory=list)
    halts: dict[tuple[ClassName, Version], Halt] = field(default_factory=dict)

    def record(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.last += 1
            self.history.append(replace(entry, number=self.last))


class MemoryStore:
    """A `Store` that is forgotten with its process.

    Args:
        clock: the database's.

    Attributes:
        clock: the database's.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock: Clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._systems: dict[SystemName, _System] = {}
        self._said = 0
        #: When it was last looked after, and since when without a gap.
        self._tended_at: datetime | None = None
        self._began_at: datetime | None = None
        self._removed_at: datetime | None = None

    def now(self) -> datetime:
        """Return the time by the database's clock."""
        return self.clock.now()

    def append(self, release: Release, watch: Watch = see_nothing) -> tuple[Release, ...]:
        """Add `release` to its system's history if it is the next one there, and only then."""
        with self._lock:
            known = self._system(release.system)
            if release.version == len(known.releases) + 1:
                known.releases.append(release)
                known.record([published(release, self.now())])
                self._watch(release.system, watch)
            return tuple(known.releases)

    def history_of(self, system: SystemName) -> tuple[Release, ...]:
        """Return what was published for `system`, oldest first."""
        with self._lock:
            return tuple(self._system(system).releases)

    def hear(self, reports: Sequence[Report], greet: Greet = welcome) -> tuple[Heard, ...]:
        """Remember what nodes said of themselves, each in place of what it said before."""
        with self._lock:
            at = self.now()
            before = deepcopy(self._systems)
            try:
                return tuple(self._hear(self._system(report.system), report, at, greet) for report in reports)
            except BaseException:
                self._systems = before
                raise

    def _hear(self, known: _System, report: Report, at: datetime, greet: Greet) -> Heard:
        newest, node = Version(len(known.releases)), report.node
        before = known.nodes.get(node)
        if report.said is None:
            if before is None or known.tags.get(node) != report.tag:
                return Heard(newest=newest, tag=None)
            known.nodes[node] = replace(before, last_seen=at)
        else:
            if before is None or before.said != report.said or node not in known.tags:
                self._greet(known, report, at, greet)
                known.record(heard(node, before.said if before else None, report.said, at))
                self._said += 1
                known.tags[node] = f"said-{self._said}"
            version = Version(report.said.version)
            known.nodes[node] = NodeRecord(id=node, version=version, said=report.said, last_seen=at)
        for row in report.usage:
            key = (node, row.incarnation, _kind(row))
            count, last_at = known.usage.get(key, (-1, at))
            if row.count > count:
                known.usage[key] = (row.count, max(last_at, at))
        return Heard(newest=newest, tag=known.tags[node])

    def _greet(self, known: _System, report: Report, at: datetime, greet: Greet) -> None:
        """Have a node welcomed that says something new; what it holds may end with that."""
        assert report.said is not None, report
        said = NodeRecord(id=report.node, version=Version(report.said.version), said=report.said, last_seen=at)
        there = {node.id: node for node in present(known.nodes.values(), known.actions)}
        before = there.get(report.node)
        before = replace(before, said=brief(before.said)) if before else None
        why = greet(report.system, before, said, Version(len(known.releases)))
        if why is None:
            return
        known.asks.pop(report.node, None)
        for held in [one for one in known.permits.values() if one.node == report.node and one.returned_at is None]:
            known.permits[held.id] = ended(held, why, at)
            known.record([returned(known.permits[held.id])])

    def admit(self, system: SystemName, judge: Judge) -> Sequence[Verdict | Exception]:
        """Let `judge` decide over the system as it is, and keep what it decides."""
        with self._lock:
            known = self._system(system)
            picture, changed = self._settled(system)
            verdicts = judge(picture)
            self._keep_leases(known, changed, picture.at)
            became = outcome_of(picture, verdicts)
            for permit in (*became.granted.values(), *became.shortened.values()):
                known.permits[permit.id] = permit
            for node, ask in became.asks.items():
                known.asks.pop(node, None)
                if ask is not None:
                    known.asks[node] = ask
            known.record(became.entries)
            self._keep_halts(known, HaltChanges(begun=tuple(became.halts.values())), picture.at)
            return verdicts

    def give_back(self, system: SystemName, returns: Sequence[Back], watch: Watch = see_nothing) -> tuple[bool, ...]:
        """Close permits; one that is closed stays as it is."""
        with self._lock:
            known, at = self._system(system), self.now()
            open_ = {permit.id for permit in known.permits.values() if permit.returned_at is None}
            found = tuple(self._give_back(known, back, at) for back in returns)
            closed = [known.permits[back.permit] for back in returns if back.permit in open_]
            if any(permit.failure is not None and permit.final for permit in closed):
                self._watch(system, watch)
            return found

    def _give_back(self, known: _System, back: Back, at: datetime) -> bool:
        held = known.permits.get(back.permit)
        if held is None or held.node != back.node:
            return False
        if held.returned_at is None:
            closed = known.permits[held.id] = back.close(held, at)
            if closed.failure is None:
                before = known.nodes[held.node]
                known.nodes[held.node] = replace(before, version=max(before.version, held.to_version))
                if known.nodes[held.node].version != before.said.version:
                    known.tags.pop(held.node, None)
            known.record([returned(closed)])
        return True

    def picture_of(self, system: SystemName) -> Picture:
        """Return all that is known of `system`, but for calls."""
        with self._lock:
            return self._picture(system)

    def glance_at(self, system: SystemName, node: NodeId | None = None) -> Picture:
        """Return `system` as decisions see it, and all of one node."""
        with self._lock:
            return self._glance(system, node)

    def tally_of(self, system: SystemName) -> Tally:
        """Return `system` in numbers."""
        with self._lock:
            known = self._system(system)
            permits = known.permits.values()
            back = [permit for permit in permits if permit.returned_at is not None]
            calls: Counter[CallKind] = Counter()
            for (_node, _incarnation, kind), (count, _last_at) in known.usage.items():
                _, version, _, _, answered_by, from_node, outcome = kind
                told = CallKind(
                    caller_version=Version(version), from_node=from_node, answered_by=answered_by, outcome=outcome
                )
                calls[told] += count
            return Tally(
                picture=self._glance(system),
                granted=Counter(permit.class_name for permit in permits),
                returned=Counter((permit.class_name, permit.failure is None) for permit in back),
                calls=calls,
                upgrades={
                    node.id: tuple((row.pause_ms, row.transform_ms) for row in node.said.upgrades)
                    for node in known.nodes.values()
                    if any(getattr(node.said, name) for name in BULKY)
                },
            )

    def usage_of(self, system: SystemName, node: NodeId | None = None) -> tuple[UsageSum, ...]:
        """Return the calls that were answered in `system`, or by one node of it, in the order of the fields."""
        sums: Counter[tuple[NodeId, _Kind]] = Counter()
        last: dict[tuple[NodeId, _Kind], datetime] = {}
        with self._lock:
            for (by, _incarnation, kind), (count, last_at) in self._system(system).usage.items():
                if node is None or by == node:
                    sums[by, kind] += count
                    last[by, kind] = max(last_at, last.get((by, kind), last_at))
        return tuple(
            UsageSum(
                node=by,
                node_version=Version(node_version),
                caller_version=Version(caller_version),
                caller=caller,
                method=method,
                answered_by=answered_by,
                from_node=from_node,
                outcome=outcome,
                count=count,
                last_at=last[by, kind],
            )
            for (by, kind), count in sorted(sums.items())
            for node_version, caller_version, caller, method, answered_by, from_node, outcome in (kind,)
        )

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
        with self._lock:
            entries = self._system(system).history
            found = [
                one
                for one in entries
                if after < one.number < (END if before is None else before)
                and (node is None or one.node == node)
                and (not kinds or one.kind in kinds)
            ]
            return tuple(found[:limit] if before is None else found[max(0, len(found) - limit) :])

    def last_number(self, system: SystemName) -> int:
        """Return the number of the last entry in the history of `system`, 0 if there is none."""
        with self._lock:
            return self._system(system).last

    def tend(self, keep: timedelta, watch: Watch = see_nothing) -> bool:
        """Note which leases ended, and remove what is old."""
        with self._lock:
            at = self.now()
            if was_just_tended(self._tended_at, at):
                return False
            self._began_at = listens_since(self._tended_at, self._began_at, at) or at
            self._tended_at = at
            for name, known in self._systems.items():
                if is_watched(self._picture(name)):
                    self._watch(name, watch)
                if not is_due(self._removed_at, at):
                    continue
                old = [entry for entry in known.history if entry.at >= at - keep or entry.kind not in PASSING]
                known.history = [entry if entry.at >= at - keep else replace(entry, bulk="") for entry in old]
                known.usage = {key: row for key, row in known.usage.items() if row[1] >= at - keep}
            if is_due(self._removed_at, at):
                self._removed_at = at
            return True

    def act(self, system: SystemName, judge: Deeds, watch: Watch = see_nothing) -> Action:
        """Let `judge` say what an operator does to the system as it is, and keep that."""
        with self._lock:
            known = self._system(system)
            action = judge(self._glance(system))
            known.actions.append(action)
            if action.deed is Deed.FORGET and action.node is not None:
                known.asks.pop(action.node, None)
                for held in [one for one in known.permits.values() if one.node == action.node]:
                    if held.returned_at is None:
                        known.permits[held.id] = forgotten(held, action)
                        known.record([returned(known.permits[held.id])])
            known.record([acted(action)])
            self._watch(system, watch)
            return action

    def actions_of(self, system: SystemName) -> tuple[Action, ...]:
        """Return what operators did to `system`, oldest first."""
        with self._lock:
            return tuple(self._system(system).actions)

    def callers_of(self, system: SystemName) -> tuple[CallerSum, ...]:
        """Return who called in `system` with which version, in the order of the fields."""
        sums: Counter[tuple[int, str, bool]] = Counter()
        last: dict[tuple[int, str, bool], datetime] = {}
        with self._lock:
            for (_node, _incarnation, kind), (count, last_at) in self._system(system).usage.items():
                _, version, caller, _, _, from_node, _ = kind
                sums[version, caller, from_node] += count
                last[version, caller, from_node] = max(last_at, last.get((version, caller, from_node), last_at))
        return tuple(
            CallerSum(
                caller_version=Version(version), caller=caller, from_node=from_node, count=count, last_at=last[key]
            )
            for key, count in sorted(sums.items())
            for version, caller, from_node in (key,)
        )

    def systems(self) -> tuple[SystemName, ...]:
        """Return the systems that something was published for, by name."""
        with self._lock:
            return tuple(sorted(name for name, known in self._systems.items() if known.releases))

    def _watch(self, system: SystemName, watch: Watch) -> None:
        """Keep what became of leases and halts."""
        known = self._system(system)
        picture, changed = self._settled(system)
        self._keep_leases(known, changed, picture.at)
        self._keep_halts(known, watch(picture), picture.at)

    def _keep_halts(self, known: _System, changes: HaltChanges, at: datetime) -> None:
        for halt in changes.begun:
            if (halt.class_name, halt.version) not in known.halts:
                known.halts[halt.class_name, halt.version] = halt
                known.record([halted(halt)])
        for halt, why in changes.over:
            if known.halts.pop((halt.class_name, halt.version), None) is not None:
                known.record([lifted(halt, why, at)])

    def _settled(self, system: SystemName) -> tuple[Picture, list[Permit]]:
        """Return the system as decisions see it, with its leases as they are now; and permits whose lease changed."""
        picture = self._picture(system)
        changed = list(changed_leases(picture))
        permits = {permit.id: permit for permit in (*picture.permits, *changed)}
        nodes = tuple(replace(node, said=brief(node.said)) for node in picture.nodes)
        return replace(picture, nodes=nodes, permits=tuple(permits.values())), changed

    def _glance(self, system: SystemName, node: NodeId | None = None) -> Picture:
        whole = self._picture(system)
        to = everywhere(whole.nodes)
        return replace(
            whole,
            nodes=tuple(one if one.id == node else replace(one, said=brief(one.said)) for one in whole.nodes),
            permits=tuple(
                one for one in whole.permits if one.returned_at is None or one.to_version > to or one.node == node
            ),
        )

    def _keep_leases(self, known: _System, changed: Iterable[Permit], at: datetime) -> None:
        for permit in changed:
            known.permits[permit.id] = permit
            known.record([lease_of(permit, at)])

    def _system(self, system: SystemName) -> _System:
        return self._systems.setdefault(system, _System())

    def _picture(self, system: SystemName) -> Picture:
        known, at = self._system(system), self.now()
        return Picture(
            system=system,
            at=at,
            releases=tuple(known.releases),
            nodes=present(sorted(known.nodes.values(), key=lambda node: node.id), known.actions),
            permits=tuple(sorted(known.permits.values(), key=lambda permit: (permit.granted_at, permit.id))),
            asks=tuple(sorted(known.asks.values(), key=lambda ask: (ask.asked_at, ask.node))),
            actions=tuple(known.actions),
            halts=tuple(halt for _, halt in sorted(known.halts.items())),
            listens_since=listens_since(self._tended_at, self._began_at, at),
        )

    def __repr__(self) -> str:
        systems = ", ".join(
            f"{name}: {len(known.releases)} releases, nodes {dict(_versions(known))}, away {_away(known)}, "
            f"waiting {sorted(known.asks)}"
            for name, known in sorted(self._systems.items())
        )
        return f"MemoryStore({systems})"


def _kind(row: UsageRow) -> _Kind:
    return (
        row.node_version,
        row.caller_version,
        row.caller,
        row.method,
        row.answered_by,
        row.from_node,
        row.outcome,
    )


def _versions(known: _System) -> list[tuple[NodeId, Version]]:
    return [(node.id, node.version) for node in sorted(known.nodes.values(), key=lambda node: node.id)]


def _away(known: _System) -> list[NodeId]:
    return sorted(permit.node for permit in known.permits.values() if permit.returned_at is None)
