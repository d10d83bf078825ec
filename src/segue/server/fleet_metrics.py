"""What the upgrade database says of the fleets, as numbers for operators. Pure.

Whoever reaches the server can say anything in a heartbeat, so no label is taken from one unless a release that was
published has it: classes and versions that none has are `OTHER`, and so are phases and statuses that are not ours.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final, TypeAlias

from segue.journey import Phase
from segue.model.hand import Deed, Hand
from segue.model.ids import ClassName, NodeId, Version
from segue.model.metric import Metric
from segue.release.manifest import Manifest
from segue.server import measures
from segue.server.decisions import Rollouts, rules_of
from segue.server.facts import Tally

#: Stands for whatever no release, and nobody of ours, has.
OTHER: Final = "(other)"
#: What calls are told apart by: the caller heard of no fault, or did.
_OK, _ERROR = "ok", "error"
_PHASES = frozenset(phase.value for phase in Phase)

Labels: TypeAlias = tuple[str, ...]
Values: TypeAlias = Mapping[Labels, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """What is measured of one system, or of several.

    Attributes:
        values: `{metric: {labels: value}}` of gauges and counters.
        seconds: `{metric: {labels: all that was measured}}` of histograms.
    """

    values: Mapping[Metric, Values]
    seconds: Mapping[Metric, Mapping[Labels, Sequence[float]]]


def numbers_of(tally: Tally, now: datetime) -> Numbers:
    """Measure one system; nothing of one that has no release, as anybody may make up its name.

    Args:
        tally: the system.
        now: UTC.
    """
    if not tally.picture.releases:
        return Numbers(values={}, seconds={})
    return _Measured(tally, now).numbers()


class _Measured:
    """One system while it is measured."""

    def __init__(self, tally: Tally, now: datetime) -> None:
        self._tally = tally
        self._picture = picture = tally.picture
        self._now = now
        self._classes = sorted({name for release in picture.releases for name in _classes_of(release.manifest)})
        self._class_of = {node.id: self._known_class(node.said.class_name) for node in picture.nodes}
        self._open = [permit for permit in picture.permits if permit.returned_at is None]

    def numbers(self) -> Numbers:
        system, nodes, newest = self._picture.system, self._picture.nodes, len(self._picture.releases)
        values: dict[Metric, Values] = {
            measures.RELEASES: {(system,): newest},
            measures.NODES: self._nodes(),
            measures.UPGRADED: self._by_class(node.id for node in nodes if node.version == newest),
            measures.AWAY: self._by_class(permit.node for permit in self._open),
            measures.AWAY_LIMIT: self._limits(),
            measures.WAITING: self._by_class(self._waiting()),
            measures.SILENT: self._by_class(node.id for node in nodes if node.is_silent(self._now)),
            measures.FAILED: self._by_class(node.id for node in nodes if node.said.failure),
            measures.GAVE_UP: self._by_class(node.id for node in nodes if node.said.waits_for_operator),
            measures.PAUSED: {(system,): Hand.of(self._picture.actions).paused is not None},
            measures.HALTED: self._halted(),
            measures.ACTIONS: self._actions(),
            measures.HEARTBEAT_AGE: self._oldest((node.id, node.last_seen) for node in nodes),
            measures.PERMIT_AGE: self._oldest((permit.node, permit.granted_at) for permit in self._open),
            measures.GRANTED: self._granted(),
            measures.RETURNED: self._returned(),
            measures.CALLS: self._calls(),
        }
        return Numbers(values=values, seconds=self._upgrades())

    def _nodes(self) -> Values:
        counts: Counter[Labels] = Counter()
        for node in self._picture.nodes:
            phase = node.said.phase if node.said.phase in _PHASES else OTHER
            counts[self._picture.system, self._class_of[node.id], self._known_version(node.version), phase] += 1
        return counts

    def _limits(self) -> Values:
        found: dict[Labels, float] = {}
        for name in self._classes:
            limit = self._limit_of(ClassName(name))
            if limit is not None:
                found[self._picture.system, name] = limit
        return found

    def _limit_of(self, name: ClassName) -> int | None:
        """Return how many nodes of the system the newest schedule of a class lets be away; None for any number."""
        for release in reversed(self._picture.releases):
            if name not in _classes_of(release.manifest):
                continue
            rules = rules_of(release, name)
            if rules is not None:
                count = sum(node.version > 0 for node in self._picture.nodes)
                return min((budget.limit_of(count) for budget in rules.budgets if budget.per is None), default=None)
        return None

    def _halted(self) -> Values:
        return {
            (self._picture.system, name): len(list(Rollouts(self._picture, ClassName(name)).halts(self._now)))
            for name in self._classes
        }

    def _actions(self) -> Values:
        counts: Counter[Labels] = Counter({(self._picture.system, deed.value): 0 for deed in Deed})
        counts.update((self._picture.system, action.deed.value) for action in self._picture.actions)
        return counts

    def _waiting(self) -> Iterator[NodeId]:
        return (ask.node for ask in self._picture.asks if ask.counts_at(self._now))

    def _granted(self) -> Values:
        counts: Counter[Labels] = Counter({(self._picture.system, name): 0 for name in self._classes})
        for name, count in self._tally.granted.items():
            counts[self._picture.system, self._known_class(name)] += count
        return counts

    def _returned(self) -> Values:
        outcomes = {True: "upgraded", False: "failed"}
        counts: Counter[Labels] = Counter(
            {(self._picture.system, name, outcome): 0 for name in self._classes for outcome in outcomes.values()}
        )
        for (name, upgraded), count in self._tally.returned.items():
            counts[self._picture.system, self._known_class(name), outcomes[upgraded]] += count
        return counts

    def _calls(self) -> Values:
        counts: Counter[Labels] = Counter()
        for kind, count in self._tally.calls.items():
            who = "node" if kind.from_node else "client"
            outcome = _OK if kind.outcome == "OK" else _ERROR
            version = self._known_version(kind.caller_version)
            counts[self._picture.system, version, who, kind.answered_by, outcome] += count
        return counts

    def _upgrades(self) -> dict[Metric, Mapping[Labels, Sequence[float]]]:
        pauses: defaultdict[Labels, list[float]] = defaultdict(list)
        transforms: defaultdict[Labels, list[float]] = defaultdict(list)
        for node, times in self._tally.upgrades.items():
            if node not in self._class_of:
                continue  # an operator has forgotten it
            labels = (self._picture.system, self._class_of[node])
            for pause_ms, transform_ms in times:
                pauses[labels].append(pause_ms / 1000)
                transforms[labels].append(transform_ms / 1000)
        return {measures.PAUSE: pauses, measures.TRANSFORM: transforms}

    def _by_class(self, nodes: Iterable[NodeId]) -> Values:
        """Count nodes by class: 0 where there are none, so that a graph does not break off."""
        counts: Counter[Labels] = Counter({(self._picture.system, name): 0 for name in self._classes})
        counts.update((self._picture.system, self._class_of.get(node, OTHER)) for node in nodes)
        return counts

    def _oldest(self, moments: Iterable[tuple[NodeId, datetime]]) -> Values:
        ages: dict[Labels, float] = {(self._picture.system, name): 0.0 for name in self._classes}
        for node, moment in moments:
            labels = (self._picture.system, self._class_of.get(node, OTHER))
            ages[labels] = max(ages.get(labels, 0.0), self._age_s(moment))
        return ages

    def _age_s(self, moment: datetime) -> float:
        return max(0.0, (self._now - moment).total_seconds())

    def _known_class(self, name: str) -> str:
        return name if name in self._classes else OTHER

    def _known_version(self, version: Version) -> str:
        """Return a version as a label: 0 of a node that never ran, and those that were published."""
        return str(version) if version <= len(self._picture.releases) else OTHER


@lru_cache(maxsize=256)
def _classes_of(manifest: str) -> frozenset[str]:
    return frozenset(Manifest.model_validate_json(manifest).classes)
