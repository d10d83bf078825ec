"""Conflicting steps run one after the other, in the order in which they came, and nobody waits for nothing."""

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from segue.layer.chain import Place
from segue.layer.steps import Step, Steps, current, enter, leave, note_call

EMPTY = "Steps(inside [], waiting [])"


def versions(*numbers: int) -> frozenset[Place]:
    return frozenset(Place(number) for number in numbers)


NONE = versions()
ONE = versions(1)


@dataclass(eq=False)
class Modelled:
    """A step as the rules have it, beside the real one and the task that waits for it."""

    reads: frozenset[Place]
    writes: frozenset[Place]
    from_node: bool
    waits: asyncio.Task[Step] | None = None
    real: Step | None = None
    away: int = 0
    went_in_past: list["Modelled"] = field(default_factory=list)

    def conflicts(self, other: "Modelled") -> bool:
        return bool(self.writes & (other.reads | other.writes) or other.writes & self.reads)


class Model:
    """The rules, said step by step and looked at anew after each change."""

    def __init__(self) -> None:
        self.inside: list[Modelled] = []
        self.waiting: list[Modelled] = []

    def holding(self, step: Modelled) -> list[Modelled]:
        """Return whom the step would wait for."""
        came_before = self.waiting[: self.waiting.index(step)] if step in self.waiting else self.waiting
        found = [other for other in (*self.inside, *came_before) if other.conflicts(step)]
        return [other for other in found if not self._waits_for_node(other)] if step.from_node else found

    def _waits_for_node(self, step: Modelled) -> bool:
        if step in self.inside:
            return step.away > 0
        return not step.from_node and any(self._waits_for_node(other) for other in self.holding(step))

    def settle(self) -> None:
        while free := next((step for step in self.waiting if not self.holding(step)), None):
            self.waiting.remove(free)
            self.go_in(free)

    def go_in(self, step: Modelled) -> None:
        step.went_in_past = [other for other in self.inside if other.conflicts(step)]
        assert not step.went_in_past or step.from_node
        assert all(other.away for other in step.went_in_past)
        self.inside.append(step)


claims = st.frozensets(st.integers(1, 3).map(Place), max_size=2)


