"""What an operator may do to one node of a system as it is, and what it then means, in words. Pure.

Each returns the release that it is about, if it is about one, and the words; and raises what `hand.judge` raises.
"""

from segue.model.hand import Hand
from segue.model.ids import ClassName, Version
from segue.server.facts import NodeRecord, Permit, Picture
from segue.server.order import Order
from segue.server.refusals import ConflictError, NotThereError
from segue.server.rollouts import next_release, touching
from segue.server.situation import held_by, since
from segue.server.status import waiting
from segue.server.words import moment


def skip(picture: Picture, order: Order) -> tuple[Version | None, str]:
    """Leave a node out of the rollout of a release: one that has yet to go, has gone, or died on its way."""
    node = _node(picture, order)
    version, hand = _to_leave(picture, order, node), Hand.of(picture.actions)
    before = hand.skipped.get((version, node.id))
    if before is not None:
        raise ConflictError(f"node {node.id} is left out of release {version} already, {since(before, order.now)}")
    if not node.is_silent(order.now):  # one that is silent may never come to the end of its way
        _check_not_away(picture, order, node)
    others = [one for one in gone_with(picture, node) if one != version and (one, node.id) not in hand.skipped]
    still = "".join(
        f"\nIt still counts in the rules of release {one}: `segue skip {node.id} --release {one}`." for one in others
    )
    late = ""
    if node.is_silent(order.now):
        late = (
            f"It has not been heard of since {moment(node.last_seen, order.now)}, and is away until it is: "
            f"`segue forget {node.id}` if it is gone for good. "
        )
    if version in gone_with(picture, node):
        return version, (
            f"{node.id} counts in no rule of release {version} any more but max_unavailable: nobody waits for it.\n"
            f"{late}`segue retry {node.id} --release {version}` takes it in again.{still}"
        )
    return version, (
        f"{node.id} is left out of the rollout of release {version}: nobody waits for it, and it gets no permit.\n"
        f"It stays on version {node.version}, and answers callers of every version. "
        f"{late}`segue retry {node.id}` takes it in again.{still}"
    )


def retry(picture: Picture, order: Order) -> tuple[Version | None, str]:
    """Have a node try again that was left out, that failed, or that died with a release or on its way to it."""
    node, hand = _node(picture, order), Hand.of(picture.actions)
    asked, gone = order.request.version, gone_with(picture, node)
    if asked is not None:
        versions = [Version(asked) if asked in gone else _release_for(picture, order)]
    else:
        following = next_release(picture, node)
        skipped = [version for version, left_out in hand.skipped if left_out == node.id]
        above = sorted(version for version in skipped if version > node.version)
        here = sorted((version for version in skipped if version in gone), reverse=True)
        versions = [*above, *([following] if following else []), *here, *gone]
    for version in versions:
        words = _tried_again(picture, order, node, version)
        if words is not None:
            return version, words
    way = "".join(
        f"; `segue skip {node.id} --release {version}` has no rule of release {version} but max_unavailable count it"
        for version in gone[:1]
    )
    raise ConflictError(f"node {node.id} has nothing to try again: it has not failed, and it is not left out{way}")


def _tried_again(picture: Picture, order: Order, node: NodeRecord, version: Version) -> str | None:
    """Say what it means that a node tries a release again; None if there is nothing to try."""
    hand, gone = Hand.of(picture.actions), version in gone_with(picture, node)
    is_silent, is_skipped = node.is_silent(order.now), (version, node.id) in hand.skipped
    if gone and is_silent:
        return (
            f"{node.id} has not been heard of since {moment(node.last_seen, order.now)}: until it is, it counts as if "
            f"it had yet to go to release {version}, and its silence is no failure.\n"
            f"If it is gone for good: `segue forget {node.id}`."
        )
    if gone and version <= node.version:
        last = _last_through(picture, node, version)
        if is_skipped:
            return f"{node.id} is taken in again: it counts in the rules of release {version}."
        what = "failure" if last is not None and last.failure is not None else _what_halts(picture, node, version)
        return f"{node.id} runs release {version}, and its {what} counts no more." if what else None
    failed = any(one.node == node.id and one.failure and one.to_version >= version for one in picture.permits)
    if not is_skipped and not failed and not node.said.failure:
        return None
    what = "is taken in again" if is_skipped else "tries again what it gave up"
    when = "when it is back" if is_silent else "when it next reports"
    return f"{node.id} {what}, {when}: it goes to release {version} as the schedule lets it."


def _what_halts(picture: Picture, node: NodeRecord, version: Version) -> str | None:
    """Return "silence" if a halt of the release stands by that of the node, which is back; None else."""
    mine = (one for one in picture.halts if (one.class_name, one.version) == (node.said.class_name, version))
    return "silence" if any(node.id in halt.silent for halt in mine) else None


