"""Rule: what is asked of a history is answered as soon however long it is."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pytest
from sqlalchemy import text

from segue.model.history import Kind
from segue.model.ids import NodeId
from segue.server.history import END
from segue.server.sql import SqlStore
from segue.server.sql_history import Asked, read_history
from segue.testing.server import SYSTEM
from segue.testing.sql_effort import effort

#: Of these each thousandth is an operator's action, each fifth of one node; all others are phases.
ENTRIES = 30_000
WRITTEN = f"""
    INSERT INTO history (system, number, at, kind, node, version, who, text, details)
    WITH RECURSIVE entries(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM entries WHERE i < {ENTRIES})
    SELECT '{SYSTEM}', i, '2030-01-01 12:00:00+00:00', CASE WHEN i % 1000 = 0 THEN 'acted' ELSE 'phase' END,
        CASE WHEN i % 5 = 0 THEN 'n1' ELSE 'n2' END, 1, '', '', '{{}}' FROM entries
"""


@pytest.fixture
def long(sql_store: SqlStore) -> SqlStore:
    """A store with a long history; PostgreSQL has counted it, as it does by itself after a while."""
    with sql_store.database.migrating() as connection:
        connection.execute(text(WRITTEN))
        connection.execute(text(f"INSERT INTO history_heads VALUES ('{SYSTEM}', {ENTRIES})"))
        if connection.dialect.name == "postgresql":
            connection.execute(text("ANALYZE history"))
    return sql_store


ASKED: Sequence[Mapping[str, Any]] = (
    {"kinds": {Kind.ACTED}},
    {"kinds": {Kind.ACTED}, "before": END},
    {"kinds": set(Kind) - {Kind.PHASE}, "before": END},
    {"kinds": {Kind.GRANTED}},
    {"kinds": {Kind.ACTED}, "after": ENTRIES // 2},
    {"node": NodeId("n1"), "before": END},
    {"node": NodeId("n1"), "kinds": {Kind.ACTED}, "before": END},
    {"node": NodeId("n9")},
    {"before": END},
    {"after": ENTRIES},
)


def test_no_more_is_looked_at_than_is_told(long: SqlStore) -> None:
    for which in ASKED:
        every: dict[str, Any] = {"after": 0, "before": None, "limit": 5, "node": None, "kinds": frozenset()}
        asked = Asked(**{**every, **which, "kinds": frozenset(which.get("kinds", ()))})
        with long.database.reading() as session:
            assert effort(session, partial(read_history, session, SYSTEM, asked), "history") < 200, which
