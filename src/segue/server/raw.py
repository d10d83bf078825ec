"""Rows of SQL as the driver has them: to make times and rows of them takes long for a large fleet."""

import json
from collections.abc import Callable
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session


def raw_rows(session: Session, wanted: Select[Any], key: Callable[[tuple[Any, ...]], Any]) -> list[tuple[Any, ...]]:
    """Return what was read, as the driver has it: it differs from one to the next, and tells whether a row changed.

    Args:
        session: in a transaction.
        wanted: what is read, in any order.
        key: what the rows are sorted by.
    """
    connection = session.connection()
    if connection.dialect.name == "sqlite":
        # All in one row: Python's driver stops for other threads at every row, and would wait for them 10,000 times.
        inner = wanted.subquery()
        whole = connection.scalar(select(func.json_group_array(func.json_array(*inner.c))))
        rows = [tuple(row) for row in json.loads(whole or "[]")]
    else:
        cursor = connection.execute(wanted).cursor
        assert cursor is not None, f"{wanted} returns no rows"
        rows = list(cursor.fetchall())
    return sorted(rows, key=key)
