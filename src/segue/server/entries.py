"""What happened, put into words for the history. Pure."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from segue.model.hand import Action
from segue.model.history import Kind
from segue.model.ids import NodeId, Version
from segue.server.facts import Halt, Permit, Release
from segue.server.history import Entry
from segue.server.words import named as listed
from segue.wire.messages import Heartbeat


def published(release: Release, at: datetime) -> Entry:
    """Say that a release was published."""
    details = {"sha256": release.sha256, "size_bytes": release.size_bytes}
    return Entry(at=at, kind=Kind.PUBLISHED, version=release.version, text=release.description, details=details)


def granted(permit: Permit) -> Entry:
    """Say that a node may go away."""
    return _of_permit(Kind.GRANTED, permit, permit.granted_at, f"from {permit.from_version} to {permit.to_version}")


def shortened(permit: Permit, before: Version, at: datetime) -> Entry:
    """Say that a permit leads less far than `before`."""
    return _of_permit(Kind.SHORTENED, permit, at, f"to {permit.to_version}, and no more to {before}")


def returned(permit: Permit) -> Entry:
    """Say that a node is back."""
    assert permit.returned_at is not None, f"permit {permit.id} is not returned"
    entry = _of_permit(Kind.RETURNED, permit, permit.returned_at, permit.failure or "upgraded")
    details = {"failed": permit.failure is not None, "final": permit.final, "failed_version": permit.failed_version}
    return replace(entry, details={**entry.details, **details})


def lease_of(permit: Permit, at: datetime) -> Entry:
    """Say that the lease of a permit ended, or that its node is heard of again."""
    if permit.lapsed_at is None:
        return _of_permit(Kind.RENEWED, permit, at, "heard of again")
    entry = _of_permit(Kind.LAPSED, permit, at, "silent for too long; it still counts as away")
    return replace(entry, details={**entry.details, "lapsed_at": permit.lapsed_at.isoformat()})


def halted(halt: Halt) -> Entry:
    """Say that a rollout halted by itself."""
    named = [*(f"{node} failed" for node in halt.failed), *(f"{node} silent" for node in halt.silent)]
    return _of_halt(Kind.HALTED, halt, halt.at, f"{len(named)} of {halt.limit} failures ({listed(named)})")


def lifted(halt: Halt, why: str, at: datetime) -> Entry:
    """Say that the halt of a rollout is over."""
    return _of_halt(Kind.LIFTED, halt, at, why)


def heard(node: NodeId, before: Heartbeat | None, said: Heartbeat, at: datetime) -> Iterator[Entry]:
    """Yield what is new in what a node says.

    Args:
        node: who speaks.
        before: what it said before; None if it was never heard of.
        said: what it says.
        at: when.
    """
    about = Version(said.target_version or said.version) or None
    details: dict[str, object]
    if before is None:
        details = {"class_name": said.class_name, "address": said.address, "attributes": said.attributes}
        version = Version(said.version) or None
        yield Entry(at=at, kind=Kind.JOINED, node=node, version=version, text=said.class_name, details=details)
    elif before.version != said.version:
        text = f"{said.version}, and no more {before.version}" if before.version else f"{said.version}"
        yield Entry(at=at, kind=Kind.RUNS, node=node, version=Version(said.version) or None, text=text)
    if before is None or (before.phase, before.target_version) != (said.phase, said.target_version):
        details = {"before": before.phase if before else None, "phase": said.phase}
        yield Entry(at=at, kind=Kind.PHASE, node=node, version=about, text=said.phase, details=details)
    if said.failure is not None and (
        before is None or before.failure != said.failure or before.attempts < said.attempts
    ):
        details = {"phase": said.phase, "attempts": said.attempts, "waits_for_operator": said.waits_for_operator}
        yield Entry(
            at=at, kind=Kind.FAILED, node=node, version=about, text=said.failure, details=details,
            bulk=said.failure_details,
        )  # fmt: skip


def acted(action: Action) -> Entry:
    """Say that an operator did something."""
    others = {"gate": action.gate, "forced": action.forced or None, "unused_s": action.unused_s}
    details = {"deed": action.deed.value, **{name: value for name, value in others.items() if value is not None}}
    return Entry(
        at=action.at, kind=Kind.ACTED, node=action.node, version=action.version, who=action.who, text=action.why,
        details=details,
    )  # fmt: skip


def _of_halt(kind: Kind, halt: Halt, at: datetime, text: str) -> Entry:
    details = {
        "class_name": halt.class_name, "limit": halt.limit, "failed": list(halt.failed), "silent": list(halt.silent),
        "halted_at": halt.at.isoformat(),
    }  # fmt: skip
    return Entry(at=at, kind=kind, version=halt.version, text=text, details=details)


def _of_permit(kind: Kind, permit: Permit, at: datetime, text: str) -> Entry:
    details = {"permit": permit.id, "from_version": permit.from_version, "to_version": permit.to_version}
    return Entry(at=at, kind=kind, node=permit.node, version=permit.to_version, text=text, details=details)
