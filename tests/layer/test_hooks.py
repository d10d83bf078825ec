"""Observers and interceptors meet every call that reaches their delegate, whatever version it was made in."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio
import pytest

from segue import AbortError, Disallowed, RefusalReason, refusal_of
from segue.author import FutureSimulation, PastSimulation, intercepts, observes
from segue.errors import ReleaseError
from segue.layer.chain import Chain, Link
from segue.layer.grpc_delegate import Delegate
from segue.layer.grpc_server import Dispatch
from segue.model.ids import Version

Serve = Callable[[Dispatch], Awaitable[str]]
Connect = Callable[..., grpc.aio.Channel]


class Texts:
    """An object that answers `Put` with what it got, and `List` with all that it got."""

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.got: list[str] = []

    def register(self, server: Any) -> None:
        codec: dict[str, Any] = {"request_deserializer": bytes.decode, "response_serializer": str.encode}
        handlers: dict[str, grpc.RpcMethodHandler[str, str]] = {
            "Put": grpc.unary_unary_rpc_method_handler(self.Put, **codec),
            "List": grpc.unary_stream_rpc_method_handler(self.List, **codec),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("toy.Texts", handlers),))

    async def Put(self, request: str, context: Any) -> str:  # noqa: N802
        if request == "gone":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such text")
        if request == "fail":
            raise ValueError("the object's own")
        self.got.append(request)
        return f"{self.tag}:{request}"

    async def List(self, request: str, context: Any) -> AsyncIterator[str]:  # noqa: N802
        for text in self.got:
            yield text


class Passing(Texts):
    """A simulation that hands each call on, and marks where it came through."""

    delegate: Any

    async def Put(self, request: str, context: Any) -> str:  # noqa: N802
        return f"{self.tag}:{await self.delegate.Put(request, context)}"

    async def List(self, request: str, context: Any) -> AsyncIterator[str]:  # noqa: N802
        async for text in self.delegate.List(request, context):
            yield text


class Past(Passing, PastSimulation):
    """A past simulation that hands on."""

    def __init__(self, tag: str, delegate: Any) -> None:
        Texts.__init__(self, tag)
        self.delegate = delegate
        self.told: list[str] = []


class Future(Passing, FutureSimulation):
    """A future simulation that hands on."""

    def __init__(self, tag: str, delegate: Any) -> None:
        Texts.__init__(self, tag)
        self.delegate = delegate
        self.told: list[str] = []


def chain_of(
    current: Texts, *, past: Sequence[type[Past]] = (), future: Sequence[type[Future]] = ()
) -> tuple[Chain, list[Any]]:
    """Make a chain of one object with simulations, nearest first, and return it with all objects, oldest first."""
    at = len(past) + 1
    links = [Link(version=Version(at), role="current", instance=current)]
    for distance, make_past in enumerate(past, start=1):
        view = Delegate(links[0].instance)
        simulation: Any = make_past(f"v{at - distance}", view)
        links.insert(0, Link(version=Version(at - distance), role="past", instance=simulation, delegate=view))
    for distance, make_future in enumerate(future, start=1):
        view = Delegate(links[-1].instance)
        simulation = make_future(f"v{at + distance}", view)
        links.append(Link(version=Version(at + distance), role="future", instance=simulation, delegate=view))
    return Chain(tuple(links)), [link.instance for link in links]


async def put(channel: grpc.aio.Channel, text: str) -> str:
    call: Any = channel.unary_unary("/toy.Texts/Put")(text.encode())  # type: ignore[arg-type]
    reply: bytes = await call
    return reply.decode()


class ObservingFuture(Future):
    """Keeps what it is told."""

    @observes("Put")
    async def seen(self, request: str, reply: str, context: Any) -> None:
        self.told.append(request)


class ObservingPast(Past):
    """Keeps what it is told."""

    @observes("Put")
    async def seen(self, request: str, reply: str, context: Any) -> None:
        self.told.append(request)


async def test_an_observer_is_told_of_calls_that_come_through_other_simulations(
    dispatch: Dispatch, serve: Serve, connect: Connect
) -> None:
    """A call of version 1 reaches version 3's object through two simulations: version 4's simulation sees it."""
    chain, (_, _, _, newer) = chain_of(Texts("v3"), past=[Past, Past], future=[ObservingFuture])
    dispatch.show(chain)
    address = await serve(dispatch)
    assert await put(connect(address, 1), "a") == "v1:v2:v3:a"
    assert await put(connect(address, 3), "b") == "v3:b"
    assert await put(connect(address, 4), "c") == "v4:v3:c"
    assert newer.told == ["a", "b"]


async def test_simulations_on_both_sides_see_each_others_calls(
    dispatch: Dispatch, serve: Serve, connect: Connect
) -> None:
    """Each is told of all calls that reach the object but its own, and nobody waits for ever."""
    chain, (older, _, newer) = chain_of(Texts("v2"), past=[ObservingPast], future=[ObservingFuture])
    dispatch.show(chain)
    address = await serve(dispatch)
    channels = [connect(address, version) for version in (1, 2, 3)]
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for number in range(60):
            group.create_task(put(channels[number % 3], f"{number % 3 + 1}"))
    assert sorted(older.told) == ["2"] * 20 + ["3"] * 20
    assert sorted(newer.told) == ["1"] * 20 + ["2"] * 20


async def test_what_a_simulation_tells_goes_on_to_those_beyond_it(
    dispatch: Dispatch, serve: Serve, connect: Connect
) -> None:
    """Version 3's author knows version 2 only: that simulation says what version 1's calls mean there."""

    class Telling(Future):
        @observes("Put")
        async def seen(self, request: str, reply: str, context: Any) -> None:
            self.told.append(request)
            await self.tell("Put", request.upper(), reply.upper(), context)

    chain, (_, second, third) = chain_of(Texts("v1"), future=[Telling, ObservingFuture])
    dispatch.show(chain)
    address = await serve(dispatch)
    await put(connect(address, 1), "a")
    await put(connect(address, 2), "b")
    assert (second.told, third.told) == (["a"], ["A", "b"])
    dispatch.show(Chain(chain.links[:2]))
    await put(connect(address, 1), "c")
    assert (second.told, third.told) == (["a", "c"], ["A", "b"])


class Guarding(Future):
    """Stands in front of `Put`."""

    @intercepts("Put")
    async def guard(self, request: str, context: Any, proceed: Any) -> str:
        self.told.append(request)
        match request:
            case "own":
                return "of my own"
            case "forbidden":
                raise Disallowed("not while version 2 is to come")
            case "fault":
                raise KeyError("the interceptor's own")
            case "gone":
                try:
                    return str(await proceed(request))
                except AbortError:
                    return "caught"
        return f"({await proceed(request.strip())})"


@pytest.mark.parametrize(
    ("request_text", "reply", "reached"),
    [(" a ", "(v1:a)", ["a"]), ("own", "of my own", []), ("gone", "caught", [])],
)
async def test_an_interceptor_answers_in_its_delegates_place(
    request_text: str, reply: str, reached: list[str], dispatch: Dispatch, serve: Serve, connect: Connect
) -> None:
    """It may change the request and the reply, answer by itself, and see what the object aborts with."""
    current = Texts("v1")
    chain, (_, guard) = chain_of(current, future=[Guarding])
    dispatch.show(chain)
    address = await serve(dispatch)
    assert await put(connect(address, 1), request_text) == reply
    assert (current.got, guard.told) == (reached, [request_text])
    assert await put(connect(address, 2), "mine") == "v2:v1:mine"
    assert guard.told == [request_text]


@pytest.mark.parametrize(
    ("request_text", "reason"),
    [
        ("forbidden", RefusalReason.DISALLOWED),
        ("fault", RefusalReason.INTERCEPTOR_FAILED),
        ("fail", RefusalReason.OBJECT_FAILED),
    ],
)
async def test_whose_fault_it_was(
    request_text: str, reason: RefusalReason, dispatch: Dispatch, serve: Serve, connect: Connect
) -> None:
    """An interceptor's fault is its own, and what comes out of the object through it is the object's."""
    chain, _ = chain_of(Texts("v1"), future=[Guarding])
    dispatch.show(chain)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await put(connect(await serve(dispatch), 1), request_text)
    refusal = refusal_of(caught.value)
    assert refusal is not None
    assert refusal.reason is reason


async def test_observers_hear_of_what_the_object_saw(dispatch: Dispatch, serve: Serve, connect: Connect) -> None:
    """The other side's interceptor changes the request: the observer is told of the changed one, and of no other."""
    chain, (older, _, _) = chain_of(Texts("v2"), past=[ObservingPast], future=[Guarding])
    dispatch.show(chain)
    channel = connect(await serve(dispatch), 2)
    assert await put(channel, " a ") == "(v2:a)"
    assert await put(channel, "own") == "of my own"
    assert older.told == ["a"]


