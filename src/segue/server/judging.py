"""What becomes of requests for permits: many that come at the same time are judged in one go. Pure.

The answers are those that the nodes would have got one after the other, each having been heard of just before. Nodes
that go from the same version are decided on together, as `decide` has it: in that order those that go furthest come
first, then those that asked first, then those that must wait. All others are judged on what that left of the system.
What upgraded nodes are compared with (`healthy`) is looked at once for all that are decided on together.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TypeAlias

from segue.errors import SegueError
from segue.model.ids import ClassName, NodeId, Version
from segue.schedule import Decision, Halted, NodeDecides, Refusal
from segue.server.decisions import NO_ANSWERS, Answers, Rollouts, rules_of
from segue.server.facts import LAPSE_S, Ask, Granted, Halt, Held, NodeRecord, NotYet, Permit, Picture, Verdict
from segue.server.halts import halt_of
from segue.server.refusals import ConflictError, NotThereError
from segue.server.verdicts import only, outcome_of

#: Nodes from the front of a queue that are to ask again within a second, however slowly it moves: of 10,000 that wait
#: for an operator, a few hundred ask each second.
_FRONT = 50
#: By the pace of so many last seconds it is told how soon a node's turn comes.
_PACE_S = 10.0
#: A node is to ask again when so large a part of the queue before it should be gone: later, and its place would stand
#: empty when its turn has come, as agents ask up to a quarter later than they are told.
_EARLY = 0.8
#: The shortest and the longest time until a node is to ask again. Longer, and it would hear late that an operator
#: opened a gate.
_SOONEST_S, _LATEST_S = 1.0, 60.0

_Became: TypeAlias = Verdict | SegueError


@dataclass(frozen=True, slots=True)
class Request:
    """A node asks for a permit, and `permit` is the id of that if one is granted: never used before."""

    ask: Ask
    permit: str


def judge(picture: Picture, ask: Ask, permit: str, answers: Answers = NO_ANSWERS) -> Verdict:
    """Say what becomes of `ask` in the system as it is.

    Args:
        picture: the system.
        ask: what a node asks for now.
        permit: the id of the permit, if one is granted.
        answers: what webhooks say.

    Raises:
        OperatorError: the node may not have this upgrade at all.
    """
    return only(judge_together(picture, [Request(ask, permit)], answers))


def judge_together(
    picture: Picture, requests: Sequence[Request], answers: Answers = NO_ANSWERS
) -> tuple[Verdict | SegueError, ...]:
    """Say what becomes of each request in the system as it is; only nodes that ask are granted.

    Args:
        picture: the system.
        requests: in the order in which they came, all made now; a node that asks twice is judged again after the first.
        answers: what webhooks say.

    Returns:
        A verdict for each, or why that node may not have this upgrade at all, in their order.
    """
    became: dict[int, _Became] = {}
    groups = groups_of(picture, requests)
    for number, places in enumerate(groups, start=1):
        verdicts = _Group(picture, answers).judge([requests[place] for place in places])
        became.update(zip(places, verdicts, strict=True))
        if number < len(groups):
            picture = outcome_of(picture, verdicts).of(picture)
    return tuple(became[place] for place in range(len(requests)))


def groups_of(picture: Picture, requests: Sequence[Request]) -> Sequence[Sequence[int]]:
    """Return the places of those that are judged together, in the order in which they are.

    Of a request that was made before, others know only what is kept of it. So those that say more now are not judged
    with those that do not: that one holds back, or avoids a version, must change nothing for the others.

    Args:
        picture: the system.
        requests: as `judge_together` takes them.
    """
    nodes, gave_up = {node.id: node for node in picture.nodes}, _gave_up(picture)
    waiting = {ask.node: ask for ask in picture.asks if ask.counts_at(picture.at)}
    seen: dict[NodeId, int] = {}
    groups: dict[tuple[object, ...], tuple[int, list[int]]] = {}
    for place, request in enumerate(requests):
        ask, before = request.ask, waiting.get(request.ask.node)
        nth = seen[ask.node] = seen.get(ask.node, 0) + 1
        gives_up_less = gave_up.get(ask.node, 0) > ask.from_version and (
            before is None or before.to_version != ask.to_version or bool(ask.avoided)
        )
        goes_less_far = before is not None and before.to_version > ask.to_version
        alone = ask.node if gives_up_less or goes_less_far else None
        holds = ask.holds if ask.holds is not None else nodes[ask.node].said.holds if ask.node in nodes else {}
        key = (nth, ask.class_name, ask.from_version, ask.avoided, frozenset(holds), alone)
        groups.setdefault(key, (nth, []))[1].append(place)
    return [places for _, places in sorted(groups.values(), key=lambda group: group[0])]


def _gave_up(picture: Picture) -> Mapping[NodeId, Version]:
    """Return the nodes on which a release failed for good: `{node: the newest version that it was to go to}`."""
    newest: dict[NodeId, Version] = {}
    for permit in picture.permits:
        if permit.final and permit.failure is not None:
            newest[permit.node] = max(permit.to_version, newest.get(permit.node, permit.to_version))
    return newest


@dataclass(frozen=True, slots=True)
class _Going:
    """A request that is decided on, and what of the releases that it goes through has an upgrade of its class.

    Attributes:
        place: among those that are judged together.
        ask: as far as there is a way.
        versions: these releases, oldest first.
        permit: the id of the permit, if one is granted.
    """

    place: int
    ask: Ask
    versions: tuple[Version, ...]
    permit: str

    def carried_from(self, reached: Version) -> Version:
        """Return the newest version that an object of `reached` carries."""
        return min((Version(one - 1) for one in self.versions if one > reached), default=self.ask.to_version)


class _Group:
    """Requests that are judged together: of different nodes that go from the same version of the same class.

    Args:
        picture: the system.
        answers: what webhooks say.
    """

    def __init__(self, picture: Picture, answers: Answers) -> None:
        self._picture, self._answers = picture, answers
        self._nodes = {node.id: node for node in picture.nodes}
        self._held = {permit.node: permit for permit in picture.permits if permit.returned_at is None}
        self._last = {permit.node: permit.granted_at for permit in picture.permits}

    def judge(self, requests: Sequence[Request]) -> list[_Became]:
        """Say what becomes of each, in their order."""
        became: dict[int, _Became] = {}
        going: list[_Going] = []
        for place, request in enumerate(requests):
            try:
                met = self._met(place, request)
            except SegueError as error:
                became[place] = error
                continue
            if isinstance(met, Held):
                became[place] = met
            else:
                going.append(met)
        became.update(self._decided(going))
        return [became[place] for place in range(len(requests))]

    def _met(self, place: int, request: Request) -> Held | _Going:
        """Return what is to be decided on; or the permit that the node has.

        Raises:
            OperatorError: the node may not have this upgrade at all.
        """
        ask = request.ask
        node = known_node(self._picture, ask.node, self._nodes)
        if ask.node in self._held:
            return _held(self._held[ask.node], ask)
        _check(self._picture, node, ask)
        versions, end = _touching(self._picture, ask)
        return _Going(place, replace(ask, to_version=end), versions, request.permit)

    def _decided(self, going: Sequence[_Going]) -> Iterator[tuple[int, _Became]]:
        if not going:
            return
        first = going[0].ask
        rollouts = Rollouts(self._picture, first.class_name, self._answers)
        pace = _Pace(self._picture, first.class_name, first.last_asked_at)
        left = {one.ask.node: one for one in going}
        reached: dict[NodeId, Version] = {}
        for target, decision in rollouts.decisions(first.last_asked_at, [one.ask for one in going]):
            for one in _refused(left, decision):
                del left[one.ask.node]
                if one.ask.node not in reached:
                    refusal = decision.refusals[one.ask.node]
                    retry_after_s = pace.retry_after_s(decision, one.ask.node)
                    halt = self._halt(rollouts, one.ask.class_name, target, refusal)
                    yield one.place, self._not_yet(one, target, refusal, retry_after_s, halt)
            for node, one in left.items():
                if target in one.versions and not rollouts.goes_past(one.ask, target):
                    reached[node] = target
            if not left:
                break
        for one in going:
            if one.ask.node in reached:
                yield one.place, self._granted(one, reached[one.ask.node])
            elif one.ask.node in left:
                yield one.place, _stops_nowhere(one.ask)

    def _halt(self, rollouts: Rollouts, name: ClassName, target: Version, refusal: Refusal) -> Halt | None:
        """Return what is to be written down if that is a halt; of a rollout that is over it would be lifted at once."""
        if not isinstance(refusal.reason, Halted) or rollouts.is_over(target):
            return None
        return halt_of(self._picture, name, target, refusal.reason)

    def _not_yet(
        self, one: _Going, target: Version, refusal: Refusal, retry_after_s: float, halt: Halt | None
    ) -> NotYet:
        decides = (target, self._picture) if isinstance(refusal.reason, NodeDecides) else None
        # An agent takes up to a quarter longer, and then its request is on its way.
        ask = replace(one.ask, good_for_s=LAPSE_S + 1.25 * retry_after_s, avoided=(), holds=None, agreed=())
        return NotYet(ask, refusal.text, retry_after_s, decides, halt)

    def _granted(self, one: _Going, reached: Version) -> Granted:
        ask = one.ask
        return Granted(
            Permit(
                id=one.permit,
                node=ask.node,
                class_name=ask.class_name,
                from_version=ask.from_version,
                to_version=one.carried_from(reached),
                granted_at=self._after_its_others(ask.node, ask.last_asked_at),
            )
        )

    def _after_its_others(self, node: NodeId, now: datetime) -> datetime:
        """Return `now`, or later if the clock was put back: a node's last permit is told by when it came."""
        last = self._last.get(node)
        return now if last is None else max(now, last + timedelta(microseconds=1))


