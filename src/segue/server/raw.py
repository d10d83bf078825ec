"""Rows of SQL as the driver has them: to make times and rows of them takes long for a large fleet."""

from typing import Any

from sqlalchemy import Select
from sqlalchemy.orm import Session


def raw_rows(session: Session, wanted: Select[Any]) -> list[tuple[Any, ...]]:
    """Return what was read, as the driver has it: it differs from one to the next, and tells whether a row changed.

    Args:
        session: in a transaction.
        wanted: what is read.
    """
    cursor = session.connection().execute(wanted).cursor
    assert cursor is not None, f"{wanted} returns no rows"
    return list(cursor.fetchall())