async def test_an_interceptor_stands_in_front_of_calls_that_come_through_other_simulations(
    dispatch: Dispatch, serve: Serve, connect: Connect
) -> None:
    """A call of version 1 meets what version 3's simulation has in front of version 2's object."""
    chain, (_, _, newer) = chain_of(Texts("v2"), past=[Past], future=[Guarding])
    dispatch.show(chain)
    assert await put(connect(await serve(dispatch), 1), "own") == "v1:of my own"
    assert newer.told == ["own"]


def test_an_interceptor_takes_what_it_is_given(dispatch: Dispatch) -> None:
    """The author is told at once, not by the first call."""

    class Wrong(Future):
        @intercepts("Put")
        async def wrong(self, request: str, context: Any) -> str:
            return request

    chain, _ = chain_of(Texts("v1"), future=[Wrong])
    with pytest.raises(ReleaseError, match=r'interceptor of "Put" does not take \(request, context, proceed\)'):
        dispatch.show(chain)


async def test_readers_run_together(dispatch: Dispatch, serve: Serve, connect: Connect) -> None:
    """Calls that pass through a simulation which observes do not wait for each other."""
    both_inside = asyncio.Barrier(2)

    class Meeting(Texts):
        async def Put(self, request: str, context: Any) -> str:  # noqa: N802
            await both_inside.wait()
            return request

    chain, _ = chain_of(Meeting("v1"), future=[ObservingFuture])
    dispatch.show(chain)
    channel = connect(await serve(dispatch), 2)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for _ in range(2):
            group.create_task(put(channel, "x"))


