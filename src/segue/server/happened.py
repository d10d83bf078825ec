"""The history of a system as operators read it, a page at a time."""

from collections.abc import Collection
from dataclasses import dataclass

from segue.model.history import Kind
from segue.model.ids import NodeId, SystemName
from segue.server.history import Entry
from segue.server.store import Store
from segue.wire.hand import HistoryEntry, HistoryPage

_KINDS = frozenset(kind.value for kind in Kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What of a history is asked for.

    Attributes:
        after: the number of the last entry that is known.
        limit: so many at most.
        last: instead, so many of the last ones; None for the first.
        node: only what is about this node; None for all.
        kinds: only these; empty for all.
    """

    after: int
    limit: int
    last: int | None
    node: NodeId | None
    kinds: Collection[str]


def page_of(store: Store, system: SystemName, asked: Asked) -> HistoryPage:
    """Return the entries that are asked for, the oldest first, without what is bulky.

    Args:
        store: the upgrade database.
        system: which.
        asked: which entries.

    Raises:
        PeerError: the database does not answer now.
    """
    kinds = [Kind(name) for name in asked.kinds if name in _KINDS]
    if asked.kinds and not kinds:
        return HistoryPage(entries=(), more_after=None)
    if asked.last is not None:
        found = store.history(system, after=asked.after, limit=asked.last, node=asked.node, kinds=kinds, last=True)
        return HistoryPage(entries=tuple(map(_row, found)), more_after=None)
    found = store.history(system, after=asked.after, limit=asked.limit + 1, node=asked.node, kinds=kinds)
    page = tuple(_row(entry) for entry in found[: asked.limit])
    return HistoryPage(entries=page, more_after=page[-1].number if len(found) > asked.limit else None)


def _row(entry: Entry) -> HistoryEntry:
    return HistoryEntry(
        number=entry.number, at=entry.at, kind=entry.kind.value, node=entry.node, version=entry.version, who=entry.who,
        text=entry.text, details=dict(entry.details),
    )  # fmt: skip
