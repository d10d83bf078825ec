"""What became of attempts at a release, by the permits and by what nodes say of them. Pure."""

from collections.abc import Iterable, Iterator

from segue.model.hand import Hand
from segue.model.ids import NodeId, Version
from segue.server.facts import NodeRecord, Permit


def through(permits: Iterable[Permit], target: Version) -> Iterator[Permit]:
    """Yield the permits that lead to `target`, or through it."""
    return (permit for permit in permits if permit.from_version < target <= permit.to_version)


def failed_for_good(permits: Iterable[Permit], hand: Hand) -> frozenset[Version]:
    """Return the releases that failed for good on some node, which nobody has retried, and which did no better since.

    Args:
        permits: oldest first.
        hand: what operators did.
    """
    permits = tuple(permits)
    troubled = {permit.node for permit in permits if permit.final and permit.failure is not None}
    last: dict[tuple[Version, NodeId], Permit] = {
        (Version(target), permit.node): permit
        for permit in permits
        if permit.node in troubled
        for target in range(permit.from_version + 1, permit.to_version + 1)
    }

    def counts(target: Version, permit: Permit) -> bool:
        retried = hand.retried.get((target, permit.node))
        is_mended = retried and permit.returned_at and permit.returned_at <= retried.at
        return is_failure_of(permit, target) and not is_mended

    return frozenset(target for (target, _), permit in last.items() if counts(target, permit))


def stays(node: NodeRecord, target: Version) -> bool:
    """Say whether a node runs `target` though that failed there, as it had answered calls before it did."""
    return any(row.probation_failed and row.from_version < target <= row.to_version for row in node.said.upgrades)


def is_failure_of(permit: Permit, target: Version) -> bool:
    """Say whether the attempt failed for good, on its way to `target` as far as the node could tell.

    A failure counts for the releases beyond the one that it came by, too: each later release is then tried by one node,
    and not by one after the other.
    """
    return failed(permit, target) and permit.final


def failed(permit: Permit, target: Version) -> bool:
    """Say whether the attempt failed, for good or not, on its way to `target` as far as the node could tell."""
    return permit.failure is not None and (permit.failed_version or target) <= target
