"""Rule: what is bulky and old is removed rarely and in parts, and what is not old is not looked at for that."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, text

from segue.model.history import Kind
from segue.model.ids import NodeId
from segue.server.facts import Report
from segue.server.retention import REMOVE_EVERY_S, is_due
from segue.server.sql import SqlStore
from segue.server.sql_removal import PART, PARTS_AT_ONCE, old_rows, remove
from segue.testing.server import SYSTEM, HeldClock
from segue.testing.sql_effort import effort
from segue.wire.messages import Heartbeat, UsageRow

KEEP = timedelta(days=1)
BEGIN = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
SAID = Heartbeat(class_name="BlockNode", version=1, address="h:1", phase="serving", failure="x", failure_details="tb")


def usage(caller: str, count: int = 1) -> UsageRow:
    return UsageRow(
        incarnation="a", node_version=1, caller_version=1, caller=caller, method="/s/Put", answered_by="current",
        from_node=False, outcome="OK", count=count,
    )  # fmt: skip


def write_phases(store: SqlStore, count: int) -> None:
    """Have a node in as many phases, at the store's time."""
    at = f"{store.now():%Y-%m-%d %H:%M:%S.%f}+00:00"
    with store.database.migrating() as connection:
        last = connection.execute(text("SELECT coalesce(max(number), 0) FROM history")).scalar_one()
        connection.execute(
            text(
                "INSERT INTO history (system, number, at, kind, node, version, who, text, details) "
                f"WITH RECURSIVE entries(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM entries WHERE i < {count}) "
                f"SELECT '{SYSTEM}', {last} + i, '{at}', 'phase', 'n1', 1, '', '', '{{}}' FROM entries"
            )
        )


@pytest.fixture
def clock(sql_store: SqlStore) -> HeldClock:
    sql_store.clock = clock = HeldClock()
    return clock


def phases(store: SqlStore) -> int:
    return len(store.history(SYSTEM, limit=1_000_000, kinds=(Kind.PHASE,)))


def test_it_is_looked_for_once_an_hour(sql_store: SqlStore, clock: HeldClock) -> None:
    """Leases are looked at every few seconds; what was removed an hour later was kept for days."""
    assert sql_store.tend(KEEP)
    sql_store.hear([Report.of(SYSTEM, NodeId("n1"), SAID)])
    clock.move(REMOVE_EVERY_S - 1)
    assert sql_store.tend(timedelta(0))
    assert phases(sql_store) == 1
    clock.move(10)
    assert sql_store.tend(timedelta(0))
    assert phases(sql_store) == 0


@pytest.mark.parametrize(
    ("done_s_ago", "due"),
    [(None, True), (0, False), (REMOVE_EVERY_S - 1, False), (REMOVE_EVERY_S, True), (-1, True)],
)
def test_when_it_is_due(done_s_ago: float | None, due: bool) -> None:
    """Also after the clock was set back, in whatever the future was."""
    assert is_due(None if done_s_ago is None else BEGIN - timedelta(seconds=done_s_ago), BEGIN) is due


def test_others_write_between_two_parts(sql_store: SqlStore, clock: HeldClock) -> None:
    """And between many of them leases are looked at."""
    write_phases(sql_store, PART * PARTS_AT_ONCE + 1)
    clock.move(86400 + 1)
    written: list[int] = []
    engine = sql_store.database._engine  # type: ignore[attr-defined]

    @event.listens_for(engine, "after_cursor_execute")
    def _count(_connection, cursor, statement, _parameters, _context, _many):  # type: ignore[no-untyped-def]
        if statement.startswith("DELETE FROM history "):
            written.append(cursor.rowcount)

    assert sql_store.tend(KEEP)
    assert phases(sql_store) == 1
    assert len(written) == PARTS_AT_ONCE
    assert max(written) <= PART
    clock.move(10)
    assert sql_store.tend(KEEP)
    assert phases(sql_store) == 0


def test_what_is_not_old_is_not_looked_at(sql_store: SqlStore) -> None:
    """However much there is of it, of history and of calls."""
    sql_store.hear([Report.of(SYSTEM, NodeId("n1"), SAID.model_copy(update={"usage": tuple(map(usage, "abc"))}))])
    write_phases(sql_store, 20_000)
    with sql_store.database.migrating() as connection:
        connection.execute(
            text(
                "INSERT INTO calls (system, node, incarnation, node_version, caller_version, caller, method, "
                "answered_by, from_node, outcome, count, last_at) "
                "WITH RECURSIVE entries(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM entries WHERE i < 20000) "
                "SELECT system, node, 'p' || i, node_version, caller_version, caller, method, answered_by, from_node, "
                "outcome, count, last_at FROM entries, calls WHERE caller = 'a'"
            )
        )
        if connection.dialect.name == "postgresql":
            connection.execute(text("ANALYZE history, history_bulk, calls"))
    with sql_store.database.reading() as session:
        assert effort(session, lambda: old_rows(session, sql_store.now() - KEEP), "history", "calls") < 100


def test_calls_that_go_on_meanwhile_are_kept(sql_store: SqlStore, clock: HeldClock) -> None:
    sql_store.hear([Report.of(SYSTEM, NodeId("n1"), SAID.model_copy(update={"usage": (usage("a"), usage("b"))}))])
    clock.move(86400 + 1)
    with sql_store.database.reading() as session:
        old = old_rows(session, clock.now() - KEEP)
    assert sorted(len(keys) for keys in old.values()) == [1, 1, 2]
    sql_store.hear([Report.of(SYSTEM, NodeId("n1"), SAID.model_copy(update={"usage": (usage("b", 2),)}))])
    with sql_store.database.writing() as session:
        remove(session, old, clock.now() - KEEP)
    assert [(row.caller, row.count) for row in sql_store.callers_of(SYSTEM)] == [("b", 2)]
    assert [entry.bulk for entry in sql_store.history(SYSTEM, kinds=(Kind.FAILED,))] == [""]
