"""Rule: a node that joins does not begin with a release that is held, or has yet to stand what others wait for."""

from typing import Any

import pytest

from segue.model.hand import Deed
from segue.model.ids import ClassName, NodeId, SystemName, Version
from segue.server.facts import Picture
from segue.server.memory import MemoryStore
from segue.server.node_orders import OrdersForNodes
from segue.testing.server import SYSTEM, Bench, HeldClock, bundle_of
from segue.wire.hand import ActionRequest
from segue.wire.messages import Heartbeat

CANARY = 'max_unavailable = 9\ncanary = { nodes = 1, soak = "60s" }'


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a heartbeat is answered by is never old."""
    monkeypatch.setattr("segue.server.node_orders._FRESH_S", 0.0)


async def first(bench: Bench, *, cls: str = "BlockNode") -> int:
    """Have a node join; return what it is to begin with."""
    said = Heartbeat(class_name=cls, version=0, address="h:1", phase="new")
    return (await bench.server.heartbeat(SYSTEM, NodeId("new"), said)).first


async def fleet(bench: Bench, *versions: int, schedule: str = CANARY, releases: int = 2) -> None:
    for version in range(1, releases + 1):
        await bench.server.publish(bundle_of(version, schedule=schedule))
    for number, version in enumerate(versions, 1):
        await bench.beat(f"n{number}", version)


async def upgrade(bench: Bench, node: str, failure: str | None = None) -> None:
    permit = (await bench.ask(node)).permit
    if failure is None:
        await bench.beat(node, 2)
    await bench.give_back(node, permit, failure, final=failure is not None)


async def act(bench: Bench, deed: Deed, **fields: Any) -> None:
    await bench.server.act(SYSTEM, ActionRequest(deed=deed, who="ada", **fields))


async def test_the_first_of_all_begin_with_the_newest(bench: Bench) -> None:
    """Nobody is there who could try it first; but with none that is aborted, nor with what only carries its number."""
    assert await first(bench) == 0
    await fleet(bench)
    await bench.server.publish(bundle_of(3, untouched=("BlockNode",)))
    assert await first(bench) == 3
    await act(bench, Deed.ABORT, version=2)
    assert await first(bench) == 1
    assert await first(bench, cls="Nobody") == 0
    await bench.server.publish(bundle_of(4))
    assert await first(bench) == 4


async def test_a_node_that_has_served_is_told_nothing(bench: Bench) -> None:
    await fleet(bench, 2)
    said = Heartbeat(class_name="BlockNode", version=1, address="h:1", phase="serving")
    assert (await bench.server.heartbeat(SYSTEM, NodeId("n2"), said)).first == 0


async def test_a_release_on_its_canary_is_not_begun_with(bench: Bench) -> None:
    """But when the canary has soaked; an abort ends that."""
    await fleet(bench, 1, 1)
    assert await first(bench) == 1
    await upgrade(bench, "n1")
    bench.clock.move(10)
    await bench.beat("n1", 2)
    assert await first(bench) == 1
    bench.clock.move(50)
    await bench.beat("n1", 2)
    assert await first(bench) == 2
    await act(bench, Deed.ABORT)
    assert await first(bench) == 1


@pytest.mark.parametrize("schedule", [CANARY, "max_unavailable = 9\nfailure_budget = 1"])
async def test_a_release_that_is_halted_is_not_begun_with(bench: Bench, schedule: str) -> None:
    await fleet(bench, 1, 1, 1, schedule=schedule)
    if schedule is not CANARY:
        await upgrade(bench, "n2")
        assert await first(bench) == 2
    await upgrade(bench, "n1", "it broke")
    assert await first(bench) == 1


async def test_a_release_that_waits_for_a_word_is_not_begun_with(bench: Bench) -> None:
    """A gate, whoever was let go before it; a pause; what upgraded nodes report."""
    schedule = 'max_unavailable = 9\ngate = "qa"\nhealthy = { fact = "ms", most = 9 }'
    await fleet(bench, 1, 1, schedule=schedule)
    await act(bench, Deed.FORCE, node="n1", why="to try it")
    await upgrade(bench, "n1")
    well = Heartbeat(class_name="BlockNode", version=2, address="127.0.0.1:9001", phase="serving", facts={"ms": 3.0})
    await bench.server.heartbeat(SYSTEM, NodeId("n1"), well)
    assert await first(bench) == 1
    await act(bench, Deed.APPROVE, gate="qa")
    assert await first(bench) == 2
    await act(bench, Deed.PAUSE)
    assert await first(bench) == 1
    await act(bench, Deed.RESUME)
    await bench.server.heartbeat(SYSTEM, NodeId("n1"), well.model_copy(update={"facts": {"ms": 99.0}}))
    assert await first(bench) == 1


async def test_a_release_that_nobody_serves_is_not_begun_with(bench: Bench) -> None:
    """Also if nothing tries it; then the first node that serves it is enough, whatever says when others may go."""
    freeze = 'max_unavailable = 1\nfreeze = { first = 2030-01-01, last = 2030-01-01 }\nrate = "1/d"\nspread = "1d"'
    await fleet(bench, 1, 1, schedule=freeze)
    assert await first(bench) == 1
    await act(bench, Deed.FORCE, node="n1", why="to try it")
    await upgrade(bench, "n1")
    assert await first(bench) == 2


async def test_a_release_in_its_waves_is_not_begun_with(bench: Bench) -> None:
    """But in the last of them, which is of all nodes."""
    await fleet(bench, 1, 1, 1, schedule='max_unavailable = 9\nwaves = { sizes = ["30%", "100%"], soak = "10s" }')
    await upgrade(bench, "n1")
    assert await first(bench) == 1
    bench.clock.move(10)
    await bench.beat("n1", 2)
    assert await first(bench) == 2


async def test_what_all_have_is_begun_with_whatever_its_schedule_says(bench: Bench) -> None:
    """Those that are skipped are not waited for."""
    await fleet(bench, 1, 1, 1)
    await upgrade(bench, "n1")
    await act(bench, Deed.SKIP, node="n2")
    assert await first(bench) == 1
    await act(bench, Deed.SKIP, node="n3")
    await act(bench, Deed.PAUSE)
    assert await first(bench) == 2


class CountingStore(MemoryStore):
    """Counts who looks at the whole system."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def glance_at(self, system: SystemName, node: NodeId | None = None) -> Picture:
        self.looks += 1
        return super().glance_at(system, node)


async def test_nodes_that_join_together_cost_one_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """And others none: a heartbeat decides nothing over the fleet."""
    monkeypatch.setattr("segue.server.node_orders._FRESH_S", 1.0)
    store, clock = CountingStore(), HeldClock()
    orders = OrdersForNodes(store, clock.steady)
    for _ in range(10):
        assert await orders.first_of(SYSTEM, ClassName("BlockNode")) == Version(0)
        await orders.of(SYSTEM)
    assert store.looks == 1
    clock.move(1)
    await orders.first_of(SYSTEM, ClassName("BlockNode"))
    orders.forget(SYSTEM)
    await orders.first_of(SYSTEM, ClassName("BlockNode"))
    assert store.looks == 3