def force(picture: Picture, order: Order) -> tuple[Version | None, str]:
    """Have a node get its permit, whatever the rules say."""
    node, version = _node(picture, order), _release_for(picture, order)
    _check_not_away(picture, order, node)
    aborted = Hand.of(picture.actions).aborted.get(version)
    if aborted is not None:
        raise ConflictError(
            f"release {version} is aborted, {since(aborted, order.now)}: no node gets a permit to it; publish the next"
        )
    against = waiting(picture, order.now).get(node.id)
    rules = f"; it waits for this: {against}" if against else ""
    late = ""
    if node.is_silent(order.now):
        late = f"\nIt has not been heard of since {moment(node.last_seen, order.now)}."
    return version, (
        f"{node.id} gets its permit to release {version} when it next asks, whatever the rules say{rules}.\n"
        f"The history has it as an override, for this one permit.{late}"
    )


def forget(picture: Picture, order: Order) -> tuple[Version | None, str]:
    """Have a node that will not come back be no longer of the system."""
    node = _node(picture, order)
    if not node.is_silent(order.now):
        raise ConflictError(
            f"node {node.id} was heard of at {moment(node.last_seen, order.now)}: end its agent first, "
            f"and ask again {node.silent_after_s:g} s later"
        )
    held = held_by(picture, node.id)
    permit = f" Its permit to release {held.to_version} is closed." if held else ""
    return None, (
        f"{node.id} is no longer of {picture.system}: it counts in no limit, and nobody waits for it.{permit}\n"
        "If it speaks again, it is a node as before."
    )


def _node(picture: Picture, order: Order) -> NodeRecord:
    for node in picture.nodes:
        if node.id == order.request.node:
            return node
    raise NotThereError(f"system {picture.system} has no node {order.request.node}: look at `segue status`")


def gone_with(picture: Picture, node: NodeRecord) -> tuple[Version, ...]:
    """Return the releases in whose rollouts a node counts as one that has gone, the newest first.

    It runs them, and came by a permit, while other nodes of its class have yet to go; or it is on its way to them.
    """
    class_name = ClassName(node.said.class_name)
    held = held_by(picture, node.id)
    lowest = min(
        (one.version for one in picture.nodes if one.said.class_name == class_name and one.version > 0),
        default=node.version,
    )

    def has_gone(version: Version) -> bool:
        if held is not None and held.from_version < version:
            return version <= held.to_version
        return lowest < version <= node.version and _last_through(picture, node, version) is not None

    return tuple(version for version in reversed(touching(picture.releases, class_name)) if has_gone(version))


def _last_through(picture: Picture, node: NodeRecord, version: Version) -> Permit | None:
    return next(
        (
            one
            for one in reversed(picture.permits)
            if one.node == node.id and one.from_version < version <= one.to_version
        ),
        None,
    )


def _to_leave(picture: Picture, order: Order, node: NodeRecord) -> Version:
    """Return the release that a node is to be left out of."""
    asked, gone = order.request.version, gone_with(picture, node)
    if asked is not None:
        return Version(asked) if asked in gone else _release_for(picture, order)
    if gone and held_by(picture, node.id) is not None:
        return gone[0]  # what it is on its way to
    ways = touching(picture.releases, ClassName(node.said.class_name))
    if ways and ways[-1] > node.version:
        return ways[-1]
    return gone[0] if gone else _release_for(picture, order)


def _release_for(picture: Picture, order: Order) -> Version:
    """Return the release that a node is to go to: the one that was named, else the next."""
    node, asked = _node(picture, order), order.request.version
    if asked is None:
        version = next_release(picture, node)
        if version is None:
            raise ConflictError(f"node {node.id} runs version {node.version}, and there is no later release for it")
        return version
    if asked <= node.version:
        raise ConflictError(
            f"node {node.id} runs version {node.version}: release {asked} is behind it, "
            "and counts it in no rule but max_unavailable"
        )
    if asked not in touching(picture.releases, ClassName(node.said.class_name)):
        raise ConflictError(f"release {asked} does not upgrade class {node.said.class_name}, which {node.id} runs")
    return Version(asked)


def _check_not_away(picture: Picture, order: Order, node: NodeRecord) -> None:
    held = held_by(picture, node.id)
    if held is None:
        return
    if node.is_silent(order.now):
        raise ConflictError(
            f"node {node.id} holds a permit to release {held.to_version}, and has not been heard of since "
            f"{moment(node.last_seen, order.now)}: `segue skip {node.id}` has the others go on without it, "
            f"`segue forget {node.id}` closes its permit if it is gone for good"
        )
    raise ConflictError(
        f"node {node.id} holds a permit to release {held.to_version}: it is on its way, wait until it is back"
    )