class _Pace:
    """How soon the turn of those that wait comes, as far as anybody can tell.

    Args:
        picture: the system.
        class_name: the nodes that wait are of.
        now: UTC.
    """

    def __init__(self, picture: Picture, class_name: ClassName, now: datetime) -> None:
        since = now - timedelta(seconds=_PACE_S)
        lately = 0
        for permit in reversed(picture.permits):
            if permit.granted_at <= since:
                break
            lately += permit.class_name == class_name
        #: Nodes that go in a second.
        self._per_s = max(_FRONT, lately / _PACE_S / _EARLY)
        self._places: tuple[Decision | None, Mapping[NodeId, int]] = None, {}

    def retry_after_s(self, decision: Decision, node: NodeId) -> float:
        """Return when a node is to ask again that `decision` refused: by its place among those that it did."""
        if self._places[0] is not decision:
            self._places = decision, {node: place for place, node in enumerate(decision.refusals)}
        return min(max(_SOONEST_S, self._places[1][node] / self._per_s), _LATEST_S)


def known_node(picture: Picture, node: NodeId, nodes: Mapping[NodeId, NodeRecord]) -> NodeRecord:
    """Return what is known of a node.

    Args:
        picture: the system.
        node: who asks.
        nodes: of the system, by id.

    Raises:
        NotThereError: it was never heard of.
    """
    if node not in nodes:
        raise NotThereError(
            f"node {node} of system {picture.system} never sent a heartbeat: send one before asking for a permit"
        )
    return nodes[node]


