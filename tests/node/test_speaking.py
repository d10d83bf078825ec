"""Rule: an agent says all that is new, and else only that nothing changed; the server asks for all if it must."""

from pathlib import Path

import pytest

from segue.model.ids import NodeId
from segue.node.backoff import LIMIT_S, Backoff
from segue.node.speaking import Speaking
from segue.server.memory import MemoryStore
from segue.testing.server import SYSTEM, bundle_of, open_bench
from segue.wire.messages import Heartbeat, UsageRow

N1 = NodeId("n1")
SAID = Heartbeat(class_name="BlockNode", version=1, address="h:1", phase="serving")


def usage(count: int) -> UsageRow:
    return UsageRow(
        incarnation="a", node_version=1, caller_version=1, caller="c", method="/s/Get", answered_by="current",
        from_node=False, outcome="OK", count=count,
    )  # fmt: skip


async def test_a_node_that_has_yet_to_begin_says_all_each_time(tmp_path: Path) -> None:
    """What it is to begin with is told only then, and may change."""
    new = SAID.model_copy(update={"version": 0, "phase": "new"})
    async with open_bench(MemoryStore(), tmp_path) as bench:
        speaking = Speaking(bench.server, SYSTEM, N1)
        assert (await speaking.send(new)).first == 0
        await bench.server.publish(bundle_of(1))
        bench.transport.seen.clear()
        await speaking.send(new)
        assert bench.transport.seen == {("report_heartbeat", 200)}


async def test_what_did_not_change_is_not_said_again(tmp_path: Path) -> None:
    async with open_bench(MemoryStore(), tmp_path) as bench:
        await bench.server.publish(bundle_of(1))
        speaking = Speaking(bench.server, SYSTEM, N1)
        bench.transport.seen.clear()
        await speaking.send(SAID)
        assert bench.transport.seen == {("report_heartbeat", 200)}
        bench.transport.seen.clear()
        bench.clock.move(5)
        await bench.server.publish(bundle_of(2))
        assert (await speaking.send(SAID.model_copy(update={"usage": (usage(3),)}))).newest == 2
        assert ("report_heartbeat", 200) not in bench.transport.seen
        (node,) = bench.store.picture_of(SYSTEM).nodes
        assert (node.said, node.last_seen) == (SAID, bench.clock.now())
        assert [row.count for row in bench.store.usage_of(SYSTEM)] == [3]
        changed = SAID.model_copy(update={"phase": "waiting"})
        await speaking.send(changed)
        assert bench.store.picture_of(SYSTEM).nodes[0].said == changed


async def test_a_server_that_forgot_asks_for_all_of_it(tmp_path: Path) -> None:
    store = MemoryStore()
    async with open_bench(store, tmp_path) as bench:
        await bench.server.publish(bundle_of(1))
        speaking = Speaking(bench.server, SYSTEM, N1)
        await speaking.send(SAID)
        known = store._system(SYSTEM)
        known.nodes.clear()
        known.tags.clear()
        await speaking.send(SAID.model_copy(update={"usage": (usage(3),)}))
        assert [node.said for node in store.picture_of(SYSTEM).nodes] == [SAID]
        assert [row.count for row in store.usage_of(SYSTEM)] == [3]


async def test_another_agent_with_the_same_name_is_noticed(tmp_path: Path) -> None:
    async with open_bench(MemoryStore(), tmp_path) as bench:
        await bench.server.publish(bundle_of(1))
        one, other = (Speaking(bench.server, SYSTEM, N1) for _ in range(2))
        await one.send(SAID)
        await other.send(SAID.model_copy(update={"address": "elsewhere:1"}))
        await one.send(SAID)
        assert bench.store.picture_of(SYSTEM).nodes[0].said == SAID


@pytest.mark.parametrize("retry_after_s", [0.0, 1.0, 30.0])
def test_each_failure_waits_longer_and_never_less_than_it_is_told(retry_after_s: float) -> None:
    backoff = Backoff(0.5)
    waits = [backoff.after_failure(retry_after_s) for _ in range(12)]
    for number, wait_s in enumerate(waits):
        about_s = min(0.5 * 2**number, LIMIT_S)
        assert max(0.75 * about_s, retry_after_s) <= wait_s <= 1.25 * max(about_s, retry_after_s)
    assert len(set(waits)) == len(waits), "nodes would come back together"
    backoff.reset()
    assert backoff.after_failure(0.0) <= 0.5 * 1.25
