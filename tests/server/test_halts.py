"""Rule: that a rollout halted by itself is written down once, whoever sees it first, and so is that it is over."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from segue.model.hand import Deed
from segue.model.history import Kind
from segue.model.ids import NodeId
from segue.model.silence import LEASE_S
from segue.server.halts import watch
from segue.testing.server import SYSTEM, Bench, bundle_of
from segue.wire.hand import ActionAnswer, ActionRequest

NODES = ("n1", "n2", "n3")
SCHEDULE = "max_unavailable = 2\nfailure_budget = {limit}"


async def fleet(bench: Bench, *, limit: int = 1, releases: int = 2) -> None:
    for version in range(1, releases + 1):
        await bench.server.publish(bundle_of(version, schedule=SCHEDULE.format(limit=limit)))
    tend(bench)
    for node in NODES:
        await bench.beat(node)


def tend(bench: Bench) -> None:
    bench.store.tend(timedelta(days=90), watch)


async def listen(bench: Bench, seconds: float, nodes: Sequence[str], versions: dict[str, int] | None = None) -> None:
    """Let time pass in which a server is there, and these nodes report."""
    for _ in range(round(seconds / 5)):
        bench.clock.move(5)
        for node in nodes:
            await bench.beat(node, (versions or {}).get(node, 1))
        tend(bench)


async def fail(bench: Bench, node: str) -> None:
    await bench.give_back(node, (await bench.ask(node)).permit, "its self-test failed", final=True)


async def act(bench: Bench, deed: Deed, **fields: object) -> ActionAnswer:
    bench.clock.move(1)
    return await bench.server.act(SYSTEM, ActionRequest.model_validate({"deed": deed, "who": "ada", **fields}))


def told(bench: Bench) -> list[tuple[Kind, int | None, str]]:
    """Return what the history has of halts."""
    entries = bench.store.history(SYSTEM)
    return [(one.kind, one.version, one.text) for one in entries if one.kind in (Kind.HALTED, Kind.LIFTED)]


HALTED = (Kind.HALTED, 2, "1 of 1 failures (n1 failed)")
SILENT = (Kind.HALTED, 2, "1 of 1 failures (n1 silent)")


async def test_a_failure_that_spends_the_budget_is_followed_by_the_halt(bench: Bench) -> None:
    """In the transaction that takes the permit back: nobody sees the one without the other."""
    await fleet(bench)
    await fail(bench, "n1")
    last = bench.store.history(SYSTEM)[-2:]
    assert [entry.kind for entry in last] == [Kind.RETURNED, Kind.HALTED]
    assert told(bench) == [HALTED]
    assert last[1].details == {
        "class_name": "BlockNode", "limit": 1, "failed": ["n1"], "silent": [], "halted_at": last[1].at.isoformat(),
    }  # fmt: skip
    assert "halted: 1 of 1 failures (n1 failed)" in (await bench.ask("n2")).reason
    tend(bench)
    assert told(bench) == [HALTED]
    (halt,) = (await bench.server.summary(SYSTEM)).halts
    assert (halt.version, halt.at) == (2, bench.clock.now())


async def test_a_failure_that_does_not_spend_it_is_none(bench: Bench) -> None:
    await fleet(bench, limit=2)
    await fail(bench, "n1")
    tend(bench)
    assert told(bench) == []


async def test_a_lost_node_halts_though_nobody_asks(bench: Bench) -> None:
    await fleet(bench)
    assert (await bench.ask("n1")).permit
    await listen(bench, LEASE_S - 5, ["n2", "n3"])
    assert told(bench) == []
    await listen(bench, 20, ["n2", "n3"])
    assert told(bench) == [SILENT]


async def test_a_lost_node_that_has_the_release_halts_as_well(bench: Bench) -> None:
    """It holds no permit any more, and no lease ends."""
    await fleet(bench)
    await bench.give_back("n1", (await bench.ask("n1")).permit)
    await listen(bench, LEASE_S, ["n2", "n3"])
    assert told(bench) == [SILENT]


async def test_a_node_that_is_told_so_is_who_writes_it_down(bench: Bench) -> None:
    """A decision may see it before a server looks after the database: the halt is kept with its answer."""
    await fleet(bench)
    assert (await bench.ask("n1")).permit
    await listen(bench, LEASE_S - 5, ["n2", "n3"])
    bench.clock.move(5)
    await bench.beat("n2")
    assert "halted: 1 of 1 failures (n1 silent)" in (await bench.ask("n2")).reason
    assert told(bench) == [SILENT]
    await bench.ask("n2")
    tend(bench)
    assert told(bench) == [SILENT]


async def test_a_halt_stands_though_the_silent_node_is_back(bench: Bench) -> None:
    """Also if it is upgraded by then: somebody has to look. Then it is over, and what was before does not count."""
    await fleet(bench)
    permit = (await bench.ask("n1")).permit
    await listen(bench, LEASE_S, ["n2", "n3"])
    await bench.beat("n1", 2)
    await bench.give_back("n1", permit)
    await listen(bench, 100, NODES, {"n1": 2})
    assert told(bench) == [SILENT]
    assert "(n1 was silent); an operator must resume" in (await bench.ask("n2")).reason
    answer = await act(bench, Deed.RESUME, why="its machine was restarted")
    assert "Failures until now (n1) count against no failure budget any more" in answer.words
    assert told(bench) == [SILENT, (Kind.LIFTED, 2, "resume by ada")]
    assert (await bench.ask("n2")).permit
    assert (await bench.server.summary(SYSTEM)).halts == ()


async def test_a_node_that_is_back_is_retried_to_end_the_halt(bench: Bench) -> None:
    """Whoever says that it may be tried again has looked."""
    await fleet(bench)
    permit = (await bench.ask("n1")).permit
    await listen(bench, LEASE_S, ["n2", "n3"])
    await bench.beat("n1", 2)
    await bench.give_back("n1", permit)
    answer = await act(bench, Deed.RETRY, node="n1")
    assert answer.words == "n1 runs release 2, and its silence counts no more."
    assert told(bench) == [SILENT, (Kind.LIFTED, 2, "retry n1 by ada")]
    assert (await bench.ask("n2")).permit


async def test_an_upgrade_server_that_was_away_halts_nothing(bench: Bench) -> None:
    """It finds all nodes silent, and so would one whose clock was put forward; none of them need have failed."""
    await fleet(bench)
    await bench.give_back("n1", (await bench.ask("n1")).permit)
    bench.clock.move(3600)
    await bench.beat("n2")
    assert (await bench.ask("n2")).reason == "2 of 2 nodes are away (n1 silent, n3 silent)"
    await listen(bench, LEASE_S - 5, ["n2", "n3"])
    await bench.beat("n1", 2)
    tend(bench)
    assert told(bench) == []
    assert (await bench.ask("n2")).permit


@pytest.mark.parametrize(
    ("deed", "fields", "why"),
    [
        (Deed.RESUME, {}, "resume by ada"),
        (Deed.RETRY, {"node": "n1"}, "retry n1 by ada"),
        (Deed.SKIP, {"node": "n1"}, "skip n1 by ada"),
        (Deed.ABORT, {}, "abort by ada"),
    ],
)
async def test_what_an_operator_does_ends_a_halt(bench: Bench, deed: Deed, fields: dict[str, str], why: str) -> None:
    """In the same transaction, right after the order."""
    await fleet(bench)
    await fail(bench, "n1")
    await act(bench, deed, **fields)
    assert [entry.kind for entry in bench.store.history(SYSTEM)[-2:]] == [Kind.ACTED, Kind.LIFTED]
    assert told(bench) == [HALTED, (Kind.LIFTED, 2, why)]
    tend(bench)
    assert len(told(bench)) == 2


async def test_a_lost_node_that_is_forgotten_ends_a_halt(bench: Bench) -> None:
    await fleet(bench)
    assert (await bench.ask("n1")).permit
    await listen(bench, LEASE_S, ["n2", "n3"])
    await act(bench, Deed.FORGET, node="n1")
    assert told(bench) == [SILENT, (Kind.LIFTED, 2, "forget n1 by ada")]
    await bench.beat("n2")
    await bench.beat("n3")
    assert (await bench.ask("n2")).permit


async def test_other_orders_leave_it_as_it_is(bench: Bench) -> None:
    await fleet(bench)
    await fail(bench, "n1")
    await act(bench, Deed.PAUSE)
    await act(bench, Deed.SKIP, node="n2")
    tend(bench)
    assert told(bench) == [HALTED]


async def test_a_later_release_leads_on(bench: Bench) -> None:
    """Past one that failed: the halt holds nobody any more, and is not shown, nor measured."""
    await fleet(bench)
    await fail(bench, "n1")
    await bench.server.publish(bundle_of(3, schedule=SCHEDULE.format(limit=1)))
    assert told(bench) == [HALTED, (Kind.LIFTED, 2, "release 3 leads on, and no node stops at 2")]
    assert (await bench.server.summary(SYSTEM)).halts == ()
    # One that has not heard of it yet, or cannot install it, is refused as before; that is no other halt.
    for _ in range(2):
        assert (await bench.ask("n2", since=1, to=2)).permit is None
        await listen(bench, 5, NODES)
    assert [kind for kind, *_ in told(bench)] == [Kind.HALTED, Kind.LIFTED]
    answer = await bench.ask("n2", since=1, to=3)
    assert answer.permit
    assert answer.to_version == 3


async def test_a_rollout_that_nobody_waits_for_is_not_halted(bench: Bench) -> None:
    """All have the release when one that has it is lost: a node that is down, and no rollout to hold."""
    await fleet(bench)
    for node in NODES:
        await bench.give_back(node, (await bench.ask(node)).permit)
        await bench.beat(node, 2)
    await listen(bench, LEASE_S + 10, ["n2", "n3"], dict.fromkeys(NODES, 2))
    assert told(bench) == []
    assert NodeId("n1") in [node.id for node in (await bench.server.status(SYSTEM)).nodes if node.silent]
