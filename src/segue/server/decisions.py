"""What the schedules of a system say of the nodes that wait, release by release. Pure.

A node may ask to go through several releases at once: it is then decided on for each of them, the oldest first, and one
that holds it up ends its way there.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import lru_cache

from segue.errors import ReleaseError
from segue.model.fleet import Fleet, NodeFact
from segue.model.ids import ClassName, NodeId, Version
from segue.release.manifest import Manifest
from segue.schedule import STALE_S, Decision, Rules, decide
from segue.server.refusals import ConflictError
from segue.server.store import Ask, NodeRecord, Permit, Picture, Release

#: Seconds after which a request that was not repeated is forgotten. A node that waits asks every second or
#: so; one that was given up would else stand first in the queue for ever, and nobody behind it could go.
LAPSE_S = STALE_S


def decisions(
    picture: Picture, class_name: ClassName, now: datetime, ask: Ask | None = None
) -> Iterator[tuple[Version, Decision]]:
    """Decide for each release that nodes of a class ask to go through, the oldest first.

    A node that must wait for one release is left out of the decisions on later ones: it cannot go there now, so it
    holds up nobody who can. A release that failed on a node holds up nobody who can go on to a later one, which is the
    way out of it. Releases that leave the class untouched have no schedule, and no decision.

    Args:
        picture: the system.
        class_name: the class that is decided on.
        now: UTC; requests that have lapsed by then are left out, and those of nodes that have moved on.
        ask: a request that is being made at `now`.
    """
    asks = _live(picture, class_name, now, ask)
    if not asks:
        return
    lowest = min(waiting.from_version for waiting in asks.values())
    highest = max(waiting.to_version for waiting in asks.values())
    held_up: set[NodeId] = set()
    for release in picture.releases[lowest:highest]:
        target = release.version
        waiting = {
            node: one
            for node, one in asks.items()
            if one.from_version < target <= one.to_version
            and node not in held_up
            and not goes_past(picture, one, target)
        }
        rules = rules_of(release, class_name) if waiting else None
        if rules is None:
            continue
        seen = {node: one.last_asked_at for node, one in asks.items()}
        decision = decide(_fleet(picture, class_name, target, waiting, seen), rules, now)
        held_up.update(decision.refusals)
        yield target, decision


def goes_past(picture: Picture, ask: Ask, target: Version) -> bool:
    """Say whether a node goes past `target`: it cannot stop there, or the release failed and a later one leads on."""
    if target in ask.avoided:
        return True
    failed = any(_is_failure_of(permit, target) for permit in _through(picture.permits, target))
    return failed and any(_touches(release, ask.class_name) for release in picture.releases[target : ask.to_version])


def _touches(release: Release, class_name: ClassName) -> bool:
    described = _manifest(release.manifest).classes.get(class_name)
    return described is not None and described.upgrade is not None


def rules_of(release: Release, class_name: ClassName) -> Rules | None:
    """Return the schedule of the class upgrade that leads to `release`; None if it leaves the class untouched.

    Raises:
        ConflictError: the release has not this class.
    """
    try:
        upgrade = _manifest(release.manifest).class_named(class_name).upgrade
    except ReleaseError as error:
        raise ConflictError(str(error)) from error
    return Rules.of(upgrade.schedule) if upgrade else None


@lru_cache(maxsize=64)
def _manifest(text: str) -> Manifest:
    return Manifest.model_validate_json(text)


def _live(picture: Picture, class_name: ClassName, now: datetime, ask: Ask | None) -> dict[NodeId, Ask]:
    """Return the requests that make sense now: the node is of the class, and has not moved on since."""
    nodes = {node.id: node for node in picture.nodes}
    asks = {
        waiting.node: waiting
        for waiting in picture.asks
        if now - waiting.last_asked_at < timedelta(seconds=LAPSE_S)
        and nodes[waiting.node].version == waiting.from_version
        and nodes[waiting.node].said.class_name == waiting.class_name == class_name
    }
    if ask is not None:
        asks[ask.node] = ask.after(asks.get(ask.node))
    return asks


def _fleet(
    picture: Picture,
    class_name: ClassName,
    target: Version,
    asks: Mapping[NodeId, Ask],
    seen: Mapping[NodeId, datetime],
) -> Fleet:
    """Return the nodes of the system as the schedule of `target` sees them.

    Args:
        picture: the system.
        class_name: the class that goes there.
        target: the release that is decided on.
        asks: of the nodes that wait for it.
        seen: `{node: when it last asked for something}`.
    """
    away = {permit.node: permit for permit in picture.permits if permit.returned_at is None}
    last = {permit.node: permit for permit in _through(picture.permits, target)}

    def fact(node: NodeRecord) -> NodeFact:
        ask, held, latest = asks.get(node.id), away.get(node.id), last.get(node.id)
        return NodeFact(
            id=node.id,
            class_name=ClassName(node.said.class_name),
            version=node.version,
            attributes=node.said.attributes,
            last_seen=max(node.last_seen, seen.get(node.id, node.last_seen)),
            away_since=held.granted_at if held else None,
            away_from=held.from_version if held else None,
            away_to=held.to_version if held else None,
            waits_since=ask.asked_at if ask else None,
            upgraded_at=latest.returned_at if latest and (latest.failure is None or _stays(node, target)) else None,
            # One that asks for it again, though it had given up, was told to: whoever told it has looked.
            failed=latest is not None and ask is None and _is_failure_of(latest, target),
        )

    return Fleet.of(class_name, target, [fact(node) for node in picture.nodes])


def _through(permits: Iterable[Permit], target: Version) -> Iterator[Permit]:
    return (permit for permit in permits if permit.from_version < target <= permit.to_version)


def _stays(node: NodeRecord, target: Version) -> bool:
    """Say whether a node runs `target` though that failed there, as it had answered calls before it did."""
    return any(row.probation_failed and row.from_version < target <= row.to_version for row in node.said.upgrades)


def _is_failure_of(permit: Permit, target: Version) -> bool:
    """Say whether the attempt failed for good, on its way to `target` as far as the node could tell.

    A failure counts for the releases beyond the one that it came by, too: each later release is then tried by one node,
    and not by one after the other.
    """
    failed = permit.failed_version or target
    return permit.failure is not None and permit.final and failed <= target
