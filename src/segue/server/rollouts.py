"""Which releases are on their way to which nodes, and how far. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from segue.model.hand import Hand
from segue.model.ids import ClassName, NodeId, Version
from segue.server.decisions import manifest_in
from segue.server.facts import NodeRecord, Permit, Picture, Release

#: With fewer nodes that are through, how long one takes says nothing of how long the others will.
_PACE_NODES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One release, on its way to the nodes of one class.

    Attributes:
        class_name: the class that it upgrades.
        version: the release.
        done: how many nodes of the class run it, or a later one.
        left: the others, by id, but for those that are skipped.
        skipped: those that an operator left out, by id.
        began_at: when the first permit that leads to it was granted; None if none was.
        ends_at: when it is over if it goes on at the pace so far; None if there is no ground for an estimate.
    """

    class_name: ClassName
    version: Version
    done: int
    left: tuple[NodeId, ...]
    skipped: tuple[NodeId, ...]
    began_at: datetime | None
    ends_at: datetime | None


def touching(releases: Iterable[Release], class_name: ClassName) -> tuple[Version, ...]:
    """Return the versions whose releases have an upgrade of the class, oldest first."""
    return tuple(release.version for release in releases if _upgrades(release, class_name))


def gates(release: Release) -> frozenset[str]:
    """Return the names of the gates that the schedules of a release have an operator approve."""
    described = manifest_in(release.manifest).classes.values()
    return frozenset(gate for one in described if one.upgrade for gate in one.upgrade.schedule.gates)


def next_release(picture: Picture, node: NodeRecord) -> Version | None:
    """Return the release that the node goes to, or through, next; None if there is none above what it runs."""
    versions = touching(picture.releases, ClassName(node.said.class_name))
    return next((version for version in versions if version > node.version), None)


def rollouts(picture: Picture, now: datetime) -> tuple[Rollout, ...]:
    """Return what is on its way to each class: the newest release that upgrades it, by class.

    A class whose newest release is on every node of it has a rollout, too, with nothing left. One that no release
    upgrades has none.

    Args:
        picture: the system.
        now: for the estimate of the end, UTC.
    """
    hand = Hand.of(picture.actions)
    found = []
    for class_name in sorted({ClassName(node.said.class_name) for node in picture.nodes}):
        versions = touching(picture.releases, class_name)
        if versions:
            found.append(rollout_of(picture, class_name, versions[-1], hand, now))
    return tuple(found)


def rollout_of(picture: Picture, class_name: ClassName, version: Version, hand: Hand, now: datetime) -> Rollout:
    """Say how far one release has come to the nodes of one class."""
    nodes = [node for node in picture.nodes if node.said.class_name == class_name]
    behind = [node.id for node in nodes if node.version < version]
    skipped = tuple(node for node in behind if (version, node) in hand.skipped)
    left = tuple(node for node in behind if (version, node) not in hand.skipped)
    through = [permit for permit in picture.permits if permit.class_name == class_name and _leads(permit, version)]
    began_at = min((permit.granted_at for permit in through), default=None)
    return Rollout(
        class_name=class_name,
        version=version,
        done=len(nodes) - len(behind),
        left=left,
        skipped=skipped,
        began_at=began_at,
        ends_at=_estimated_end(through, left, began_at, now),
    )


def _estimated_end(
    through: Iterable[Permit], left: tuple[NodeId, ...], began_at: datetime | None, now: datetime
) -> datetime | None:
    done = sum(permit.returned_at is not None and permit.failure is None for permit in through)
    if began_at is None or done < _PACE_NODES or not left:
        return None
    try:
        return now + (now - began_at) / done * len(left)
    except OverflowError:
        return None


def _upgrades(release: Release, class_name: ClassName) -> bool:
    described = manifest_in(release.manifest).classes.get(class_name)
    return described is not None and described.upgrade is not None


def _leads(permit: Permit, version: Version) -> bool:
    return permit.from_version < version <= permit.to_version
