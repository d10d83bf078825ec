"""What an operator may do to one node of a system as it is, and what it then means, in words. Pure.

Each returns the release that it is about, if it is about one, and the words; and raises what `hand.judge` raises.
"""

from segue.model.hand import Hand
from segue.model.ids import ClassName, Version
from segue.server.facts import NodeRecord, Picture
from segue.server.order import Order
from segue.server.refusals import ConflictError, NotThereError
from segue.server.rollouts import next_release, touching
from segue.server.situation import held_by, since
from segue.server.status import waiting
from segue.server.words import moment


def skip(picture: Picture, order: Order) -> tuple[Version | None, str]:
    """Leave a node out of the rollout of a release."""
    node, version = _node(picture, order), _release_for(picture, order, newest=True)
    before = Hand.of(picture.actions).skipped.get((version, node.id))
    if before is not None:
        raise ConflictError(f"node {node.id} is left out of release {version} already, {since(before, order.now)}")
    _check_not_away(picture, node)
    return version, (
        f"{node.id} is left out of the rollout of release {version}: nobody waits for it, and it gets no permit.\n"
        f"It stays on version {node.version}, and answers callers of every version. "
        f"`segue retry {node.id}` takes it in again."
    )


def retry(picture: Picture, order: Order) -> tuple[Version | None, str]:
    """Have a node try again that was left out, or that failed."""
    node = _node(picture, order)
    hand, above = Hand.of(picture.actions), range(node.version + 1, len(picture.releases) + 1)
    skipped = [version for version in above if (version, node.id) in hand.skipped]
    asked = order.request.version
    version = Version(skipped[0]) if skipped and asked is None else _release_for(picture, order)
    failed = any(one.node == node.id and one.failure and one.to_version >= version for one in picture.permits)
    if version not in skipped and not failed and not node.said.failure:
        raise ConflictError(f"node {node.id} has nothing to try again: it has not failed, and it is not left out")
    what = "is taken in again" if version in skipped else "tries again what it gave up"
    when = "when it is back" if node.is_silent(order.now) else "when it next reports"
    return version, f"{node.id} {what}, {when}: it goes to release {version} as the schedule lets it."


def force(picture: Picture, order: Order) -> tuple[Version | None, str]:
    """Have a node get its permit, whatever the rules say."""
    node, version = _node(picture, order), _release_for(picture, order)
    _check_not_away(picture, node)
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


def _release_for(picture: Picture, order: Order, *, newest: bool = False) -> Version:
    """Return the release that is meant for a node: the one that was named, else the next or the newest on its way."""
    node, asked = _node(picture, order), order.request.version
    ways = touching(picture.releases, ClassName(node.said.class_name))
    if asked is None:
        version = ways[-1] if newest and ways and ways[-1] > node.version else next_release(picture, node)
        if version is None:
            raise ConflictError(f"node {node.id} runs version {node.version}, and there is no later release for it")
        return version
    if asked <= node.version:
        raise ConflictError(f"node {node.id} runs version {node.version}: release {asked} is behind it")
    if asked not in ways:
        raise ConflictError(f"release {asked} does not upgrade class {node.said.class_name}, which {node.id} runs")
    return Version(asked)


def _check_not_away(picture: Picture, node: NodeRecord) -> None:
    held = held_by(picture, node.id)
    if held is not None:
        raise ConflictError(
            f"node {node.id} holds a permit to release {held.to_version}: it is on its way, wait until it is back"
        )
