"""Permits: who may go away now, decided over the fleet in the transaction that writes the grant."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache

from segue.errors import ReleaseError
from segue.model.clock import Clock
from segue.model.fleet import Fleet, NodeFact
from segue.model.ids import ClassName, NodeId, SystemName, Version
from segue.release.manifest import Manifest
from segue.schedule import STALE_S, Rules, decide
from segue.server.refusals import ConflictError, NotThereError
from segue.server.store import Ask, Granted, Held, NodeRecord, NotYet, Permit, Picture, Release, Store, Verdict
from segue.wire.messages import PermitRequest, PermitReturnRequest

#: Seconds after which a request that was not repeated is forgotten. A node that waits asks every second or
#: so; one that was given up would else stand first in the queue for ever, and nobody behind it could go.
LAPSE_S = STALE_S


def ask_permit(
    store: Store, system: SystemName, node: NodeId, request: PermitRequest, *, permit: str, clock: Clock
) -> Verdict:
    """Grant `node` its upgrade if the schedule lets it go now; only the node that asks is granted.

    Asking again while holding the permit for the same upgrade gets the same permit.

    Args:
        store: is read and written in one transaction.
        system: the node's.
        node: who asks.
        request: for which upgrade.
        permit: the id of the permit, if one is granted; never used before.
        clock: read inside the transaction, so that times tell the order of grants and returns.

    Raises:
        OperatorError: this node may not have this upgrade, and asking again will not change that.
    """

    def asked_now() -> Ask:
        now = clock.now()
        return Ask(
            node=node,
            class_name=ClassName(request.class_name),
            from_version=Version(request.from_version),
            to_version=Version(request.to_version),
            asked_at=now,
            last_asked_at=now,
        )

    return store.admit(system, lambda picture: judge(picture, asked_now(), permit))


def return_permit(
    store: Store, system: SystemName, node: NodeId, permit: str, how: PermitReturnRequest, clock: Clock
) -> None:
    """Take note that `node` is back; a second return changes nothing.

    Args:
        store: where the permit is.
        system: the node's.
        node: who is back.
        permit: the permit's id.
        how: whether it is upgraded, and if not, why.
        clock: read inside the transaction.

    Raises:
        NotThereError: the node has no such permit.
    """

    def close(held: Permit) -> Permit:
        return replace(held, returned_at=clock.now(), failure=how.failure, final=how.final)

    if not store.give_back(system, node, permit, close):
        raise NotThereError(f"node {node} of system {system} has no permit {permit}: look at `segue status`")


def judge(picture: Picture, ask: Ask, permit: str) -> Verdict:
    """Say what becomes of `ask` in the system as it is.

    Raises:
        OperatorError: the node may not have this upgrade at all.
    """
    node = _known_node(picture, ask)
    for held in picture.permits:
        if held.node == ask.node and held.returned_at is None:
            return _held(held, ask)
    release = _next_release(picture, node, ask)
    now = ask.last_asked_at
    fleet = fleet_of(picture, ask.class_name, ask.to_version, now, ask)
    decision = decide(fleet, rules_of(release, ask.class_name), now)
    if ask.node not in decision.grants:
        return NotYet(ask, decision.refusals[ask.node].text)
    return Granted(
        Permit(
            id=permit,
            node=ask.node,
            class_name=ask.class_name,
            from_version=ask.from_version,
            to_version=ask.to_version,
            granted_at=now,
        )
    )


def fleet_of(picture: Picture, class_name: ClassName, target: Version, now: datetime, ask: Ask | None = None) -> Fleet:
    """Return the nodes of a system, those of a class on their way to `target`, as the schedule sees them.

    Args:
        picture: the system.
        class_name: the class that is decided on.
        target: requests for other versions are left out.
        now: UTC; requests that have lapsed by then are left out.
        ask: a request that is being made at `now`.
    """
    asks = {
        waiting.node: waiting
        for waiting in picture.asks
        if waiting.to_version == target and now - waiting.last_asked_at < timedelta(seconds=LAPSE_S)
    }
    if ask is not None:
        asks[ask.node] = ask.after(asks.get(ask.node))
    away = {permit.node: permit for permit in picture.permits if permit.returned_at is None}
    last = {permit.node: permit for permit in picture.permits if permit.to_version == target}
    return Fleet.of(class_name, target, [_fact(node, asks, away, last) for node in picture.nodes])


def rules_of(release: Release, class_name: ClassName) -> Rules:
    """Return the schedule of the class upgrade that leads to `release`.

    Raises:
        ConflictError: the release has no upgrade for this class.
    """
    manifest = _manifest(release.manifest)
    try:
        upgrade = manifest.class_named(class_name).upgrade
    except ReleaseError as error:
        raise ConflictError(str(error)) from error
    if upgrade is None:
        raise ConflictError(
            f"release {release.version} of {release.system} has no upgrade for class {class_name}: "
            f"a node of this class cannot go there"
        )
    return Rules.of(upgrade.schedule)


@lru_cache(maxsize=64)
def _manifest(text: str) -> Manifest:
    return Manifest.model_validate_json(text)


def _fact(
    node: NodeRecord, asks: Mapping[NodeId, Ask], away: Mapping[NodeId, Permit], last: Mapping[NodeId, Permit]
) -> NodeFact:
    ask, held, latest = asks.get(node.id), away.get(node.id), last.get(node.id)
    return NodeFact(
        id=node.id,
        class_name=ClassName(node.said.class_name),
        version=node.version,
        attributes=node.said.attributes,
        last_seen=max(node.last_seen, ask.last_asked_at) if ask else node.last_seen,
        away_since=held.granted_at if held else None,
        waits_since=ask.asked_at if ask else None,
        upgraded_at=latest.returned_at if latest and latest.failure is None else None,
        failed=latest is not None and latest.failure is not None and latest.final,
    )


def _known_node(picture: Picture, ask: Ask) -> NodeRecord:
    for node in picture.nodes:
        if node.id == ask.node:
            return node
    raise NotThereError(
        f"node {ask.node} of system {picture.system} never sent a heartbeat: send one before asking for a permit"
    )


def _held(held: Permit, ask: Ask) -> Held:
    if (held.from_version, held.to_version) == (ask.from_version, ask.to_version):
        return Held(held)
    raise ConflictError(
        f"node {ask.node} holds permit {held.id} to go from version {held.from_version} to {held.to_version}: "
        f"return it before asking to go from {ask.from_version} to {ask.to_version}"
    )


def _next_release(picture: Picture, node: NodeRecord, ask: Ask) -> Release:
    if ask.class_name != node.said.class_name:
        raise ConflictError(
            f"node {node.id} runs class {node.said.class_name} by its last heartbeat, and asks for {ask.class_name}: "
            f"ask for the class that it runs"
        )
    if ask.from_version != node.version or ask.to_version != node.version + 1:
        raise ConflictError(
            f"node {node.id} runs version {node.version} by its last heartbeat, and asks to go from "
            f"{ask.from_version} to {ask.to_version}: its next step is from {node.version} to {node.version + 1}"
        )
    if ask.to_version > len(picture.releases):
        raise NotThereError(
            f"system {picture.system} has no release {ask.to_version}, the newest is {len(picture.releases)}: "
            f"publish it first"
        )
    return picture.releases[ask.to_version - 1]
