"""Rule: the status says what is, in words, and counts each call once."""

from datetime import timedelta
from typing import Any

import pytest

from segue.errors import OperatorError
from segue.model.ids import NodeId, SystemName
from segue.testing.server import SYSTEM, Bench, bundle_of
from segue.wire.messages import Condition, DiskRow, Heartbeat, ProgressRow, UsageRow, UsageStatus


def calls(
    count: int, *, caller: int = 1, incarnation: str = "a", method: str = "/s/Get", at: int = 1, who: str = "billing"
) -> UsageRow:
    return UsageRow(
        incarnation=incarnation,
        node_version=at,
        caller_version=caller,
        caller=who,
        method=method,
        answered_by="current" if caller == at else "past",
        from_node=False,
        outcome="OK",
        count=count,
    )


async def publish(bench: Bench, *versions: int) -> None:
    for version in versions:
        await bench.server.publish(bundle_of(version))


async def test_a_heartbeat_learns_of_the_newest_version(bench: Bench) -> None:
    assert await bench.beat("n1", 0) == 0
    assert await bench.server.releases(SYSTEM) == ()
    await bench.server.publish(bundle_of(1))
    assert await bench.beat("n1", 0) == 1


async def test_the_larger_of_two_counts_is_right(bench: Bench) -> None:
    """Whichever comes last: a heartbeat may overtake another, and an agent that starts anew says all again."""
    await publish(bench, 1)
    for count in (3, 5, 5, 4):
        await bench.beat("n1", usage=(calls(count),))
    (node,) = (await bench.server.status(SYSTEM)).nodes
    assert node.answered == {1: 5}


async def test_counts_of_other_processes_and_methods_are_added(bench: Bench) -> None:
    await publish(bench, 1)
    await bench.beat("n1", usage=(calls(5), calls(2, method="/s/Put")))
    await bench.beat("n1", usage=(calls(1, incarnation="b", caller=1, at=2), calls(7, incarnation="b", caller=2, at=2)))
    await bench.beat("n2", usage=(calls(100), calls(1, who="10.0.0.7")))
    status = await bench.server.status(SYSTEM)
    assert [(node.id, node.answered) for node in status.nodes] == [("n1", {1: 8, 2: 7}), ("n2", {1: 101})]
    assert [
        (row.node_version, row.caller_version, row.caller, row.method, row.answered_by, row.count)
        for row in status.usage
    ] == [
        (1, 1, "10.0.0.7", "/s/Get", "current", 1),
        (1, 1, "billing", "/s/Get", "current", 105),
        (1, 1, "billing", "/s/Put", "current", 2),
        (2, 1, "billing", "/s/Get", "past", 1),
        (2, 2, "billing", "/s/Get", "current", 7),
    ]
    assert all(isinstance(row, UsageStatus) for row in status.usage)


async def test_when_a_caller_last_called(bench: Bench) -> None:
    """A count that is said again is no new call."""
    await publish(bench, 1)
    began = bench.clock.now()

    async def last() -> dict[str, float]:
        usage = (await bench.server.status(SYSTEM)).usage
        return {row.caller: (row.last_at - began).total_seconds() for row in usage}

    await bench.beat("n1", usage=(calls(4, who="billing"),))
    bench.clock.move(10)
    await bench.beat("n1", usage=(calls(4, who="billing"), calls(1, who="stock")))
    assert await last() == {"billing": 0, "stock": 10}
    bench.clock.move(10)
    await bench.beat("n2", usage=(calls(1, who="billing"),))
    assert await last() == {"billing": 20, "stock": 10}


async def test_no_count_is_too_large_to_be_added(bench: Bench) -> None:
    """A node with a bug must not take the status from everybody, for good."""
    await publish(bench, 1)
    most = 2**53
    rows = [calls(most, method=f"/s/{number}") for number in range(1025)]
    for start in range(0, len(rows), 205):
        await bench.beat("n1", usage=tuple(rows[start : start + 205]))
    status = await bench.server.status(SYSTEM)
    assert status.nodes[0].answered == {1: 1025 * most}
    assert [row.count for row in status.usage] == [most] * 1025
    with pytest.raises(ValueError, match="less than or equal to 9007199254740992"):
        calls(most + 1)


async def test_a_node_is_shown_as_it_was_last_heard(bench: Bench) -> None:
    await publish(bench, 1)
    await bench.beat("n1", zone="b")
    bench.clock.move(5)
    status = await bench.server.status(SYSTEM)
    (node,) = status.nodes
    assert (node.version, node.address, node.attributes, node.away) == (1, "127.0.0.1:9001", {"zone": "b"}, False)
    assert status.at - node.last_seen == timedelta(seconds=5)


async def test_what_a_node_waits_for_is_as_of_now(bench: Bench) -> None:
    for version in (1, 2):
        await bench.server.publish(bundle_of(version))
    for node in ("n1", "n2"):
        await bench.beat(node)
    permit = (await bench.ask("n1")).permit
    await bench.ask("n2")
    status = await bench.server.status(SYSTEM)
    assert [(node.id, node.away, node.waits_for) for node in status.nodes] == [
        ("n1", True, None),
        ("n2", False, "1 of 1 node is away (n1)"),
    ]
    await bench.give_back("n1", permit)
    status = await bench.server.status(SYSTEM)
    assert [(node.id, node.away, node.waits_for) for node in status.nodes] == [
        ("n1", False, None),
        ("n2", False, "nothing any more: it goes when it next asks"),
    ]
    assert [(row.node, row.to_version, row.returned_at is None) for row in status.permits] == [("n1", 2, False)]


async def test_a_node_that_stopped_asking_waits_for_nothing(bench: Bench) -> None:
    for version in (1, 2):
        await bench.server.publish(bundle_of(version))
    for node in ("n1", "n2"):
        await bench.beat(node)
    await bench.ask("n1")
    await bench.ask("n2")
    bench.clock.move(20)
    assert (await bench.server.status(SYSTEM)).nodes[1].waits_for is None
    await bench.beat("n2", 2)
    assert (await bench.server.status(SYSTEM)).nodes[1].waits_for is None


async def test_an_unknown_system_is_refused(bench: Bench) -> None:
    nobody = SystemName("nobody")
    with pytest.raises(OperatorError, match="no system nobody is known here"):
        await bench.server.status(nobody)
    with pytest.raises(OperatorError, match="no system nobody is known here"):
        await bench.server.releases(nobody)


async def test_how_a_node_is_is_shown_as_it_said(bench: Bench) -> None:
    """Whatever its condition has: nothing is left out on the way."""
    now = bench.clock.now()
    condition: dict[str, Any] = {
        "hand_over": "stop and start",
        "progress": ProgressRow(items_done=1, items_total=4, seconds_left=3.5),
        "attempts": 1,
        "attempts_limit": 3,
        "retry_at": now,
        "waits_for_operator": True,
        "crashes": 2,
        "disk": DiskRow(state_bytes=5, old_bytes=4, releases_bytes=3, free_bytes=2, measured_at=now),
    }
    assert set(condition) == set(Condition.model_fields)
    await publish(bench, 1)
    said = Heartbeat(class_name="BlockNode", version=1, address="h:1", phase="transforming", **condition)
    await bench.server.heartbeat(SYSTEM, NodeId("n1"), said)
    (node,) = (await bench.server.status(SYSTEM)).nodes
    assert {name: getattr(node, name) for name in condition} == condition
