"""What an operator may do to a system as it is, and what it then means, in words. Pure.

What all actions together mean for the schedules is in `model.hand`; here is who is refused, and why.
"""

from collections.abc import Callable, Mapping

from segue.errors import OperatorError
from segue.model.hand import Action, Deed, Hand
from segue.model.ids import ClassName, NodeId, Version
from segue.server.facts import Picture
from segue.server.node_deeds import force, forget, retry, skip
from segue.server.order import Judged, Order
from segue.server.refusals import ConflictError, NotThereError, unknown_system
from segue.server.retirement import check_unused
from segue.server.rollouts import gates, rollouts, touching
from segue.server.situation import away, mixed, run_verb, since
from segue.server.words import named
from segue.wire.hand import ActionRequest

#: `{deed: (fields that it needs, fields that it may have)}`
_FIELDS: Mapping[Deed, tuple[tuple[str, ...], tuple[str, ...]]] = {
    Deed.PAUSE: ((), ()),
    Deed.RESUME: ((), ()),
    Deed.ABORT: ((), ("version",)),
    Deed.APPROVE: (("gate",), ("version",)),
    Deed.SKIP: (("node",), ("version",)),
    Deed.RETRY: (("node",), ("version",)),
    Deed.FORCE: (("node", "why"), ("version",)),
    Deed.RETIRE: (("version",), ()),
    Deed.FORGET: (("node",), ()),
}


def judge(picture: Picture, order: Order) -> Judged:
    """Say whether an operator may do that now, and what it means.

    Raises:
        NotThereError: the system, the node or the release is not known.
        ConflictError: it makes no sense as things stand, or would do harm.
        OperatorError: a field is missing, or there is one too many.
    """
    request = order.request
    _check_fields(request)
    if not picture.is_known:
        raise unknown_system(picture.system)
    if request.version is not None and request.version > len(picture.releases):
        raise NotThereError(
            f"system {picture.system} has no release {request.version}: the newest is {len(picture.releases)}"
        )
    version, words = _JUDGES[request.deed](picture, order)
    action = Action(
        deed=request.deed,
        at=order.now,
        who=request.who,
        why=request.why,
        version=version,
        node=NodeId(request.node) if request.node else None,
        gate=request.gate,
        forced=request.force,
        unused_s=request.unused_s if request.deed is Deed.RETIRE and not request.force else None,
    )
    return Judged(action=action, words=words)


def _check_fields(request: ActionRequest) -> None:
    needed, allowed = _FIELDS[request.deed]
    if request.force:
        if request.deed is not Deed.RETIRE:
            raise OperatorError(f"force is true: only retire can be forced, not {request.deed}; leave it out")
        needed = (*needed, "why")
    for name in needed:
        if not getattr(request, name):
            what = "a reason (--why)" if name == "why" else f"a {name}"
            forced = " by force" if request.force else ""
            raise OperatorError(f"{request.deed}{forced} needs {what}: the history keeps it")
    for name in ("version", "node", "gate"):
        if getattr(request, name) is not None and name not in (*needed, *allowed):
            raise OperatorError(f"{request.deed} has no {name}, and {getattr(request, name)} is given: leave it out")


def _pause(picture: Picture, order: Order) -> tuple[Version | None, str]:
    before = Hand.of(picture.actions).paused
    if before is not None:
        raise ConflictError(
            f"system {picture.system} is paused already, {since(before, order.now)}: "
            "`segue resume` has it go on, `segue abort` ends the rollout"
        )
    words = [
        f"{picture.system} is paused: no node gets a permit until `segue resume`.",
        *mixed(picture),
        away(picture),
    ]
    return None, "\n".join(words)


def _resume(picture: Picture, order: Order) -> tuple[Version | None, str]:
    hand = Hand.of(picture.actions)
    last = hand.resumed.at if hand.resumed else None
    failed = [
        one for one in picture.permits if one.failure and one.returned_at and (not last or one.returned_at > last)
    ]
    silent = [node for node in picture.nodes if node.is_silent(order.now)]
    if hand.paused is None and not failed and not silent and not picture.halts:
        raise ConflictError(
            f"nothing holds {picture.system}: it is not paused, and nothing has failed since it last went on"
        )
    words = [f"{picture.system} goes on: nodes get permits as the schedules let them."]
    counted = [one.node for one in failed] + [node for halt in picture.halts for node in (*halt.failed, *halt.silent)]
    if counted:
        nodes = named(dict.fromkeys(counted))
        words.append(f"Failures until now ({nodes}) count against no failure budget any more; new ones do.")
    words += [f"Release {version} stays aborted." for version in hand.aborted]
    return None, "\n".join(words)


