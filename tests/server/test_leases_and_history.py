"""Rule: what happened stays in the history, and a permit is a lease by the database's clock, whatever servers think."""

from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import exc, text

from segue.model.history import Kind
from segue.model.ids import NodeId
from segue.model.silence import LEASE_S
from segue.server.facts import Report
from segue.server.history import Entry
from segue.server.sql import SqlStore
from segue.testing.server import SYSTEM, Bench, HeldClock, bundle_of
from segue.wire.messages import AgentRow, Heartbeat


def kinds(bench: Bench, node: str | None = None) -> list[Kind]:
    return [entry.kind for entry in bench.store.history(SYSTEM, node=NodeId(node) if node else None)]


async def roll_out(bench: Bench) -> str:
    """Let n1 of two nodes go away; return its permit."""
    for version in (1, 2):
        await bench.server.publish(bundle_of(version))
    for node in ("n1", "n2"):
        await bench.beat(node)
    answer = await bench.ask("n1")
    assert answer.permit
    return answer.permit


async def test_a_permit_whose_node_is_silent_lapses_and_is_not_given_away(bench: Bench) -> None:
    permit = await roll_out(bench)
    bench.clock.move(LEASE_S - 1)
    await bench.beat("n2")
    assert (await bench.ask("n2")).permit is None
    assert bench.store.picture_of(SYSTEM).permits[0].lapsed_at is None
    bench.clock.move(1)
    answer = await bench.ask("n2")
    assert answer.permit is None
    assert "n1" in answer.reason
    (held,) = bench.store.picture_of(SYSTEM).permits
    assert (held.returned_at, held.lapsed_at) == (None, bench.clock.now())
    await bench.beat("n1")
    await bench.ask("n2")
    assert bench.store.picture_of(SYSTEM).permits[0].lapsed_at is None
    await bench.give_back("n1", permit)
    told = [Kind.JOINED, Kind.PHASE, Kind.GRANTED, Kind.LAPSED, Kind.RENEWED, Kind.RETURNED]
    assert kinds(bench, "n1") == told


def listen(bench: Bench, seconds: float) -> None:
    """Let time pass in which a server is there."""
    for _ in range(round(seconds / 5)):
        bench.store.tend(timedelta(days=90))
        bench.clock.move(5)
    bench.store.tend(timedelta(days=90))


async def test_leases_end_though_nobody_asks(bench: Bench) -> None:
    await roll_out(bench)
    listen(bench, LEASE_S - 5)
    assert Kind.LAPSED not in kinds(bench)
    listen(bench, 5)
    assert kinds(bench)[-1] is Kind.LAPSED
    listen(bench, LEASE_S)
    assert kinds(bench).count(Kind.LAPSED) == 1
    bench.clock.move(100)  # no server is there, which brings no node back
    listen(bench, LEASE_S + 5)
    assert kinds(bench).count(Kind.LAPSED) == 1
    assert Kind.RENEWED not in kinds(bench)


async def test_no_lease_ends_while_no_server_is_there(bench: Bench) -> None:
    """Or over a jump of the database's clock: nobody could have heard the node. Then its time begins anew."""
    await roll_out(bench)
    listen(bench, 10)
    for passes_s in (LEASE_S, 3600.0, -7200.0):
        bench.clock.jump(passes_s)
        listen(bench, LEASE_S - 5)
        assert Kind.LAPSED not in kinds(bench)
    listen(bench, 5)
    assert kinds(bench)[-1] is Kind.LAPSED


async def test_a_node_that_seldom_reports_has_a_longer_lease(bench: Bench) -> None:
    await roll_out(bench)
    await bench.beat("n1", agent=AgentRow(folder="f", starts=1, run="r", report_s=30))
    listen(bench, 175)
    assert Kind.LAPSED not in kinds(bench)
    listen(bench, 5)
    assert kinds(bench)[-1] is Kind.LAPSED


async def test_what_passes_is_removed_and_the_rest_stays(bench: Bench) -> None:
    permit = await roll_out(bench)
    said = Heartbeat(class_name="BlockNode", version=1, address="h", phase="busy", failure="x", failure_details="tb")
    bench.store.hear([Report.of(SYSTEM, NodeId("n1"), said)])
    await bench.give_back("n1", permit, "x", final=True)
    before = bench.store.history(SYSTEM)
    assert [entry.bulk for entry in before if entry.kind is Kind.FAILED] == ["tb"]
    bench.clock.move(86400 + 1)
    assert bench.store.tend(timedelta(days=1))
    after = bench.store.history(SYSTEM)
    assert {entry.number for entry in before} - {entry.number for entry in after} == {
        entry.number for entry in before if entry.kind is Kind.PHASE
    }
    assert [entry.bulk for entry in after if entry.kind is Kind.FAILED] == [""]
    assert [entry.text for entry in after if entry.kind is Kind.RETURNED] == ["x"]


async def test_who_reads_on_misses_nothing(bench: Bench) -> None:
    await roll_out(bench)
    whole = bench.store.history(SYSTEM)
    seen: list[Entry] = []
    after = 0
    while part := bench.store.history(SYSTEM, after=after, limit=2):
        seen += part
        after = part[-1].number
    assert tuple(seen) == whole
    assert [entry.number for entry in whole] == list(range(1, len(whole) + 1))


@pytest.mark.parametrize("statement", ["UPDATE history SET text = 'nothing'", "DELETE FROM history"])
def test_the_database_itself_refuses_to_rewrite_it(sql_store: SqlStore, statement: str) -> None:
    said = Heartbeat(class_name="BlockNode", version=1, address="h:1", phase="serving")
    sql_store.hear([Report.of(SYSTEM, NodeId("n1"), said)])
    before = sql_store.history(SYSTEM)
    refused = pytest.raises(exc.DBAPIError, match="the history is never rewritten")
    with refused, sql_store.database.migrating() as connection:
        connection.execute(text(statement))
    assert sql_store.history(SYSTEM) == before


async def test_one_of_several_servers_tends(postgresql_url: str) -> None:
    clock = HeldClock()
    stores = [SqlStore(postgresql_url, clock=clock) for _ in range(3)]
    for _ in range(2):
        assert [store.tend(timedelta(days=1)) for store in stores] == [True, False, False]
        clock.move(10)
    for store in stores:
        store.close()


async def test_servers_whose_clocks_differ_agree(postgresql_url: str, tmp_path: Path) -> None:
    """On PostgreSQL no time comes from a server: two that differ by an hour would else find every node silent."""
    stores = [SqlStore(postgresql_url) for _ in range(2)]
    said = Heartbeat(class_name="BlockNode", version=1, address="h:1", phase="serving")
    times = []
    for number in range(6):
        store = stores[number % 2]
        store.hear([Report.of(SYSTEM, NodeId("n1"), said.model_copy(update={"crashes": number}))])
        times.append(store.picture_of(SYSTEM).nodes[0].last_seen)
    assert times == sorted(times)
    assert (stores[0].now() - times[0]).total_seconds() < 60
    for store in stores:
        store.close()
