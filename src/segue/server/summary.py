"""A system at a glance, put together from what the store returns: as large for many nodes as for few. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from segue.model.hand import Hand
from segue.model.ids import ClassName, NodeId
from segue.server.decisions import NO_ANSWERS, Answers, Rollouts, decisions
from segue.server.facts import CallerSum, NodeRecord, Picture
from segue.server.rollouts import rollouts
from segue.server.status import FREE_TO_GO
from segue.wire.summary import (
    AttributeSummary,
    CallerSummary,
    DryRunSummary,
    FailureSummary,
    GroupSummary,
    HaltSummary,
    HoldSummary,
    RolloutSummary,
    Some,
    SystemSummary,
    VersionUse,
    WaitSummary,
)

#: What is listed of each kind: more, and it fits no screen.
_NAMES, _WAITS, _FAILURES, _CALLERS, _VERSIONS, _ATTRIBUTES, _VALUES = 4, 6, 3, 4, 6, 2, 5


def summary_of(
    picture: Picture, callers: Iterable[CallerSum], now: datetime, answers: Answers = NO_ANSWERS
) -> SystemSummary:
    """Put together a system at one moment.

    Args:
        picture: the system.
        callers: who called with which version.
        now: UTC; what nodes wait for is decided as of now.
        answers: what webhooks say.
    """
    hand, newest = Hand.of(picture.actions), picture.releases[-1] if picture.releases else None
    waits = _waiting(picture, now, answers)
    traits = _traits(picture, waits, now)
    classes = _groups((one.node.said.class_name, one) for one in traits)
    failures = _failures(traits)
    return SystemSummary(
        system=picture.system,
        at=now,
        newest=newest.version if newest else 0,
        oldest=max(hand.retired, default=0) + 1,
        description=newest.description if newest else "",
        holds=_holds(hand, picture),
        halts=_halts(picture, now),
        dry_runs=_dry_runs(picture, now),
        nodes=len(traits),
        versions=dict(sorted(Counter(one.version for one in traits).items())),
        phases=dict(Counter(one.node.said.phase for one in traits).most_common()),
        classes=tuple(group.summary(name) for name, group in sorted(classes.items())),
        attributes=_attributes(traits),
        rollouts=tuple(
            RolloutSummary(
                class_name=one.class_name,
                version=one.version,
                done=one.done,
                left=len(one.left),
                skipped=len(one.skipped),
                began_at=one.began_at,
                ends_at=one.ends_at if _goes_on(hand, one.version) else None,
            )
            for one in rollouts(picture, now)
        ),
        away=_some(one.node.id for one in traits if one.away),
        silent=_some(one.node.id for one in traits if one.silent),
        waits=waits.listed[:_WAITS],
        more_waits=sum(one.nodes.count for one in waits.listed[_WAITS:]),
        failures=tuple(failures[:_FAILURES]),
        more_failures=sum(one.nodes.count for one in failures[_FAILURES:]),
        callers=_uses(callers),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trait:
    """What of a node counts at a glance."""

    node: NodeRecord
    away: bool
    waiting: bool
    silent: bool

    @property
    def version(self) -> int:
        return self.node.version

    @property
    def failed(self) -> bool:
        return self.node.said.failure is not None


@dataclass(frozen=True, slots=True)
class _Waits:
    """Who waits, and for what, that which holds up most nodes first."""

    nodes: frozenset[NodeId]
    listed: tuple[WaitSummary, ...]


def _waiting(picture: Picture, now: datetime, answers: Answers) -> _Waits:
    """Say what holds up the first step of each node that waits."""
    alike: defaultdict[tuple[str, str, datetime | None], list[NodeId]] = defaultdict(list)
    seen: set[NodeId] = set()
    for class_name in sorted({ask.class_name for ask in picture.asks}):
        for _target, decision in decisions(picture, class_name, now, answers=answers):
            for node in decision.grants:
                if node not in seen:
                    alike[FREE_TO_GO, "", None].append(node)
            for node, refusal in decision.refusals.items():
                if node not in seen:
                    alike[refusal.text, type(refusal.reason).__name__, refusal.until].append(node)
            seen.update(decision.grants, decision.refusals)
    ordered = sorted(alike.items(), key=lambda row: (-len(row[1]), row[0][0]))
    return _Waits(
        frozenset(seen),
        tuple(
            WaitSummary(text=text, kind=kind, until=until, nodes=_some(nodes)) for (text, kind, until), nodes in ordered
        ),
    )


def _traits(picture: Picture, waits: _Waits, now: datetime) -> list[_Trait]:
    away = {permit.node for permit in picture.permits if permit.returned_at is None}
    return [
        _Trait(
            node=node,
            away=node.id in away,
            waiting=node.id in waits.nodes,
            silent=node.is_silent(now),
        )
        for node in picture.nodes
    ]


@dataclass(slots=True)
class _Group:
    nodes: int = 0
    away: int = 0
    waiting: int = 0
    failed: int = 0
    silent: int = 0
    versions: Counter[int] = field(default_factory=Counter)

    def summary(self, name: str) -> GroupSummary:
        return GroupSummary(
            name=name,
            nodes=self.nodes,
            versions=dict(sorted(self.versions.items())),
            away=self.away,
            waiting=self.waiting,
            failed=self.failed,
            silent=self.silent,
        )


def _groups(named: Iterable[tuple[str, _Trait]]) -> dict[str, _Group]:
    """Return `{name of a group: its nodes}`: most of a group are alike, and are added by their number."""
    alike = Counter((name, one.version, one.away, one.waiting, one.failed, one.silent) for name, one in named)
    groups: defaultdict[str, _Group] = defaultdict(_Group)
    for (name, version, away, waiting, failed, silent), count in alike.items():
        group = groups[name]
        group.nodes += count
        group.away += count * away
        group.waiting += count * waiting
        group.failed += count * failed
        group.silent += count * silent
        group.versions[version] += count
    return groups


def _attributes(traits: list[_Trait]) -> tuple[AttributeSummary, ...]:
    """Return the attributes that make groups, those with the fewest values first; not one with a value per node."""
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in traits:
        for name, value in one.node.said.attributes.items():
            found[name][value] += 1
    making = sorted((len(values), name) for name, values in found.items() if len(values) < values.total())
    return tuple(_attribute(name, traits) for _, name in making[:_ATTRIBUTES])


def _attribute(name: str, traits: Iterable[_Trait]) -> AttributeSummary:
    having = ((one.node.said.attributes[name], one) for one in traits if name in one.node.said.attributes)
    values = _groups(having)
    return AttributeSummary(
        name=name,
        values=tuple(group.summary(value) for value, group in _worst_first(values)[:_VALUES]),
        others=max(0, len(values) - _VALUES),
    )


def _worst_first(values: Mapping[str, _Group]) -> list[tuple[str, _Group]]:
    """Return the groups by name; if there is no room for all, those first that somebody should look at."""
    if len(values) <= _VALUES:
        return sorted(values.items())
    return sorted(values.items(), key=lambda row: (-row[1].failed - row[1].silent, -row[1].away, row[0]))


def _failures(traits: Iterable[_Trait]) -> tuple[FailureSummary, ...]:
    alike: defaultdict[str, list[_Trait]] = defaultdict(list)
    for one in traits:
        if one.node.said.failure is not None:
            alike[one.node.said.failure].append(one)
    ordered = sorted(alike.items(), key=lambda row: (-len(row[1]), row[0]))
    return tuple(
        FailureSummary(
            text=text,
            nodes=_some(one.node.id for one in nodes),
            gave_up=sum(one.node.said.waits_for_operator for one in nodes),
        )
        for text, nodes in ordered
    )


def _holds(hand: Hand, picture: Picture) -> tuple[HoldSummary, ...]:
    """Return the pause, and each abort of a release that some node has not got past."""
    oldest = min((node.version for node in picture.nodes), default=0)
    aborts = [one for version, one in sorted(hand.aborted.items()) if version > oldest]
    held = [*([hand.paused] if hand.paused else []), *aborts]
    return tuple(
        HoldSummary(deed=one.deed.value, at=one.at, who=one.who, why=one.why, version=one.version) for one in held
    )


def _halts(picture: Picture, now: datetime) -> tuple[HaltSummary, ...]:
    halted_at = {(halt.class_name, halt.version): halt.at for halt in picture.halts}
    return tuple(
        HaltSummary(class_name=class_name, version=version, text=refusal.text, at=halted_at.get((class_name, version)))
        for class_name in _class_names(picture)
        for version, refusal in Rollouts(picture, class_name).halts(now)
    )


def _dry_runs(picture: Picture, now: datetime) -> tuple[DryRunSummary, ...]:
    return tuple(
        DryRunSummary(class_name=class_name, version=version, text=refusal.text)
        for class_name in _class_names(picture)
        for version, refusal in Rollouts(picture, class_name).dry_runs(now)
    )


def _class_names(picture: Picture) -> list[ClassName]:
    return sorted({ClassName(node.said.class_name) for node in picture.nodes})


def _goes_on(hand: Hand, version: int) -> bool:
    return hand.paused is None and version not in hand.aborted


def _uses(callers: Iterable[CallerSum]) -> tuple[VersionUse, ...]:
    """Say who calls with which version: the versions that were called with last, and of each the last callers."""
    by_version: defaultdict[int, list[CallerSum]] = defaultdict(list)
    for row in callers:
        if row.count:
            by_version[row.caller_version].append(row)
    uses = [_use(version, rows) for version, rows in by_version.items()]
    shown = sorted(uses, key=lambda use: use.last_at, reverse=True)[:_VERSIONS]
    return tuple(sorted(shown, key=lambda use: use.version))


def _use(version: int, rows: list[CallerSum]) -> VersionUse:
    ordered = sorted(rows, key=lambda row: (not row.from_node, row.last_at, row.count), reverse=True)
    return VersionUse(
        version=version,
        calls=sum(row.count for row in rows),
        last_at=max(row.last_at for row in rows),
        callers=tuple(
            CallerSummary(name=row.caller, from_node=row.from_node, calls=row.count, last_at=row.last_at)
            for row in ordered[:_CALLERS]
        ),
        others=max(0, len(ordered) - _CALLERS),
    )


def _some(names: Iterable[str]) -> Some:
    listed = list(names)
    return Some(count=len(listed), first=tuple(listed[:_NAMES]))