def _abort(picture: Picture, order: Order) -> tuple[Version | None, str]:
    hand = Hand.of(picture.actions)
    under_way = {one.version for one in rollouts(picture, order.now) if one.left or one.skipped}
    asked = order.request.version
    version = max(under_way - set(hand.aborted), default=None) if asked is None else Version(asked)
    if version is None:
        raise ConflictError(f"no release of {picture.system} is on its way to a node: there is nothing to abort")
    if version in hand.aborted:
        raise ConflictError(f"release {version} is aborted already, {since(hand.aborted[version], order.now)}")
    if not any(version in touching(picture.releases, name) for name in _classes(picture)):
        raise ConflictError(f"release {version} upgrades no node of {picture.system}: there is nothing to abort")
    if all(node.version >= version for node in picture.nodes):
        raise ConflictError(f"every node runs release {version}, or a later one, already: there is nothing to abort")
    newest = len(picture.releases)
    way_out = (
        f"The way out is the next release: nodes go through {version} on to {newest + 1}, and do not stop at it."
        if version == newest
        else f"Nodes go through {version} on to {newest}, and do not stop at it."
    )
    words = [
        f"Release {version} of {picture.system} is aborted: no node gets a permit to stop at it any more.",
        *mixed(picture),
        away(picture),
        f"{way_out} An abort is for good: `segue resume` does not undo it.",
    ]
    return version, "\n".join(words)


def _approve(picture: Picture, order: Order) -> tuple[Version | None, str]:
    hand, gate, asked = Hand.of(picture.actions), str(order.request.gate), order.request.version
    having = {release.version: gates(release) for release in picture.releases}
    versions = [version for version, names in having.items() if gate in names and asked in (None, version)]
    if not versions:
        known = sorted({name for version, names in having.items() for name in names if asked in (None, version)})
        where = f"release {asked}" if asked else f"no release of {picture.system}"
        has = "has no gate" if asked else "has a gate"
        there = f"there is {named(known)}" if known else "there is no gate at all"
        raise NotThereError(f"{where} {has} {gate}: {there}")
    waits = [version for version in versions if (version, gate) not in hand.approved]
    if not waits:
        approval = hand.approved[versions[-1], gate]
        raise ConflictError(f"gate {gate} of release {versions[-1]} is open already, {since(approval, order.now)}")
    return waits[-1], f"Gate {gate} of release {waits[-1]} is open: nodes go on as the other rules let them."


def _retire(picture: Picture, order: Order) -> tuple[Version | None, str]:
    request = order.request
    version = Version(request.version or 0)
    newest = len(picture.releases)
    if version >= newest:
        raise ConflictError(
            f"version {version} is the newest of {picture.system}, which its nodes are to run: publish the next first"
        )
    gone = max(Hand.of(picture.actions).retired, default=0)
    if version <= gone:
        before = next(one for kept, one in Hand.of(picture.actions).retired.items() if kept >= version)
        raise ConflictError(f"version {version} is retired already, {since(before, order.now)}")
    if not request.force:
        check_unused(picture, order.callers, version, unused_s=request.unused_s, now=order.now)
    one = version == gone + 1
    which = f"Version {version} is" if one else f"Versions {gone + 1} to {version} are"
    it, its = ("it", "its") if one else ("them", "their")
    behind = [node.id for node in picture.nodes if 0 < node.version <= version]
    words = [
        f"{which} retired: calls of {it} are refused as RETIRED_VERSION, and {its} simulations are removed from each "
        "node when that next reports.",
        f"Nodes that join later begin without {it}.",
    ]
    if behind:
        words.append(f"{named(behind)} {run_verb(behind)} no later one yet: that is answered there until the upgrade.")
    return version, "\n".join(words)


_JUDGES: Mapping[Deed, Callable[[Picture, Order], tuple[Version | None, str]]] = {
    Deed.PAUSE: _pause,
    Deed.RESUME: _resume,
    Deed.ABORT: _abort,
    Deed.APPROVE: _approve,
    Deed.SKIP: skip,
    Deed.RETRY: retry,
    Deed.FORCE: force,
    Deed.RETIRE: _retire,
    Deed.FORGET: forget,
}


def _classes(picture: Picture) -> set[ClassName]:
    return {ClassName(node.said.class_name) for node in picture.nodes}
