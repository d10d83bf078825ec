"""Nodes whose objects call each other do not wait for each other in a circle, however calls and their parts fall."""

import asyncio
import random
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass

import pytest

from segue.layer.chain import Place
from segue.layer.steps import Step, Steps, enter, leave, note_call

EMPTY = "Steps(inside [], waiting [])"
SEEDS = range(300)
#: Turns of the loop in which every program here ends if it can: the longest takes a few hundred.
PATIENCE_TURNS = 3000

NONE: frozenset[Place] = frozenset()
ONE = frozenset({Place(1)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What a call to `node` does: so many turns of work before each of the calls that it makes, and after the last.

    Attributes:
        together: it makes its calls at once and then awaits them all.
    """

    node: int
    reads: frozenset[Place]
    writes: frozenset[Place]
    work: tuple[int, ...]
    calls: tuple["Call", ...] = ()
    together: bool = False


class Watched(Steps):
    """Looks, whenever a step goes in, whether it may be beside those that are inside."""

    def __init__(self) -> None:
        super().__init__()
        self.beside_away = 0

    def _go_in(self, step: Step) -> None:
        for other in self._inside:
            if other.writes & (step.reads | step.writes) or step.writes & other.reads:
                assert step.from_node, f"{step} is beside {other}"
                assert other.away, f"{step} is beside {other}"
                self.beside_away += 1
        super()._go_in(step)


class Fleet:
    """Nodes, and the calls between them, each in a task and a context of its own as in gRPC's server.

    Args:
        nodes: the steps of each node.
        noted: whether steps hear of the calls that are made in them.
    """

    def __init__(self, *nodes: Steps, noted: bool = True) -> None:
        self.nodes = nodes
        self.noted = noted
        self.ended = 0

    async def serve(self, call: Call, group: asyncio.TaskGroup, *, from_node: bool = False) -> None:
        steps = self.nodes[call.node]
        step = await steps.begin(call.reads, call.writes, from_node)
        token = enter(step)
        try:
            await self._work(call, group)
        finally:
            leave(token)
            steps.end(step)
        self.ended += 1

    async def _work(self, call: Call, group: asyncio.TaskGroup) -> None:
        begun: list[asyncio.Task[None]] = []
        try:
            for turns, made in zip(call.work, call.calls, strict=False):
                await _turns(turns)
                begun.append(group.create_task(self.serve(made, group, from_node=True), context=Context()))
                if self.noted:
                    note_call(begun[-1])
                if not call.together:
                    await begun[-1]
            for task in begun:
                await task
            await _turns(call.work[-1])
        finally:
            for task in begun:
                task.cancel()  # as gRPC does with calls that nobody waits for any more

    async def is_stuck_by(self, calls: list[Call]) -> bool:
        """Run clients' calls, and return whether some do not end; then all are cancelled."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.serve(call, group)) for call in calls]
            for _ in range(PATIENCE_TURNS):
                await asyncio.sleep(0)
                if all(task.done() for task in tasks):
                    return False
            for task in tasks:
                task.cancel()
        return True


async def _turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def _call(rng: random.Random, nodes: int, depth: int, claims: Callable[[random.Random], frozenset[Place]]) -> Call:
    """Make up a call that makes calls, and so on, `depth` deep at most; the nodes may be the same one."""
    calls = tuple(_call(rng, nodes, depth - 1, claims) for _ in range(rng.choice([0, 1, 1, 2]) if depth > 0 else 0))
    return Call(
        node=rng.randrange(nodes),
        reads=claims(rng),
        writes=claims(rng) or ONE,
        work=tuple(rng.randrange(4) for _ in range(len(calls) + 1)),
        calls=calls,
        together=rng.random() < 0.3,
    )


def _all_write_one(_: random.Random) -> frozenset[Place]:
    return NONE


def _some_of_three(rng: random.Random) -> frozenset[Place]:
    return frozenset(Place(version) for version in (1, 2, 3) if rng.random() < 0.3)


def _program(seed: int, nodes: int, claims: Callable[[random.Random], frozenset[Place]]) -> list[Call]:
    rng = random.Random(seed)
    return [_call(rng, nodes, 3, claims) for _ in range(6)]


def _calls_in(calls: list[Call]) -> int:
    return sum(1 + _calls_in(list(call.calls)) for call in calls)


class CallersUnknown(Steps):
    """Takes every call for a client's, as if nodes did not say that they are nodes."""

    async def begin(self, reads: frozenset[Place], writes: frozenset[Place], from_node: bool) -> Step:
        return await super().begin(reads, writes, False)


@pytest.mark.parametrize("claims", [_all_write_one, _some_of_three])
@pytest.mark.parametrize("nodes", [1, 2, 3])
async def test_every_call_ends(nodes: int, claims: Callable[[random.Random], frozenset[Place]]) -> None:
    """Whatever calls what, all end; a conflicting step is passed only by a node's call, only while it is away."""
    passed = 0
    for seed in SEEDS:
        watched = [Watched() for _ in range(nodes)]
        fleet = Fleet(*watched)
        program = _program(seed, nodes, claims)
        assert not await fleet.is_stuck_by(program), f"seed {seed}: stuck: {fleet.nodes}"
        assert fleet.ended == _calls_in(program), f"seed {seed}"
        assert set(map(repr, fleet.nodes)) == {EMPTY}, f"seed {seed}"
        passed += sum(node.beside_away for node in watched)
    assert passed > len(SEEDS)  # else these programs show nothing


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: Fleet(Steps(), Steps(), noted=False), id="calls-that-are-not-noted"),
        pytest.param(lambda: Fleet(CallersUnknown(), CallersUnknown()), id="callers-that-are-not-known"),
    ],
)
async def test_without_the_rule_the_same_programs_get_stuck(make: Callable[[], Fleet]) -> None:
    """The programs above tell a fleet that gets stuck from one that does not; and cancelled calls leave no trace."""
    stuck = []
    for seed in SEEDS[:60]:
        fleet = make()
        if await fleet.is_stuck_by(_program(seed, 2, _all_write_one)):
            stuck.append(seed)
        assert set(map(repr, fleet.nodes)) == {EMPTY}, f"seed {seed}"
    print("stuck with seeds", stuck)
    assert len(stuck) > 30


