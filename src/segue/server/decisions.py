"""What the schedules of a system say of the nodes that wait, release by release. Pure.

A node may ask to go through several releases at once: it is then decided on for each of them, the oldest first, and one
that holds it up ends its way there.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from types import MappingProxyType
from typing import Protocol

from segue.errors import ReleaseError
from segue.model.fleet import Answer, Fleet, NodeFact
from segue.model.hand import Hand
from segue.model.ids import ClassName, NodeId, Version
from segue.release.manifest import Manifest
from segue.schedule import Decision, Refusal, Rules, decide, halted, is_proven, tried_dry
from segue.server.attempts import failed, failed_for_good, is_failure_of, stays, through
from segue.server.facts import Ask, NodeRecord, Permit, Picture, Release
from segue.server.refusals import ConflictError

#: The fact by which a schedule's `healthy` knows what a node may still write to its disk.
DISK_FACT = "disk_free_bytes"


class Answers(Protocol):
    """What a system's webhooks say, as `{(URL, release): answer}` has it; it need not be a dictionary."""

    def get(self, key: tuple[str, Version], /) -> Answer | None:
        """Return what the webhook at a URL says to a release; None if nothing is known yet."""
        ...


#: Where there are no webhooks.
NO_ANSWERS: Answers = MappingProxyType[tuple[str, Version], Answer]({})