class StepsAreAsTheModelSays(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.steps = Steps()
        self.model = Model()

    @rule(reads=claims, writes=claims, from_node=st.booleans())
    def begin(self, reads: frozenset[Place], writes: frozenset[Place], from_node: bool) -> None:
        begun = self.steps.begin(reads, writes, from_node)
        step = Modelled(reads, writes, from_node, self.runner.get_loop().create_task(begun))
        self.model.waiting.append(step)
        self._look()

    @rule(reads=claims, writes=claims, from_node=st.booleans())
    def try_begin(self, reads: frozenset[Place], writes: frozenset[Place], from_node: bool) -> None:
        step = Modelled(reads, writes, from_node)
        free = not self.model.holding(step)
        step.real = self.steps.try_begin(reads, writes, from_node)
        assert (step.real is not None) == free
        if free:
            self.model.go_in(step)
        self._look()

    @precondition(lambda self: self.model.inside)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        self._end(self._one(data, self.model.inside))
        self._look()

    @precondition(lambda self: self.model.inside)
    @rule(data=st.data())
    def go_away(self, data: st.DataObject) -> None:
        step = self._one(data, self.model.inside)
        self._real(step).leave_for_node()
        step.away += 1
        self._look()

    @precondition(lambda self: any(step.away for step in self.model.inside))
    @rule(data=st.data())
    def come_back(self, data: st.DataObject) -> None:
        step = self._one(data, [step for step in self.model.inside if step.away])
        self._real(step).back_from_node()
        step.away -= 1
        self._look()

    @precondition(lambda self: self.model.waiting)
    @rule(data=st.data())
    def give_up_waiting(self, data: st.DataObject) -> None:
        self._cancel(self._one(data, self.model.waiting))
        self._look()

    @precondition(lambda self: self.model.inside and self.model.waiting)
    @rule(data=st.data(), cancelled_first=st.booleans())
    def give_up_while_another_ends(self, data: st.DataObject, cancelled_first: bool) -> None:
        """The step that ends may be what the other waits for, which is cancelled before it runs again."""
        leaving, ending = self._one(data, self.model.waiting), self._one(data, self.model.inside)
        if cancelled_first:
            self._cancel(leaving)
            self._end(ending)
        else:
            self._end(ending)
            self._cancel(leaving)
        self._look()

    def teardown(self) -> None:
        with self.runner:
            while self.model.inside:
                self._end(self.model.inside[0])
                self._look()
            assert not self.model.waiting
            assert repr(self.steps) == EMPTY
            assert self.steps.try_begin(NONE, versions(1, 2, 3), False)  # nothing is kept of steps that ended

    def _end(self, step: Modelled) -> None:
        self.steps.end(self._real(step))
        self.model.inside.remove(step)

    def _cancel(self, step: Modelled) -> None:
        assert step.waits is not None
        step.waits.cancel()
        self.model.waiting.remove(step)

    @staticmethod
    def _one(data: st.DataObject, steps: list[Modelled]) -> Modelled:
        return steps[data.draw(st.integers(0, len(steps) - 1))]

    @staticmethod
    def _real(step: Modelled) -> Step:
        if step.real is None:
            assert step.waits is not None
            step.real = step.waits.result()
        return step.real

    def _look(self) -> None:
        """Those are inside who may be, and no others."""
        self.runner.run(_ticks(3))
        self.model.settle()
        assert [step for step in self.model.inside if step.waits and not step.waits.done()] == []
        assert [step for step in self.model.waiting if step.waits and step.waits.done()] == []


async def _ticks(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


TestSteps = StepsAreAsTheModelSays.TestCase
TestSteps.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)


async def test_readers_run_together_and_a_writer_is_not_starved_by_them() -> None:
    """A reader that came after a waiting writer waits behind it; those who came before it are together inside."""
    steps = Steps()
    readers = [await steps.begin(ONE, NONE, False) for _ in range(2)]
    async with asyncio.TaskGroup() as group:
        writer = group.create_task(steps.begin(NONE, ONE, False))
        await asyncio.sleep(0)
        assert steps.try_begin(ONE, NONE, False) is steps.try_begin(ONE, NONE, True) is None
        late = group.create_task(steps.begin(ONE, NONE, True))
        await asyncio.sleep(0)
        assert repr(steps) == (
            "Steps(inside [Step(client, reads {1}, writes {}), Step(client, reads {1}, writes {})], "
            "waiting [Step(client, reads {}, writes {1}), Step(node, reads {1}, writes {})])"
        )
        for reader in readers:
            assert not writer.done()
            steps.end(reader)
        steps.end(await writer)
        steps.end(await late)
    assert repr(steps) == EMPTY


async def test_nothing_is_held_while_waiting() -> None:
    """Who waits for one version keeps nobody from another that it wants too, unless they came later and want both."""
    steps = Steps()
    first = await steps.begin(NONE, ONE, False)
    async with asyncio.TaskGroup() as group:
        both = group.create_task(steps.begin(NONE, versions(1, 2), False))
        await asyncio.sleep(0)
        assert steps.try_begin(NONE, versions(3), False) is not None
        assert steps.try_begin(NONE, versions(2), False) is None
        both.cancel()
        await asyncio.sleep(0)
        assert steps.try_begin(NONE, versions(2), False) is not None
    steps.end(first)


@pytest.mark.parametrize(("reads", "writes"), [(versions(2), NONE), (NONE, versions(2))])
async def test_who_may_go_in_is_found_behind_who_may_not(reads: frozenset[Place], writes: frozenset[Place]) -> None:
    """However far back in the queue, and whether it reads or writes what nobody before it wants."""
    steps = Steps()
    first, second = [await steps.begin(NONE, versions(number), False) for number in (1, 2)]
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(steps.begin(NONE, ONE, False))
        await asyncio.sleep(0)
        behind = group.create_task(steps.begin(reads, writes, False))
        await asyncio.sleep(0)
        assert not behind.done()
        steps.end(second)
        steps.end(await behind)
        assert not waiting.done()
        steps.end(first)
        steps.end(await waiting)
    assert repr(steps) == EMPTY


async def test_a_step_that_goes_away_lets_nodes_in_and_clients_not() -> None:
    """Calls of nodes that waited for it, or behind a client's call that waits for it, go in when it goes away."""
    steps = Steps()
    step = await steps.begin(NONE, ONE, False)
    async with asyncio.TaskGroup() as group:
        client = group.create_task(steps.begin(NONE, ONE, False))
        await asyncio.sleep(0)
        node = group.create_task(steps.begin(NONE, ONE, True))
        await asyncio.sleep(0)
        assert not node.done()
        step.leave_for_node()
        inside = await node
        assert repr(step) == "Step(client, reads {}, writes {1}, away)"
        assert steps.try_begin(NONE, ONE, True) is None
        step.back_from_node()
        steps.end(step)
        await asyncio.sleep(0)
        assert not client.done()
        steps.end(inside)
        steps.end(await client)
    assert repr(steps) == EMPTY


async def test_a_call_is_noted_for_the_step_that_makes_it() -> None:
    """The step is away until all its calls are over; one that outlives its step is of no consequence."""
    steps = Steps()
    step = await steps.begin(NONE, ONE, False)
    loop = asyncio.get_running_loop()
    calls: list[asyncio.Future[None]] = [loop.create_future() for _ in range(3)]
    note_call(calls[0])
    assert (current(), step.away) == (None, 0)
    token = enter(step)
    assert current() is step
    for call in calls:
        note_call(call)
    leave(token)
    assert (current(), step.away) == (None, 3)
    calls[0].set_exception(OSError("broken"))
    calls[1].cancel()
    await asyncio.sleep(0)
    assert step.away == 1
    assert isinstance(calls[0].exception(), OSError)
    steps.end(step)
    calls[2].set_result(None)
    await asyncio.sleep(0)
    assert step.away == 0
    step.leave_for_node()
    assert repr(steps) == EMPTY
    assert steps.try_begin(NONE, ONE, False) is not None


async def test_a_step_ends_once() -> None:
    """A second end is our own mistake, and is not let pass."""
    steps = Steps()
    step = await steps.begin(NONE, ONE, False)
    steps.end(step)
    with pytest.raises(AssertionError, match="is not inside"):
        steps.end(step)
