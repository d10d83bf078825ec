"""Removal of what is bulky and old in SQL, a part at a time: nodes report meanwhile, and ask for permits."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Table, bindparam, delete, select
from sqlalchemy.orm import Session

from segue.server.databases import Database
from segue.server.history import PASSING
from segue.server.retention import is_due
from segue.server.schema import BulkRow, CallsRow, ChoreRow, HistoryRow, table_of

#: Rows of a table that are removed in one transaction, for which on SQLite all who write wait.
PART = 500
#: Parts that are removed one after the other; what is left then is removed when leases were looked at in between.
PARTS_AT_ONCE = 20
_REMOVAL = "remove"
_HISTORY, _BULK, _CALLS = table_of(HistoryRow), table_of(BulkRow), table_of(CallsRow)

#: `{table: the keys of its rows that are to go}`
Old: TypeAlias = Mapping[Table, Sequence[dict[str, Any]]]


def remove_old(database: Database, before: datetime, now: datetime) -> None:
    """Remove phases, tracebacks, and counts of calls that have not grown since `before`, if that is due.

    What is found is looked for without holding up anybody. May run twice at once.

    Args:
        database: which.
        before: what is older goes.
        now: the database's time.

    Raises:
        PeerError: the database does not answer now; what is removed by then stays so.
    """
    with database.reading() as session:
        done = session.get(ChoreRow, _REMOVAL)
        if not is_due(done.done_at if done else None, now):
            return
    for _ in range(PARTS_AT_ONCE):
        with database.reading() as session:
            old = old_rows(session, before)
        with database.writing() as session:
            if not old:
                done_now = database.insert(ChoreRow).values(name=_REMOVAL, done_at=now)
                session.execute(done_now.on_conflict_do_update(index_elements=["name"], set_={"done_at": now}))
                return
            remove(session, old, before)


def old_rows(session: Session, before: datetime) -> Old:
    """Find some of what is bulky and older than `before`, up to `PART` of each kind; empty if there is nothing."""
    of_bulk = (_HISTORY.c.system == _BULK.c.system) & (_HISTORY.c.number == _BULK.c.number)
    # Of each traceback that is there, and not of each failure that ever was, the age is looked up.
    age_of_bulk = select(_HISTORY.c.at).where(of_bulk).scalar_subquery()
    is_passing = _HISTORY.c.kind.in_([kind.value for kind in PASSING])
    conditions: Mapping[Table, ColumnElement[bool]] = {
        _BULK: age_of_bulk < before,
        _HISTORY: is_passing & (_HISTORY.c.at < before),
        _CALLS: _CALLS.c.last_at < before,
    }
    found = {
        table: [dict(row) for row in session.execute(select(*table.primary_key).where(is_old).limit(PART)).mappings()]
        for table, is_old in conditions.items()
    }
    return {table: keys for table, keys in found.items() if keys}


def remove(session: Session, old: Old, before: datetime) -> None:
    """Remove what was found, but for calls whose count has grown meanwhile."""
    for table, keys in old.items():
        these = delete(table).where(*(column == bindparam(f"of_{column.name}") for column in table.primary_key))
        if table is _CALLS:
            these = these.where(_CALLS.c.last_at < before)
        session.connection().execute(these, [{f"of_{name}": value for name, value in key.items()} for key in keys])
