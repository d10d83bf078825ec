"""A call and the hooks that it triggers are one step: histories over several versions are linearizable."""

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc
import grpc.aio
import pytest

from segue.author import FutureSimulation, PastSimulation, intercepts, observes
from segue.layer.chain import Chain, Link, Place
from segue.layer.grpc_delegate import Delegate
from segue.layer.grpc_server import Dispatch
from segue.layer.label import LABEL_KEY
from segue.layer.steps import Step, Steps
from segue.model.ids import Version

CALLS, CLIENTS = 30, 5
SEEDS = range(25)

Pause = Callable[[], Awaitable[None]]


class State(NamedTuple):
    """What all versions together are, as one system: a number, and how often it was set."""

    value: int = 0
    revision: int = 0


def register(server: Any, **methods: Callable[..., Any]) -> None:
    """Register unary methods of numbers, written as text."""
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        name: grpc.unary_unary_rpc_method_handler(method, lambda raw: raw.decode(), lambda text: text.encode())
        for name, method in methods.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("toy.Number", handlers),))


class Number:
    """Version 2: a number that is set and got, at points of its own choosing."""

    def __init__(self, pause: Pause) -> None:
        self.value = 0
        self.pause = pause

    def register(self, server: Any) -> None:
        register(server, Set=self.Set, Get=self.Get)

    async def Set(self, request: str, context: Any) -> str:  # noqa: N802
        await self.pause()
        self.value = int(request)
        await self.pause()
        return "done"

    async def Get(self, request: str, context: Any) -> str:  # noqa: N802
        await self.pause()
        value = self.value
        await self.pause()
        return str(value)


class Version3(FutureSimulation):
    """Version 3: the number has a revision, which version 2's setters count up without knowing."""

    def __init__(self, delegate: Any, pause: Pause) -> None:
        self.delegate = delegate
        self.pause = pause
        self.revision = 0
        self.mine = asyncio.Lock()

    def register(self, server: Any) -> None:
        register(server, Set=self.Set, Read=self.Read)

    @observes("Set")
    async def count(self, request: str, reply: str, context: Any) -> None:
        revision = self.revision
        await self.pause()
        self.revision = revision + 1

    async def Set(self, request: str, context: Any) -> str:  # noqa: N802
        async with self.mine:
            await self.delegate.Set(request, context)
            await self.pause()
            self.revision += 1
            return str(self.revision)

    async def Read(self, request: str, context: Any) -> str:  # noqa: N802
        async with self.mine:
            value = await self.delegate.Get("", context)
            await self.pause()
            return f"{value}@{self.revision}"


class Intercepting(Version3):
    """The same, written as an interceptor."""

    async def count(self, request: str, reply: str, context: Any) -> None:
        raise AssertionError("is not marked here")

    @intercepts("Set")
    async def stand_before(self, request: str, context: Any, proceed: Any) -> str:
        revision = self.revision
        await self.pause()
        reply: str = await proceed(request)
        await self.pause()
        self.revision = revision + 1
        return reply


class Version1(PastSimulation):
    """Version 1: the number is negated; it knows nothing of revisions."""

    def __init__(self, delegate: Any) -> None:
        self.delegate = delegate

    def register(self, server: Any) -> None:
        register(server, Put=self.Put, Take=self.Take)

    async def Put(self, request: str, context: Any) -> str:  # noqa: N802
        return str(await self.delegate.Set(str(-int(request)), context))

    async def Take(self, request: str, context: Any) -> str:  # noqa: N802
        return str(-int(await self.delegate.Get("", context)))


@dataclass(frozen=True)
class Operation:
    """One call of a history: what was asked and answered, and when it began and ended."""

    version: int
    method: str
    argument: int
    answer: str
    began: int
    ended: int

    def apply(self, state: State) -> tuple[State, str]:
        """Say what one system that runs call after call would do and answer."""
        match self.version, self.method:
            case 1, "Put":
                return State(-self.argument, state.revision + 1), "done"
            case 1, "Take":
                return state, str(-state.value)
            case 2, "Set":
                return State(self.argument, state.revision + 1), "done"
            case 2, "Get":
                return state, str(state.value)
            case 3, "Set":
                return State(self.argument, state.revision + 1), str(state.revision + 1)
            case 3, "Read":
                return state, f"{state.value}@{state.revision}"
        raise AssertionError(self)


