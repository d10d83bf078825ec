"""The upgrade database in memory: what the SQL one must agree with, and a fake for tests."""

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeAlias

from segue.model.hand import Action, Deed
from segue.model.ids import NodeId, SystemName, Version
from segue.model.usage import AnsweredBy
from segue.server.store import (
    Ask,
    CallerSum,
    Close,
    Deeds,
    Granted,
    Greet,
    Held,
    Judge,
    NodeRecord,
    NotYet,
    Permit,
    Picture,
    Release,
    UsageSum,
    Verdict,
    ended,
    forgotten,
    present,
    welcome,
)
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
    actions: list[Action] = field(default_factory=list)


class MemoryStore:
    """A `Store` that is forgotten with its process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._systems: dict[SystemName, _System] = {}

    def append(self, release: Release) -> tuple[Release, ...]:
        """Add `release` to its system's history if it is the next one there, and only then."""
        with self._lock:
            releases = self._system(release.system).releases
            if release.version == len(releases) + 1:
                releases.append(release)
            return tuple(releases)

    def history_of(self, system: SystemName) -> tuple[Release, ...]:
        """Return what was published for `system`, oldest first."""
        with self._lock:
            return tuple(self._system(system).releases)

    def hear(self, system: SystemName, node: NodeRecord, usage: Iterable[UsageRow], greet: Greet = welcome) -> Version:
        """Remember what a node said of itself, in place of what it said before."""
        with self._lock:
            known = self._system(system)
            why = greet(system, known.nodes.get(node.id), node, Version(len(known.releases)))
            if why is not None:
                known.asks.pop(node.id, None)
                for held in [one for one in known.permits.values() if one.node == node.id and one.returned_at is None]:
                    known.permits[held.id] = ended(held, why, node.last_seen)
            known.nodes[node.id] = node
            for row in usage:
                key = (node.id, row.incarnation, _kind(row))
                count, last_at = known.usage.get(key, (-1, node.last_seen))
                if row.count > count:
                    known.usage[key] = (row.count, max(last_at, node.last_seen))
            return Version(len(known.releases))

    def admit(self, system: SystemName, judge: Judge) -> Verdict:
        """Let `judge` decide over the system as it is, and keep what it decides."""
        with self._lock:
            known = self._system(system)
            verdict = judge(self._picture(system))
            match verdict:
                case Granted(permit):
                    known.permits[permit.id] = permit
                    known.asks.pop(permit.node, None)
                case NotYet(ask):
                    known.asks[ask.node] = ask.after(known.asks.get(ask.node))
                case Held(permit):
                    known.permits[permit.id] = replace(known.permits[permit.id], to_version=permit.to_version)
            return verdict

    def give_back(self, system: SystemName, node: NodeId, permit: str, close: Close) -> bool:
        """Close the permit of `node` with this id; one that is closed stays as it is."""
        with self._lock:
            known = self._system(system)
            held = known.permits.get(permit)
            if held is None or held.node != node:
                return False
            if held.returned_at is None:
                closed = known.permits[permit] = close(held)
                if closed.failure is None:
                    heard = known.nodes[node]
                    known.nodes[node] = replace(heard, version=max(heard.version, held.to_version))
            return True

    def picture_of(self, system: SystemName) -> Picture:
        """Return all that is known of `system`, but for calls."""
        with self._lock:
            return self._picture(system)

    def usage_of(self, system: SystemName) -> tuple[UsageSum, ...]:
        """Return the calls that were answered in `system`, in the order of the fields."""
        sums: Counter[tuple[NodeId, _Kind]] = Counter()
        last: dict[tuple[NodeId, _Kind], datetime] = {}
        with self._lock:
            for (node, _incarnation, kind), (count, last_at) in self._system(system).usage.items():
                sums[node, kind] += count
                last[node, kind] = max(last_at, last.get((node, kind), last_at))
        return tuple(
            UsageSum(
                node=node,
                node_version=Version(node_version),
                caller_version=Version(caller_version),
                caller=caller,
                method=method,
                answered_by=answered_by,
                from_node=from_node,
                outcome=outcome,
                count=count,
                last_at=last[node, kind],
            )
            for (node, kind), count in sorted(sums.items())
            for node_version, caller_version, caller, method, answered_by, from_node, outcome in (kind,)
        )

    def systems(self) -> tuple[SystemName, ...]:
        """Return the systems that something was published for, by name."""
        with self._lock:
            return tuple(sorted(name for name, known in self._systems.items() if known.releases))

    def _system(self, system: SystemName) -> _System:
        return self._systems.setdefault(system, _System())

    def _picture(self, system: SystemName) -> Picture:
        known = self._system(system)
        return Picture(
            system=system,
            releases=tuple(known.releases),
            nodes=present(sorted(known.nodes.values(), key=lambda node: node.id), known.actions),
            permits=tuple(sorted(known.permits.values(), key=lambda permit: (permit.granted_at, permit.id))),
            asks=tuple(sorted(known.asks.values(), key=lambda ask: (ask.asked_at, ask.node))),
            actions=tuple(known.actions),
        )

    def act(self, system: SystemName, judge: Deeds) -> Action:
        """Let `judge` say what an operator does to the system as it is, and keep that."""
        with self._lock:
            known = self._system(system)
            action = judge(self._picture(system))
            known.actions.append(action)
            if action.deed is Deed.FORGET and action.node is not None:
                known.asks.pop(action.node, None)
                for held in [one for one in known.permits.values() if one.node == action.node]:
                    if held.returned_at is None:
                        known.permits[held.id] = forgotten(held, action)
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
