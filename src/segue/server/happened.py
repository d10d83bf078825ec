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
        before: of those that have smaller numbers than this.
        node: only what is about this node; None for all.
        kinds: only these; empty for all.
    """

    after: int
    limit: int
    last: int | None
    before: int
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
    # Read before the entries are: what is there by then is seen below.
    end = store.last_number(system)
    kinds = [Kind(name) for name in asked.kinds if name in _KINDS]
    if asked.kinds and not kinds:
        return HistoryPage(entries=(), more_after=None, up_to=end)
    if asked.last is not None:
        return _last(store, system, asked, kinds, end)
    found = store.history(system, after=asked.after, limit=asked.limit + 1, node=asked.node, kinds=kinds)
    page = tuple(_row(entry) for entry in found[: asked.limit])
    if len(found) > asked.limit:
        return HistoryPage(entries=page, more_after=page[-1].number, up_to=page[-1].number)
    return HistoryPage(entries=page, more_after=None, up_to=max([end, *(entry.number for entry in page[-1:])]))


def _last(store: Store, system: SystemName, asked: Asked, kinds: Collection[Kind], end: int) -> HistoryPage:
    """Return the last entries that are asked for; `end` is the number of the last one that there is."""
    last = asked.last or 0
    found = store.history(system, after=asked.after, before=asked.before, limit=last + 1, node=asked.node, kinds=kinds)
    page = tuple(_row(entry) for entry in found[-last:])
    return HistoryPage(
        entries=page,
        more_after=None,
        more_before=page[0].number if len(found) > last else None,
        up_to=min(asked.before - 1, max([end, *(entry.number for entry in page[-1:])])),
    )


def _row(entry: Entry) -> HistoryEntry:
    return HistoryEntry(
        number=entry.number, at=entry.at, kind=entry.kind.value, node=entry.node, version=entry.version, who=entry.who,
        text=entry.text, details=dict(entry.details),
    )  # fmt: skip
