"""An order reaches the agent's loop, and what became of it reaches everybody who gave it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest

from segue.errors import OperatorError, PeerError
from segue.model.ids import ClassName, NodeId, SystemName
from segue.node.control import ask
from segue.node.folders import Folders, Identity
from segue.node.orders import SOCKET, Done, Order, Orders, Outcome, Refused, Restart, Retry, give_order

#: Far more than anything here takes, on the busiest machine.
LONG_S = 15.0


class FakeAgent:
    """A loop that takes orders as a node's agent does: it sleeps until it is woken, and does one after the other.

    Args:
        folders: the node's.
        outcome: what becomes of an order.
    """

    def __init__(self, folders: Folders, outcome: Callable[[Order], Outcome]) -> None:
        self.taken: list[Order] = []
        self.free = asyncio.Event()
        self.may_answer = asyncio.Event()
        self._folders = folders
        self._outcome = outcome
        self._woken = asyncio.Event()
        self.orders = Orders(wake=self._woken.set, where=lambda: "runs version 1, transforming")

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with self.orders.listening(self._folders.run), asyncio.TaskGroup() as tasks:
            loop = tasks.create_task(self._run())
            yield
            loop.cancel()

    async def _run(self) -> None:
        while True:
            await self._woken.wait()
            self._woken.clear()
            await self.free.wait()
            while order := self.orders.take():
                self.taken.append(order)
                await self.may_answer.wait()
                self.orders.answer(order, self._outcome(order))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LONG_S):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.01)


def waiters(agent: FakeAgent) -> int:
    return sum(given.waiting for given in agent.orders._given.values())


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
async def agent(state: Path) -> AsyncIterator[FakeAgent]:
    """One that has time, and does whatever it is told."""
    identity = Identity(system=SystemName("s"), class_name=ClassName("C"), node_id=NodeId("n1"))
    with closing(Folders(state, identity)) as folders:
        agent = FakeAgent(folders, lambda order: Done(text=f"{type(order).__name__} done", pid=4711))
        agent.free.set()
        agent.may_answer.set()
        async with agent.running():
            yield agent


async def test_an_order_is_carried_out(agent: FakeAgent, state: Path) -> None:
    assert await give_order(state, Restart(), timeout_s=LONG_S) == Done(text="Restart done", pid=4711)
    assert await give_order(state, Retry(), timeout_s=LONG_S) == Done(text="Retry done", pid=4711)
    assert agent.taken == [Restart(), Retry()]
    assert agent.orders.take() is None


async def test_a_refusal_is_told_in_the_agents_words(agent: FakeAgent, state: Path) -> None:
    agent._outcome = lambda _: Refused(reason="nothing has failed: there is nothing to retry")
    with pytest.raises(OperatorError, match=r"^nothing has failed: there is nothing to retry$"):
        await give_order(state, Retry(), timeout_s=LONG_S)


async def test_an_order_that_is_given_twice_at_once_is_one(agent: FakeAgent, state: Path) -> None:
    """Also by one who comes while it is carried out: there is no second restart, and both hear the same."""
    agent.may_answer.clear()
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(give_order(state, Restart(), timeout_s=LONG_S))
        await until(lambda: bool(agent.taken))
        second = tasks.create_task(give_order(state, Restart(), timeout_s=LONG_S))
        await until(lambda: waiters(agent) == 2)
        agent.may_answer.set()
    assert first.result() == second.result() == Done(text="Restart done", pid=4711)
    assert agent.taken == [Restart()]


async def test_orders_of_two_kinds_are_carried_out_in_their_order(agent: FakeAgent, state: Path) -> None:
    agent.free.clear()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(give_order(state, Retry(), timeout_s=LONG_S))
        await until(lambda: waiters(agent) == 1)
        tasks.create_task(give_order(state, Restart(), timeout_s=LONG_S))
        await until(lambda: waiters(agent) == 2)
        agent.free.set()
    assert agent.taken == [Retry(), Restart()]


async def test_an_order_that_the_agent_does_not_come_to_is_withdrawn(agent: FakeAgent, state: Path) -> None:
    """A restart an hour later, when the upgrade is over, is not what was asked for. The agent says what it is at."""
    agent.free.clear()
    with pytest.raises(
        PeerError, match=r"not done within 0\.05 s: it did not come to it \(runs version 1, transforming"
    ):
        await give_order(state, Restart(), timeout_s=0.05)
    assert agent.orders.take() is None


async def test_an_order_that_one_still_waits_for_stays(agent: FakeAgent, state: Path) -> None:
    agent.free.clear()
    async with asyncio.TaskGroup() as tasks:
        patient = tasks.create_task(give_order(state, Restart(), timeout_s=LONG_S))
        await until(lambda: waiters(agent) == 1)
        with pytest.raises(PeerError, match="withdrawn"):
            await give_order(state, Restart(), timeout_s=0.05)
        agent.free.set()
    assert patient.result().pid == 4711


async def test_an_order_under_way_goes_on_without_its_giver(agent: FakeAgent, state: Path) -> None:
    """Whoever gives it again hears how it ends."""
    agent.may_answer.clear()
    with pytest.raises(PeerError, match=r"it is at it .*: order it again to hear how it ends"):
        await give_order(state, Restart(), timeout_s=0.2)
    assert agent.taken == [Restart()]
    async with asyncio.TaskGroup() as tasks:
        again = tasks.create_task(give_order(state, Restart(), timeout_s=LONG_S))
        await until(lambda: waiters(agent) == 1)
        agent.may_answer.set()
    assert again.result().pid == 4711
    assert agent.taken == [Restart()]


async def test_an_order_that_this_agent_does_not_know(agent: FakeAgent, state: Path) -> None:
    """It is answered, so that a newer command need not wait in vain."""
    with pytest.raises(PeerError, match="the agent knows no order 'dance'"):
        await ask((state / "run").readlink() / SOCKET, "dance", wait_s=LONG_S)


async def test_an_agent_that_is_not_there(state: Path) -> None:
    """Not a node's folder; a node's folder whose agent has ended; and what its socket left."""
    with pytest.raises(OperatorError, match="is no node's state folder: give the --state"):
        await give_order(state, Restart(), timeout_s=LONG_S)
    identity = Identity(system=SystemName("s"), class_name=ClassName("C"), node_id=NodeId("n1"))
    with closing(Folders(state, identity)), pytest.raises(OperatorError, match=r"no agent runs on .*: start it with"):
        await give_order(state, Restart(), timeout_s=LONG_S)
    with pytest.raises(OperatorError, match="no agent runs on"):
        await give_order(state, Restart(), timeout_s=LONG_S)


async def test_an_agent_that_dies_meanwhile(state: Path) -> None:
    identity = Identity(system=SystemName("s"), class_name=ClassName("C"), node_id=NodeId("n1"))
    with closing(Folders(state, identity)) as folders:

        async def die(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        async with await asyncio.start_unix_server(die, folders.run / SOCKET):
            with pytest.raises(PeerError, match="ended before it had answered"):
                await give_order(state, Restart(), timeout_s=LONG_S)
