"""Takes SQL apart into its statements."""

import sqlite3
from collections.abc import Sequence


def statements_in(sql: str | Sequence[str]) -> list[str]:
    """Return the statements of `sql`, in their order; a trigger's body is part of its statement.

    Args:
        sql: SQL of one statement or several, or a sequence of such texts.
    """
    texts = [sql] if isinstance(sql, str) else sql
    return [statement for text in texts for statement in _split(text)]


def _split(text: str) -> list[str]:
    found: list[str] = []
    begun = ""
    for piece in text.split(";"):
        begun += f"{piece};"
        if sqlite3.complete_statement(begun):
            found.append(begun.strip("; \t\r\n"))
            begun = ""
    if begun.strip("; \t\r\n"):
        found.append(begun.strip("; \t\r\n"))  # what is not complete: SQLite says why
    return [statement for statement in found if not _is_empty(statement)]


def _is_empty(statement: str) -> bool:
    """Say whether there are only comments and blanks in it."""
    lines = [line.partition("--")[0].strip() for line in statement.splitlines()]
    return not "".join(lines)