async def test_calls_cancelled_at_any_turn_leave_no_trace() -> None:
    """Whenever clients give up, and the calls made for them with them or not, the rest ends, and all is empty."""
    for seed in SEEDS[:100]:
        rng = random.Random(f"cancel {seed}")
        fleet = Fleet(Steps(), Steps())
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(fleet.serve(call, group)) for call in _program(seed, 2, _some_of_three)]
            for task in rng.sample(tasks, 3):
                await _turns(rng.randrange(12))
                task.cancel()
            for _ in range(PATIENCE_TURNS):
                await asyncio.sleep(0)
                if all(repr(node) == EMPTY for node in fleet.nodes):
                    break
            else:
                raise AssertionError(f"seed {seed}: stuck: {fleet.nodes}")


def _put(node: int, *calls: Call) -> Call:
    return Call(node=node, reads=NONE, writes=ONE, work=(3,) * (len(calls) + 1), calls=calls)


@pytest.mark.parametrize(
    ("noted", "stuck"), [pytest.param(True, False, id="noted"), pytest.param(False, True, id="not-noted")]
)
async def test_two_nodes_that_store_at_each_other(noted: bool, stuck: bool) -> None:
    """Each has a client's call that stores at the other: both end, if steps hear of the calls made in them."""
    fleet = Fleet(Steps(), Steps(), noted=noted)
    assert await fleet.is_stuck_by([_put(0, _put(1)), _put(1, _put(0))]) is stuck