def _refused(left: Mapping[NodeId, _Going], decision: Decision) -> list[_Going]:
    return [one for node, one in left.items() if node in decision.refusals]


def _stops_nowhere(ask: Ask) -> ConflictError:
    return ConflictError(
        f"node {ask.node} stops at none of the versions that it asks for ({ask.from_version} to {ask.to_version}): "
        "publish a later release"
    )


def _held(held: Permit, ask: Ask) -> Held:
    if held.from_version != ask.from_version or ask.to_version <= ask.from_version:
        raise ConflictError(
            f"node {ask.node} holds permit {held.id} to go from version {held.from_version} to {held.to_version}: "
            f"return it before asking to go from {ask.from_version} to {ask.to_version}"
        )
    # A node that can no longer go so far would else keep its permit, and others waiting, for ever.
    return Held(replace(held, to_version=min(held.to_version, ask.to_version)))


def _check(picture: Picture, node: NodeRecord, ask: Ask) -> None:
    if ask.class_name != node.said.class_name:
        raise ConflictError(
            f"node {node.id} runs class {node.said.class_name} by its last heartbeat, and asks for {ask.class_name}: "
            f"ask for the class that it runs"
        )
    if ask.from_version != node.version or ask.to_version <= ask.from_version:
        raise ConflictError(
            f"node {node.id} runs version {node.version} by its last heartbeat, and asks to go from "
            f"{ask.from_version} to {ask.to_version}: its next step is from {node.version} to a later one"
        )
    if ask.to_version > len(picture.releases):
        raise NotThereError(
            f"system {picture.system} has no release {ask.to_version}, the newest is {len(picture.releases)}: "
            f"publish it first"
        )


def _touching(picture: Picture, ask: Ask) -> tuple[tuple[Version, ...], Version]:
    """Return what of the releases that a node asks to go through has an upgrade of its class, and how far it can go.

    It can go to before a release that has not the class, if there is one.
    """
    versions: list[Version] = []
    end = ask.from_version
    for release in picture.releases[ask.from_version : ask.to_version]:
        try:
            rules = rules_of(release, ask.class_name)
        except ConflictError:
            if not versions:
                raise
            break
        end = release.version
        if rules is not None:
            versions.append(release.version)
    if not versions:
        raise ConflictError(
            f"release {ask.to_version} of {picture.system} has no upgrade for class {ask.class_name}: "
            f"a node of this class goes nowhere by a permit"
        )
    return tuple(versions), end
