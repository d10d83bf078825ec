"""The history of a system as operators read it, a page at a time."""

from segue.model.ids import NodeId, SystemName
from segue.server.history import Entry
from segue.server.store import Store
from segue.wire.hand import HistoryEntry, HistoryPage

#: What is read at once, to look for what is asked for.
_PART = 1000


def page_of(
    store: Store, system: SystemName, *, after: int, limit: int, node: NodeId | None, kinds: frozenset[str]
) -> HistoryPage:
    """Return the next entries that are asked for, the oldest first, without what is bulky.

    Args:
        store: the upgrade database.
        system: which.
        after: the number of the last entry that is known.
        limit: so many at most.
        node: only what is about this node; None for all.
        kinds: only these; empty for all.

    Raises:
        PeerError: the database does not answer now.
    """
    found: list[Entry] = []
    while len(found) <= limit:
        part = store.history(system, after=after, limit=_PART, node=node)
        found += [entry for entry in part if not kinds or entry.kind in kinds]
        if len(part) < _PART:
            break
        after = part[-1].number
    page = tuple(_row(entry) for entry in found[:limit])
    return HistoryPage(entries=page, more_after=page[-1].number if len(found) > limit else None)


def _row(entry: Entry) -> HistoryEntry:
    return HistoryEntry(
        number=entry.number, at=entry.at, kind=entry.kind.value, node=entry.node, version=entry.version, who=entry.who,
        text=entry.text, details=dict(entry.details),
    )  # fmt: skip
