"""What happened to a system, as far as releases, permits and operators' actions tell it. Pure."""

from collections.abc import Iterable, Iterator

from segue.model.hand import Action
from segue.server.store import Permit, Picture, Release
from segue.wire.hand import HistoryEntry


def history_in(picture: Picture) -> tuple[HistoryEntry, ...]:
    """Return what happened, the oldest first."""
    found = [
        *map(_published, picture.releases),
        *(entry for permit in picture.permits for entry in _of_permit(permit)),
        *map(_acted, picture.actions),
    ]
    found.sort(key=lambda entry: entry.at)
    return tuple(entry.model_copy(update={"number": number}) for number, entry in enumerate(found, 1))


def page_of(
    entries: Iterable[HistoryEntry], *, after: int, limit: int, node: str | None, kinds: frozenset[str]
) -> tuple[tuple[HistoryEntry, ...], int | None]:
    """Return the next entries that are asked for, and after which number there are more; None if there are none.

    Args:
        entries: all, the oldest first.
        after: the number of the last that is known.
        limit: so many at most.
        node: only what is about this node; None for all.
        kinds: only these; empty for all.
    """
    wanted = [
        entry
        for entry in entries
        if entry.number > after and node in (None, entry.node) and (not kinds or entry.kind in kinds)
    ]
    page = tuple(wanted[:limit])
    return page, page[-1].number if len(wanted) > limit else None


def _published(release: Release) -> HistoryEntry:
    details = {"sha256": release.sha256, "size_bytes": release.size_bytes}
    return HistoryEntry(
        number=0, at=release.published_at, kind="published", version=release.version, text=release.description,
        details=details,
    )  # fmt: skip


def _of_permit(permit: Permit) -> Iterator[HistoryEntry]:
    details = {"permit": permit.id, "from_version": permit.from_version, "to_version": permit.to_version}
    granted = HistoryEntry(
        number=0, at=permit.granted_at, kind="granted", node=permit.node, version=permit.to_version,
        text=f"from {permit.from_version} to {permit.to_version}", details=details,
    )  # fmt: skip
    yield granted
    if permit.returned_at is not None:
        how = {"failed": permit.failure is not None, "final": permit.final, "failed_version": permit.failed_version}
        yield granted.model_copy(
            update={
                "at": permit.returned_at, "kind": "returned", "text": permit.failure or "upgraded",
                "details": {**details, **how},
            }
        )  # fmt: skip


def _acted(action: Action) -> HistoryEntry:
    details = {"deed": action.deed.value, **({"gate": action.gate} if action.gate else {})}
    return HistoryEntry(
        number=0, at=action.at, kind="acted", node=action.node, version=action.version, who=action.who, text=action.why,
        details=details,
    )  # fmt: skip