class Rollouts:
    """The rollouts of one class: what is asked of a whole system is found out once.

    Args:
        picture: the system.
        class_name: the class that is decided on.
        answers: what webhooks say.
    """

    def __init__(self, picture: Picture, class_name: ClassName, answers: Answers = NO_ANSWERS) -> None:
        self._picture, self._class_name, self._answers = picture, class_name, answers
        self._hand = Hand.of(picture.actions)
        self._nodes = {node.id: node for node in picture.nodes}
        self._away = {permit.node: permit for permit in picture.permits if permit.returned_at is None}
        self._lost_at = {
            halt.version: dict.fromkeys(halt.silent, halt.at) for halt in picture.halts if halt.class_name == class_name
        }
        self._touching = [one.version for one in picture.releases if _touches(one, class_name)]
        self._failed = failed_for_good(picture.permits, self._hand)

    def decisions(self, now: datetime, asking: Iterable[Ask] = ()) -> Iterator[tuple[Version, Decision]]:
        """Decide for each release that nodes of the class ask to go through, the oldest first.

        A node that must wait for one release is left out of the decisions on later ones: it cannot go there now, so it
        holds up nobody who can. A release that failed on a node holds up nobody who can go on to a later one, which is
        the way out of it. Releases that leave the class untouched have no schedule, and no decision.

        Args:
            now: UTC; requests that have lapsed by then are left out, and those of nodes that have moved on.
            asking: requests that are being made at `now`, of nodes of the class.
        """
        asks = self._live(now, asking)
        if not asks:
            return
        lowest = min(waiting.from_version for waiting in asks.values())
        highest = max(waiting.to_version for waiting in asks.values())
        held_up: set[NodeId] = set()
        for release in self._picture.releases[lowest:highest]:
            target = release.version
            waiting = {
                node: one
                for node, one in asks.items()
                if one.from_version < target <= one.to_version
                and node not in held_up
                and not self.goes_past(one, target)
            }
            rules = rules_of(release, self._class_name) if waiting else None
            if rules is None:
                continue
            seen = {node: one.last_asked_at for node, one in asks.items()}
            decision = decide(self._fleet(release, rules, waiting, seen), rules, now)
            held_up.update(decision.refusals)
            yield target, decision

    def halts(self, now: datetime) -> Iterator[tuple[Version, Refusal]]:
        """Yield each release whose rollout its failure budget has halted, and why, whether anybody waits or not.

        A rollout that is over is not halted: no node has yet to go there, or none is to stop there.

        Args:
            now: UTC.
        """
        for target in self._touching:
            release = self._picture.releases[target - 1]
            rules = rules_of(release, self._class_name)
            if rules is None or rules.failure_budget is None or self.is_over(target):
                continue
            refusal = halted(self._fleet(release, rules, {}, {}), rules, now)
            if refusal is not None:
                yield target, refusal

    def dry_runs(self, now: datetime) -> Iterator[tuple[Version, Refusal]]:
        """Yield each release that a rule which is tried dry would hold, and why, whether anybody waits or not.

        Args:
            now: UTC.
        """
        for target in self._touching:
            release = self._picture.releases[target - 1]
            rules = rules_of(release, self._class_name)
            if rules is None or not rules.as_if(dry=True).healthy or self.is_over(target):
                continue
            refusal = tried_dry(self._fleet(release, rules, {}, {}), rules, now)
            if refusal is not None:
                yield target, refusal

    def leads_past(self, target: Version) -> Version | None:
        """Return the release that leads nodes on past `target`, which failed for good on one; None if none does."""
        if target not in self._failed:
            return None
        return next((later for later in self._touching if later > target), None)

    def is_over(self, target: Version) -> bool:
        """Say whether the rollout of a release has nothing left to hold: no node is to stop there any more."""
        has_ended = target in self._hand.aborted or self.leads_past(target) is not None
        return has_ended or not any(self.is_behind(node, target) for node in self._picture.nodes)

    def is_behind(self, node: NodeRecord, target: Version) -> bool:
        """Say whether the node is of the class, and has yet to go to `target`: it ran before, and is not left out."""
        return (
            0 < node.version < target
            and node.said.class_name == self._class_name
            and (target, node.id) not in self._hand.skipped
        )

    def is_proven(self, target: Version, now: datetime) -> bool:
        """Say whether a release that touches the class has stood what its schedule tries it by: see `schedule`.

        Args:
            target: the release.
            now: UTC.
        """
        release = self._picture.releases[target - 1]
        rules = rules_of(release, self._class_name)
        return rules is not None and is_proven(self._fleet(release, rules, {}, {}), rules, now)

    def goes_past(self, ask: Ask, target: Version) -> bool:
        """Say whether a node goes past `target`: it cannot stop there, or is not to, and a later one leads on."""
        if target in ask.avoided:
            return True
        skipped = (target, ask.node) in self._hand.skipped
        is_to_stop_there = not (target in self._failed or target in self._hand.aborted or skipped)
        return not is_to_stop_there and any(target < later <= ask.to_version for later in self._touching)

    def _live(self, now: datetime, asking: Iterable[Ask]) -> dict[NodeId, Ask]:
        """Return the requests that make sense now: the node is of the class, and has not moved on since."""
        asks = {}
        for waiting in self._picture.asks:
            node = self._nodes.get(waiting.node)
            if (
                node is not None
                and waiting.counts_at(now)
                and node.version == waiting.from_version
                and node.said.class_name == waiting.class_name == self._class_name
            ):
                asks[waiting.node] = waiting
        for ask in asking:
            asks[ask.node] = ask.after(asks.get(ask.node))
        return asks

    def _fleet(
        self, release: Release, rules: Rules, asks: Mapping[NodeId, Ask], seen: Mapping[NodeId, datetime]
    ) -> Fleet:
        """Return the nodes of the system as the schedule of a release sees them.

        Args:
            release: what is decided on.
            rules: its schedule.
            asks: of the nodes that wait for it.
            seen: `{node: when it last asked for something}`.
        """
        target = release.version
        led = list(through(self._picture.permits, target))
        last = {permit.node: permit for permit in led}

        def fact(node: NodeRecord) -> NodeFact:
            last_seen = max(node.last_seen, seen.get(node.id, node.last_seen))
            return self._fact(node, target, asks.get(node.id), last.get(node.id), last_seen)

        return Fleet.of(
            self._class_name,
            target,
            map(fact, self._picture.nodes),
            begun_at=release.published_at,
            hand=self._hand,
            answers=self._said_to(target, rules),
            grants=tuple(permit.granted_at for permit in led if permit.class_name == self._class_name),
            before=self._before(target) if rules.queues else None,
            listens_since=self._picture.listens_since,
            lost_at=self._lost_at.get(target, {}),
        )

    def _fact(
        self, node: NodeRecord, target: Version, ask: Ask | None, latest: Permit | None, last_seen: datetime
    ) -> NodeFact:
        """Return what the schedule of `target` sees of a node: `ask` for it, and its `latest` permit through it."""
        held = self._away.get(node.id)
        # One that asks for it again, though it had given up, was told to: whoever told it has looked.
        has_failed = latest is not None and ask is None and is_failure_of(latest, target)
        return NodeFact(
            id=node.id,
            class_name=ClassName(node.said.class_name),
            version=node.version,
            attributes=node.said.attributes,
            last_seen=last_seen,
            away_since=held.granted_at if held else None,
            away_from=held.from_version if held else None,
            away_to=held.to_version if held else None,
            waits_since=ask.asked_at if ask else None,
            granted_at=latest.granted_at if latest else None,
            upgraded_at=latest.returned_at if latest and (latest.failure is None or stays(node, target)) else None,
            failed=has_failed,
            failed_at=latest.returned_at if latest and has_failed else None,
            facts=facts_of(node),
            holds=_holds(node, ask, target) if ask else None,
            agreed=ask is not None and target in ask.agreed,
            report_s=node.report_s,
            tries_again=latest is not None and failed(latest, target) and not latest.final,
        )

    def _said_to(self, target: Version, rules: Rules) -> Mapping[str, Answer]:
        said = {url: self._answers.get((url, target)) for url in rules.webhooks}
        return {url: answer for url, answer in said.items() if answer is not None}

    def _before(self, target: Version) -> Version | None:
        """Return the newest release before `target` that nodes are still to stop at: others lead on to `target`."""
        earlier = (
            version
            for version in reversed(self._touching)
            if version < target and version not in self._failed and version not in self._hand.aborted
        )
        return next(earlier, None)