async def test_calls_that_change_nothing_run_together(dispatch: Dispatch, serve: Serve, connect: Connect) -> None:
    """An interceptor that only looks does not have calls wait for each other, but for one that writes."""
    both_inside = asyncio.Barrier(2)

    class Meeting(Texts):
        async def Put(self, request: str, context: Any) -> str:  # noqa: N802
            await both_inside.wait()
            return request

    class Looking(Future):
        @intercepts("Put", changes=False)
        async def look(self, request: str, context: Any, proceed: Any) -> str:
            return str(await proceed(request))

    chain, _ = chain_of(Meeting("v2"), past=[Past], future=[Looking])
    dispatch.show(chain)
    address = await serve(dispatch)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for version in (1, 2):
            group.create_task(put(connect(address, version), "x"))


async def test_a_stream_holds_nobody_up(dispatch: Dispatch, serve: Serve, connect: Connect) -> None:
    """A streaming call may last for ever, so it is no step: an observed call goes on beside it."""
    open_end = asyncio.Event()

    class Watched(Texts):
        async def List(self, request: str, context: Any) -> AsyncIterator[str]:  # noqa: N802
            yield "first"
            await open_end.wait()

    chain, (_, newer) = chain_of(Watched("v1"), future=[ObservingFuture])
    dispatch.show(chain)
    address = await serve(dispatch)
    stream: Any = connect(address, 2).unary_stream("/toy.Texts/List")(b"")  # type: ignore[arg-type]
    assert await stream.read() == b"first"
    async with asyncio.timeout(10):
        await put(connect(address, 1), "a")
    assert newer.told == ["a"]
    open_end.set()
    assert await stream.read() is grpc.aio.EOF


