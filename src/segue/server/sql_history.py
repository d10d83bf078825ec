"""The history of systems in SQL."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Select, select, union_all
from sqlalchemy.orm import Session

from segue.model.history import Kind
from segue.model.ids import NodeId, SystemName, Version
from segue.server.databases import Insert
from segue.server.history import Entry
from segue.server.schema import Base, BulkRow, HeadRow, HistoryRow, table_of


def record(
    session: Session, insert: Callable[[type[Base]], Insert], system: SystemName, entries: Sequence[Entry]
) -> None:
    """Add `entries` to the history, in the transaction of `session`; it should be the last that this does.

    Who adds holds the end of the history until the transaction ends: entries are seen in the order of their numbers,
    so that a reader who knows the last number that it has seen misses none.

    Args:
        session: in a transaction.
        insert: the database's.
        system: whose history.
        entries: the oldest first.
    """
    if not entries:
        return
    head = insert(HeadRow).values(system=system, last=len(entries))
    last = session.execute(
        head.on_conflict_do_update(
            index_elements=["system"], set_={"last": table_of(HeadRow).c.last + head.excluded.last}
        ).returning(table_of(HeadRow).c.last)
    ).scalar_one()
    rows = []
    bulk = []
    for number, entry in enumerate(entries, start=last - len(entries) + 1):
        rows.append(
            {
                "system": system, "number": number, "at": entry.at, "kind": entry.kind.value, "node": entry.node,
                "version": entry.version, "who": entry.who, "text": entry.text,
                "details": json.dumps(dict(entry.details)),
            }
        )  # fmt: skip
        if entry.bulk:
            bulk.append({"system": system, "number": number, "content": entry.bulk})
    session.execute(insert(HistoryRow), rows)
    if bulk:
        session.execute(insert(BulkRow), bulk)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What of a history is asked for, as `Store.history` has it."""

    after: int
    limit: int
    node: NodeId | None
    kinds: frozenset[Kind]
    before: int | None


def read_history(session: Session, system: SystemName, asked: Asked) -> tuple[Entry, ...]:
    """Return what of the history is asked for, the oldest first; however long it is, no more is read than `limit`."""
    row, bulk = table_of(HistoryRow), table_of(BulkRow)
    joined = row.outerjoin(bulk, (row.c.system == bulk.c.system) & (row.c.number == bulk.c.number))
    wanted = (
        select(
            row.c.number, row.c.at, row.c.kind, row.c.node, row.c.version, row.c.who, row.c.text, row.c.details,
            bulk.c.content,
        )
        .select_from(joined)
        .where(row.c.system == system, row.c.number.in_(_numbers(system, asked)))
        .order_by(row.c.number)
    )  # fmt: skip
    return tuple(
        Entry(
            number=number,
            at=at,
            kind=Kind(kind),
            node=NodeId(about) if about else None,
            version=Version(version) if version else None,
            who=who,
            text=text,
            details=json.loads(details),
            bulk=content or "",
        )
        for number, at, kind, about, version, who, text, details, content in session.execute(wanted)
    )


def _numbers(system: SystemName, asked: Asked) -> Select[int]:
    """Return the numbers of what is asked for.

    An index has the entries of one kind in their order, and of one node and kind. So each kind is looked for by itself:
    of several at once, or of a node's many, the database would go through all that there are.
    """
    row = table_of(HistoryRow).c

    def first(number: ColumnElement[int], *which: ColumnElement[bool]) -> Select[int]:
        order = number if asked.before is None else number.desc()
        return select(number).where(*which).order_by(order).limit(asked.limit)

    which = [row.system == system, row.number > asked.after]
    if asked.before is not None:
        which.append(row.number < asked.before)
    kinds = asked.kinds
    if asked.node is not None:
        which.append(row.node == asked.node)
        kinds = kinds or frozenset(Kind)
    if not kinds:
        return first(row.number, *which)
    of_kinds = (first(row.number, *which, row.kind == kind.value) for kind in sorted(kinds))
    return first(union_all(*(select(one.subquery().c.number) for one in of_kinds)).subquery().c.number)
