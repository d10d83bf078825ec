"""Observers are told of calls in their delegate's version that were answered, before the caller is."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
import pytest

from segue.author import FutureSimulation, PastSimulation, observes
from segue.errors import ReleaseError
from segue.layer.chain import Chain
from segue.layer.grpc_server import Dispatch
from segue.layer.usage import Usage

Serve = Callable[[Dispatch], Awaitable[str]]
Connect = Callable[..., grpc.aio.Channel]
MakeChain = Callable[..., Chain]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


class Watching(FutureSimulation):
    """Version 2 over version 1's object: it keeps what it is told, and has one method."""

    def __init__(self, delegate: Any) -> None:
        self.delegate = delegate
        self.told: list[tuple[str, str]] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.fault: Exception | None = None

    def register(self, server: grpc.aio.Server) -> None:
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "New": grpc.unary_unary_rpc_method_handler(self.new)
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("toy.New", handlers),))

    async def new(self, request: bytes, context: Any) -> bytes:
        reply: str = await self.delegate.Unary(request.decode(), context)
        return reply.encode()

    @observes("Unary")
    async def seen(self, request: str, reply: str, context: Any) -> None:
        await self.hold.wait()
        self.told.append((request, reply))
        if self.fault is not None:
            raise self.fault


async def unary(channel: Any, request: bytes = b"x", path: str = "/toy.Kinds/Unary") -> bytes:
    reply: bytes = await channel.unary_unary(path)(request)
    return reply


async def test_an_observer_is_told_before_the_caller(
    dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """The caller's reply waits for the observer, which has the messages as the object saw them."""
    current = kinds("v1")
    watching = Watching(current)
    dispatch.show(chain(current, watching, current=1))
    channel: Any = connect(await serve(dispatch), 1)
    watching.hold.clear()
    call = channel.unary_unary("/toy.Kinds/Unary")(b"x")
    await until(lambda: dispatch.in_flight.clients == 1)
    assert not call.done()
    assert watching.told == []
    watching.hold.set()
    assert await call == b"v1:x"
    assert watching.told == [("x", "v1:x")]


@pytest.mark.parametrize("request_text", ["fail", "abort", "set code", "no message"])
async def test_an_observer_is_not_told_of_a_call_that_failed(
    request_text: str, dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """Only what was answered OK happened."""
    current = kinds("v1")
    watching = Watching(current)
    dispatch.show(chain(current, watching, current=1))
    channel = connect(await serve(dispatch), 1)
    with pytest.raises(grpc.aio.AioRpcError):
        await unary(channel, request_text.encode())
    assert watching.told == []


async def test_an_observer_is_not_told_of_its_own_simulations_calls(
    dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """What the simulation asks of its delegate it knows already."""
    current = kinds("v1")
    watching = Watching(current)
    dispatch.show(chain(current, watching, current=1))
    assert await unary(connect(await serve(dispatch), 2), path="/toy.New/New") == b"v1:x"
    assert watching.told == []


async def test_an_observer_that_fails_fails_the_call(
    dispatch: Dispatch, usage: Usage, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """A call that an observer could not follow is not reported as done."""
    current = kinds("v1")
    watching = Watching(current)
    watching.fault = OSError("disk full")
    dispatch.show(chain(current, watching, current=1))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await unary(connect(await serve(dispatch), 1))
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "a simulation that observes this call failed" in (caught.value.details() or "")
    assert "disk full" not in (caught.value.details() or "")
    await until(lambda: dispatch.in_flight.clients == 0)
    assert {key.outcome for key in usage.counts()} == {"INTERNAL"}


async def test_a_simulation_that_is_not_ready_observes(
    dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """It is told from the moment it is shown, while calls to it wait."""
    current = kinds("v1")
    watching = Watching(current)
    dispatch.show(chain(current, watching, current=1, ready=False))
    address = await serve(dispatch)
    waiting: Any = connect(address, 2).unary_unary("/toy.New/New")(b"y")  # type: ignore[arg-type]
    await until(lambda: dispatch.in_flight.parked == 1)
    await unary(connect(address, 1))
    assert watching.told == [("x", "v1:x")]
    dispatch.show(chain(current, watching, current=1))
    assert await waiting == b"v1:y"


async def test_an_observer_is_told_of_a_call_that_was_inside_when_it_came(
    dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """Between what a starting simulation finds and what it is told there is no gap."""
    current = kinds("v1")
    dispatch.show(chain(current, current=1))
    channel: Any = connect(await serve(dispatch), 1)
    call = channel.unary_unary("/toy.Kinds/Unary")(b"hang")
    await until(lambda: dispatch.in_flight.clients == 1)
    watching = Watching(current)
    dispatch.show(chain(current, watching, current=1, ready=False))
    current.release.set()
    await call
    assert watching.told == [("hang", "v1:hang")]


async def test_a_simulation_that_has_gone_observes_no_more(
    dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """A chain without it tells it nothing."""
    current = kinds("v1")
    watching = Watching(current)
    dispatch.show(chain(current, watching, current=1))
    dispatch.show(chain(current, current=1))
    await unary(connect(await serve(dispatch), 1))
    assert watching.told == []


async def test_past_simulations_observe_before_future_ones(
    dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """The order is the chain's."""
    order: list[str] = []

    class Past(kinds, PastSimulation):  # type: ignore[misc]
        @observes("Unary")
        async def seen(self, request: str, reply: str, context: Any) -> None:
            order.append("past")

    class Future(Watching):
        @observes("Unary")
        async def seen(self, request: str, reply: str, context: Any) -> None:
            order.append("future")

    current = kinds("v2")
    past: Any = Past
    dispatch.show(chain(past("v1"), current, Future(current), current=2))
    await unary(connect(await serve(dispatch), 2))
    assert order == ["past", "future"]


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("Rename", "has no such method: use one of Both, BothByReadWrite, Down, DownByWrite, Unary, Up, UpByRead"),
        ("Up", "streams: only unary methods"),
    ],
)
def test_what_cannot_be_observed_is_refused(
    method: str, message: str, dispatch: Dispatch, chain: MakeChain, kinds: Any
) -> None:
    """The author is told of the method's name; the chain before stays."""

    class Wrong(Watching):
        @observes(method)
        async def wrong(self, request: str, reply: str, context: Any) -> None:
            """Is never told."""

    current = kinds("v1")
    with pytest.raises(ReleaseError, match=message):
        dispatch.show(chain(current, Wrong(current), current=1))


def test_an_observer_that_is_not_asynchronous_is_refused(dispatch: Dispatch, chain: MakeChain, kinds: Any) -> None:
    """The author is told at once, not by the first call."""

    class Wrong(Watching):
        @observes("Unary")
        def wrong(self, request: str, reply: str, context: Any) -> None:
            """Is never told."""

    current = kinds("v1")
    with pytest.raises(ReleaseError, match=r'observer of "Unary" is not asynchronous: write it with `async def`'):
        dispatch.show(chain(current, Wrong(current), current=1))


def test_an_observer_that_cannot_be_told_is_refused(dispatch: Dispatch, chain: MakeChain, kinds: Any) -> None:
    """One argument too few would fail every call of the older version, from the installation on."""

    class Wrong(Watching):
        @observes("Unary")
        async def wrong(self, request: str, reply: str) -> None:
            """Is never told."""

    current = kinds("v1")
    with pytest.raises(ReleaseError, match=r'observer of "Unary" does not take \(request, reply, context\)'):
        dispatch.show(chain(current, Wrong(current), current=1))