def decisions(
    picture: Picture,
    class_name: ClassName,
    now: datetime,
    *,
    answers: Answers = NO_ANSWERS,
) -> Iterator[tuple[Version, Decision]]:
    """Decide for each release that nodes of a class ask to go through: see `Rollouts.decisions`.

    Args:
        picture: the system.
        class_name: the class that is decided on.
        now: UTC.
        answers: what webhooks say.
    """
    return Rollouts(picture, class_name, answers).decisions(now)


def rules_of(release: Release, class_name: ClassName) -> Rules | None:
    """Return the schedule of the class upgrade that leads to `release`; None if it leaves the class untouched.

    Raises:
        ConflictError: the release has not this class.
    """
    return _rules(release.manifest, class_name)


@lru_cache(maxsize=512)
def _rules(text: str, class_name: ClassName) -> Rules | None:
    manifest = manifest_in(text)
    try:
        upgrade = manifest.class_named(class_name).upgrade
    except ReleaseError as error:
        raise ConflictError(str(error)) from error
    if upgrade is None:
        return None
    rules = Rules.of(upgrade.schedule)
    # Nodes of a class that the release leaves untouched get no permit to it: they would be waited for in vain.
    return replace(rules, after=tuple(name for name in rules.after if _is_touched(manifest, name)))


@lru_cache(maxsize=128)
def manifest_in(text: str) -> Manifest:
    """Return the manifest that the database keeps as `text`."""
    return Manifest.model_validate_json(text)


def _touches(release: Release, class_name: ClassName) -> bool:
    return _is_touched(manifest_in(release.manifest), class_name)


def _is_touched(manifest: Manifest, class_name: ClassName) -> bool:
    described = manifest.classes.get(class_name)
    return described is not None and described.upgrade is not None


def facts_of(node: NodeRecord) -> Mapping[str, float]:
    """Return what the node reports of itself, the room on its disk included."""
    disk = node.said.disk
    return {DISK_FACT: float(disk.free_bytes), **node.said.facts} if disk else node.said.facts


def _holds(node: NodeRecord, ask: Ask, target: Version) -> str | None:
    """Return what the node says against going to `target` now: as it asks, else as it last reported."""
    said = ask.holds if ask.holds is not None else node.said.holds
    return said.get(target)
