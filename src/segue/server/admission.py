"""Permits: who may go away now, decided over the fleet in the transaction that writes the grant."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from segue.model.ids import ClassName, NodeId, SystemName, Version
from segue.schedule import NodeDecides
from segue.server.decisions import NO_ANSWERS, Answers, Rollouts, rules_of
from segue.server.facts import Ask, Granted, Held, NodeRecord, NotYet, Permit, Picture, Verdict
from segue.server.hearing import check_request
from segue.server.refusals import ConflictError, NotThereError
from segue.server.store import Store
from segue.wire.messages import PermitRequest, PermitReturnRequest

#: Nodes that ask again within a second, of those that wait: with more, each asks less often.
_ASKS_PER_S = 250
#: The longest time until a node that waits is to ask again: its request must not lapse before.
_ASK_LIMIT_S = 8.0


def ask_permit(
    store: Store,
    system: SystemName,
    node: NodeId,
    request: PermitRequest,
    *,
    permit: str,
    answers: Answers = NO_ANSWERS,
) -> Verdict:
    """Grant `node` its upgrade as far as the schedules let it go now; only the node that asks is granted.

    It is granted the largest part of its way, from its start, that the schedule of each release on it allows: trailing
    releases that leave its class untouched are part of it. Asking again while holding the permit gets the same
    permit, which leads as far as before, or less far if the node asks for less.

    Args:
        store: is read and written in one transaction.
        system: the node's.
        node: who asks.
        request: for which upgrade.
        permit: the id of the permit, if one is granted; never used before.
        answers: what webhooks say.

    Raises:
        OperatorError: this node may not have this upgrade, and asking again will not change that.
    """

    def asked(now: datetime) -> Ask:
        return Ask(
            node=node,
            class_name=ClassName(request.class_name),
            from_version=Version(request.from_version),
            to_version=Version(request.to_version),
            avoided=tuple(Version(version) for version in request.avoided),
            holds=request.holds,
            agreed=tuple(Version(version) for version in request.agreed),
            asked_at=now,
            last_asked_at=now,
        )

    def judged(picture: Picture) -> Verdict:
        ask = asked(picture.at)
        check_request(_known_node(picture, ask), request.agent)
        return judge(picture, ask, permit, answers)

    return store.admit(system, judged)


def return_permit(store: Store, system: SystemName, node: NodeId, permit: str, how: PermitReturnRequest) -> None:
    """Take note that `node` is back; a second return changes nothing.

    Args:
        store: where the permit is.
        system: the node's.
        node: who is back.
        permit: the permit's id.
        how: whether it is upgraded, and if not, why, and by which release.

    Raises:
        NotThereError: the node has no such permit.
    """

    def close(held: Permit, now: datetime) -> Permit:
        failed = Version(how.failed_version) if how.failed_version else None
        return replace(held, returned_at=now, failure=how.failure, final=how.final, failed_version=failed)

    if not store.give_back(system, node, permit, close):
        raise NotThereError(f"node {node} of system {system} has no permit {permit}: look at `segue status`")


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
    node = _known_node(picture, ask)
    for held in picture.permits:
        if held.node == ask.node and held.returned_at is None:
            return _held(held, ask)
    _check(picture, node, ask)
    touching = _touching(picture, ask)
    ask, now = replace(ask, to_version=touching.end), ask.last_asked_at
    reached: Version | None = None
    rollouts = Rollouts(picture, ask.class_name, answers)
    for target, decision in rollouts.decisions(now, ask):
        refusal = decision.refusals.get(ask.node)
        if refusal is not None and reached is None:
            retry_after_s = min(max(1.0, len(picture.asks) / _ASKS_PER_S), _ASK_LIMIT_S)
            decides = (target, picture) if isinstance(refusal.reason, NodeDecides) else None
            return NotYet(replace(ask, avoided=(), holds=None, agreed=()), refusal.text, retry_after_s, decides)
        if refusal is not None:
            break
        if target in touching.versions and not rollouts.goes_past(ask, target):
            reached = target
    if reached is None:
        raise ConflictError(
            f"node {ask.node} stops at none of the versions that it asks for ({ask.from_version} to {ask.to_version}): "
            "publish a later release"
        )
    return Granted(
        Permit(
            id=permit,
            node=ask.node,
            class_name=ask.class_name,
            from_version=ask.from_version,
            to_version=touching.carried_from(reached),
            granted_at=_after_its_others(picture, ask.node, now),
        )
    )


def _after_its_others(picture: Picture, node: NodeId, now: datetime) -> datetime:
    """Return `now`, or later if the clock was put back: which permit of a node is its last is told by when it came."""
    others = (permit.granted_at + timedelta(microseconds=1) for permit in picture.permits if permit.node == node)
    return max((now, *others))


def _known_node(picture: Picture, ask: Ask) -> NodeRecord:
    for node in picture.nodes:
        if node.id == ask.node:
            return node
    raise NotThereError(
        f"node {ask.node} of system {picture.system} never sent a heartbeat: send one before asking for a permit"
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


@dataclass(frozen=True, slots=True)
class _Touching:
    """What of the releases that a node asks to go through has an upgrade of its class.

    Attributes:
        versions: these releases, oldest first.
        end: the last release that it can go to: before one that has not the class, if there is one.
    """

    versions: tuple[Version, ...]
    end: Version

    def carried_from(self, reached: Version) -> Version:
        """Return the newest version that an object of `reached` carries."""
        return min((Version(one - 1) for one in self.versions if one > reached), default=self.end)


def _touching(picture: Picture, ask: Ask) -> _Touching:
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
    return _Touching(tuple(versions), end)