async def test_settled_when_earlier_calls_have_ended(
    dispatch: Dispatch, serve: Serve, connect: Connect, chain: Callable[..., Chain], kinds: Any, until: Any
) -> None:
    """Only calls that went in before the chain was shown are waited for."""
    current = kinds("v1")
    dispatch.show(chain(current, current=1))
    channel: Any = connect(await serve(dispatch), 1)
    early = channel.unary_unary("/toy.Kinds/Unary")(b"hang")
    await until(lambda: dispatch.in_flight.clients == 1)
    successor = kinds("v1")
    dispatch.show(chain(successor, current=1))
    late = channel.unary_unary("/toy.Kinds/Unary")(b"hang")
    await until(lambda: dispatch.in_flight.clients == 2)
    assert not await dispatch.settle(0.01)
    current.release.set()
    assert await dispatch.settle(10)
    assert await early == b"v1:hang"
    assert not late.done()
    successor.release.set()
    await late


async def test_observers_end_though_the_caller_gives_up(
    dispatch: Dispatch, serve: Serve, connect: Connect, until: Any
) -> None:
    """The call had its effect: what follows it must have it too, before anybody else comes."""
    go_on = asyncio.Event()

    class Slow(Future):
        @observes("Put")
        async def seen(self, request: str, reply: str, context: Any) -> None:
            await go_on.wait()
            self.told.append(request)

    current = Texts("v1")
    chain, (_, slow) = chain_of(current, future=[Slow])
    dispatch.show(chain)
    address = await serve(dispatch)
    given_up: Any = connect(address, 1).unary_unary("/toy.Texts/Put")(b"a")  # type: ignore[arg-type]
    await until(lambda: current.got == ["a"])
    given_up.cancel()
    after = connect(address, 2)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(put(after, "b"))
        await until(lambda: dispatch.in_flight.clients == 2)
        assert not waiting.done()
        go_on.set()
    assert slow.told == ["a"]
    assert current.got == ["a", "b"]


async def test_hooks_that_call_each_other_without_end_fail_the_call(
    dispatch: Dispatch, serve: Serve, connect: Connect
) -> None:
    """Their authors do not know each other; the node must not go down with them."""

    class Older(Past):
        @observes("Put")
        async def seen(self, request: str, reply: str, context: Any) -> None:
            await self.delegate.Count(request, context)

    class Newer(Future):
        @observes("Count")
        async def seen(self, request: str, reply: str, context: Any) -> None:
            await self.delegate.Put(request, context)

    class Counting(Texts):
        def register(self, server: Any) -> None:
            super().register(server)
            codec: dict[str, Any] = {"request_deserializer": bytes.decode, "response_serializer": str.encode}
            handlers = {"Count": grpc.unary_unary_rpc_method_handler(self.Count, **codec)}
            server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("toy.Counts", handlers),))

        async def Count(self, request: str, context: Any) -> str:  # noqa: N802
            return str(len(self.got))

    chain, _ = chain_of(Counting("v2"), past=[Older], future=[Newer])
    dispatch.show(chain)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await put(connect(await serve(dispatch), 2), "a")
    refusal = refusal_of(caught.value)
    assert refusal is not None
    assert refusal.reason is RefusalReason.OBSERVER_FAILED


async def test_an_interceptor_may_try_again(dispatch: Dispatch, serve: Serve, connect: Connect) -> None:
    """If it then raises what the object raised at first, that is the object's fault still."""

    class Persistent(Future):
        @intercepts("Put")
        async def twice(self, request: str, context: Any, proceed: Any) -> str:
            try:
                return str(await proceed(request))
            except ValueError as first:
                with suppress(ValueError):
                    return str(await proceed(request))
                raise first from None

    chain, _ = chain_of(Texts("v1"), future=[Persistent])
    dispatch.show(chain)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await put(connect(await serve(dispatch), 1), "fail")
    refusal = refusal_of(caught.value)
    assert refusal is not None
    assert refusal.reason is RefusalReason.OBJECT_FAILED
