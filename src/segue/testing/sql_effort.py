"""How much a database does for an answer, counted by itself: no stopwatch, which other work disturbs."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.orm import Session

_LOOKED_AT = text(
    "SELECT coalesce(sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)), 0) "
    "FROM pg_stat_xact_user_tables WHERE relname IN :tables"
).bindparams(bindparam("tables", expanding=True))


def effort(session: Session, question: Callable[[], object], *tables: str) -> int:
    """Ask, and return how much that was: rows that PostgreSQL looked at, or hundreds of SQLite's steps.

    Args:
        session: in a transaction.
        question: asks by it.
        tables: whose rows PostgreSQL is to count.
    """
    if session.get_bind().dialect.name == "sqlite":
        return _steps(session, question)
    before = session.execute(_LOOKED_AT, {"tables": tables}).scalar_one()
    question()
    return int(session.execute(_LOOKED_AT, {"tables": tables}).scalar_one() - before)


def _steps(session: Session, question: Callable[[], object]) -> int:
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    raw: Any = session.connection().connection.driver_connection
    raw.set_progress_handler(count, 100)
    question()
    raw.set_progress_handler(None, 0)
    return steps
