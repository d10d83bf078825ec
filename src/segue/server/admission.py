"""Permits: who may go away now, decided over the fleet in the transaction that writes the grants."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TypeAlias

from segue.errors import SegueError
from segue.model.ids import ClassName, NodeId, SystemName, Version
from segue.server.decisions import NO_ANSWERS, Answers
from segue.server.facts import Ask, Permit, Picture, Verdict
from segue.server.halts import watch
from segue.server.hearing import check_request
from segue.server.judging import Request, judge_together, known_node
from segue.server.refusals import NotThereError
from segue.server.store import Back, Store
from segue.server.verdicts import only
from segue.wire.messages import PermitRequest, PermitReturnRequest


@dataclass(frozen=True, slots=True)
class Asking:
    """`node` asks for the upgrade of `request`; `permit` is the id of a permit, if one is granted."""

    node: NodeId
    request: PermitRequest
    permit: str


@dataclass(frozen=True, slots=True)
class Returning:
    """`node` is back, and returns the permit with the id `permit`: `how` says whether it is upgraded, and why not."""

    node: NodeId
    permit: str
    how: PermitReturnRequest


_Judged: TypeAlias = Verdict | SegueError


def ask_permits(
    store: Store, system: SystemName, asking: Sequence[Asking], *, answers: Answers = NO_ANSWERS
) -> Sequence[Verdict | Exception]:
    """Grant nodes their upgrades as far as the schedules let them go now; only nodes that ask are granted.

    Each is granted the largest part of its way, from its start, that the schedule of each release on it allows:
    trailing releases that leave its class untouched are part of it. Asking again while holding the permit gets the same
    permit, which leads as far as before, or less far if the node asks for less.

    Args:
        store: is read and written in one transaction.
        system: the nodes'.
        asking: who asks for what, in the order in which they came.
        answers: what webhooks say.

    Returns:
        What became of each, in their order; or an `OperatorError`: this node may not have this upgrade, and asking
        again will not change that.

    Raises:
        PeerError: the database does not answer now.
    """

    def judged(picture: Picture) -> Sequence[_Judged]:
        nodes = {node.id: node for node in picture.nodes}
        became: dict[int, _Judged] = {}
        for place, one in enumerate(asking):
            try:
                check_request(known_node(picture, one.node, nodes), one.request.agent)
            except SegueError as error:
                became[place] = error
        fit = [place for place in range(len(asking)) if place not in became]
        requests = [Request(_asked(asking[place], picture.at), asking[place].permit) for place in fit]
        became.update(zip(fit, judge_together(picture, requests, answers), strict=True))
        return [became[place] for place in range(len(asking))]

    return store.admit(system, judged)


def ask_permit(
    store: Store,
    system: SystemName,
    node: NodeId,
    request: PermitRequest,
    *,
    permit: str,
    answers: Answers = NO_ANSWERS,
) -> Verdict:
    """Grant `node` its upgrade as far as the schedules let it go now: see `ask_permits`.

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
    return only(ask_permits(store, system, [Asking(node, request, permit)], answers=answers))


def return_permits(store: Store, system: SystemName, returning: Sequence[Returning]) -> Sequence[NotThereError | None]:
    """Take note that nodes are back, in one transaction; a second return of a permit changes nothing.

    Args:
        store: where the permits are.
        system: the nodes'.
        returning: who is back, and how, in the order in which they came.

    Returns:
        Of each, in their order, None; or that the node has no such permit.

    Raises:
        PeerError: the database does not answer now.
    """
    back = [Back(one.node, one.permit, partial(_closed, one.how)) for one in returning]
    known = store.give_back(system, back, watch)
    return [None if is_known else _no_permit(system, one) for one, is_known in zip(returning, known, strict=True)]


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
    (error,) = return_permits(store, system, [Returning(node, permit, how)])
    if error is not None:
        raise error


def _asked(one: Asking, now: datetime) -> Ask:
    request = one.request
    return Ask(
        node=one.node,
        class_name=ClassName(request.class_name),
        from_version=Version(request.from_version),
        to_version=Version(request.to_version),
        avoided=tuple(Version(version) for version in request.avoided),
        holds=request.holds,
        agreed=tuple(Version(version) for version in request.agreed),
        asked_at=now,
        last_asked_at=now,
    )


def _closed(how: PermitReturnRequest, held: Permit, now: datetime) -> Permit:
    failed = Version(how.failed_version) if how.failed_version else None
    return replace(held, returned_at=now, failure=how.failure, final=how.final, failed_version=failed)


def _no_permit(system: SystemName, one: Returning) -> NotThereError:
    return NotThereError(f"node {one.node} of system {system} has no permit {one.permit}: look at `segue status`")