def is_linearizable(history: list[Operation]) -> bool:
    """Say whether an order of the calls, in which none goes before one that had ended when it began, explains all.

    Source: Wing and Gong, "Testing and verifying concurrent objects", 1993, with what was tried remembered.
    """
    tried: set[tuple[frozenset[Operation], State]] = set()
    waiting = [(frozenset(history), State())]
    while waiting:
        left, state = waiting.pop()
        if not left:
            return True
        if (left, state) in tried:
            continue
        tried.add((left, state))
        first_end = min(operation.ended for operation in left)
        for operation in left:
            if operation.began <= first_end:
                after, answer = operation.apply(state)
                if answer == operation.answer:
                    waiting.append((left - {operation}, after))
    return False


class CallContext:
    """As much of gRPC's context as a call without faults needs."""

    def peer(self) -> str:
        return "unix:"

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class Details(NamedTuple):
    """What gRPC gives `service` of a call."""

    method: str
    invocation_metadata: tuple[tuple[str, str], ...]


class Unordered(Steps):
    """Nobody waits for anybody."""

    def try_begin(self, reads: frozenset[Place], writes: frozenset[Place], from_node: bool) -> Step | None:
        return super().try_begin(frozenset(), frozenset(), from_node)


async def history_of(dispatch: Dispatch, seed: int) -> list[Operation]:
    """Make random calls from several clients of several versions at once, and return what they saw."""
    shuffle = random.Random(seed)
    clock = itertools.count()
    history: list[Operation] = []

    async def client(calls: Iterator[int]) -> None:
        for _ in calls:
            version, method = shuffle.choice([(1, "Put"), (1, "Take"), (2, "Set"), (2, "Get"), (3, "Set"), (3, "Read")])
            argument = next(numbers)
            details = Details(f"/toy.Number/{method}", ((LABEL_KEY, f"{version}/3"),))
            handler: Any = dispatch.service(details)  # type: ignore[arg-type]
            began = next(clock)
            answer = (await handler.unary_unary(str(argument).encode(), CallContext())).decode()
            history.append(Operation(version, method, argument, answer, began, next(clock)))

    numbers = itertools.count(1)
    calls = iter(range(CALLS))
    async with asyncio.TaskGroup() as group:
        for _ in range(CLIENTS):
            group.create_task(client(calls))
    return history


def show(dispatch: Dispatch, newer: type[Version3], seed: int) -> None:
    """Show version 2's object with simulations of 1 and 3, all of which pause at random."""
    yields = random.Random(~seed)

    async def pause() -> None:
        for _ in range(yields.randrange(4)):
            await asyncio.sleep(0)

    current = Number(pause)
    below, above = Delegate(current), Delegate(current)
    dispatch.show(
        Chain(
            (
                Link(version=Version(1), role="past", instance=Version1(below), delegate=below),
                Link(version=Version(2), role="current", instance=current),
                Link(version=Version(3), role="future", instance=newer(above, pause), delegate=above),
            )
        )
    )


@pytest.mark.parametrize("newer", [Version3, Intercepting])
@pytest.mark.parametrize("seed", SEEDS)
async def test_histories_are_linearizable(dispatch: Dispatch, newer: type[Version3], seed: int) -> None:
    """Whatever version each call is made in, all calls together could have been made one after another."""
    show(dispatch, newer, seed)
    assert is_linearizable(await history_of(dispatch, seed))


@pytest.mark.parametrize("newer", [Version3, Intercepting])
async def test_the_check_sees_calls_that_are_no_steps(
    dispatch: Dispatch, newer: type[Version3], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same calls, with nobody waiting for anybody, have histories that no order explains."""
    monkeypatch.setattr(dispatch, "_steps", Unordered())
    wrong = []
    for seed in SEEDS:
        show(dispatch, newer, seed)
        wrong.append(not is_linearizable(await history_of(dispatch, seed)))
    assert sum(wrong) > len(wrong) / 4
