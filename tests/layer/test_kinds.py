"""All four kinds of call, in each style, give the same whichever way they go."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import grpc.aio
import pytest

from segue.author import PastSimulation
from segue.layer.chain import Chain
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest
from segue.layer.usage import Usage
from segue.model.ids import Version
from segue.model.usage import CallKey

METHODS = ["Unary", "Down", "DownByWrite", "Up", "UpByRead", "Both", "BothByReadWrite"]

Serve = Callable[[Dispatch], Awaitable[str]]
Connect = Callable[..., grpc.aio.Channel]
MakeChain = Callable[..., Chain]
Until = Callable[[Callable[[], bool]], Awaitable[None]]
CallKind = Callable[[grpc.aio.Channel, str], Coroutine[None, None, list[str]]]


def expected(method: str, tag: str) -> list[str]:
    return [f"{tag}:abc"] if method == "Unary" or method.startswith("Up") else [f"{tag}:{letter}" for letter in "abc"]


def counted(method: str, answered_by: str, version: int = 1, outcome: str = "OK") -> CallKey:
    return CallKey(
        node_version=Version(2 if answered_by == "past" else 1),
        caller_version=Version(version),
        caller="127.0.0.1",
        method=f"/toy.Kinds/{method}",
        answered_by=answered_by,  # type: ignore[arg-type]
        from_node=False,
        outcome=outcome,
    )


class Delegating(PastSimulation):
    """Answers each method by the delegate's, by plain calls."""

    def __init__(self, delegate: Any) -> None:
        self.delegate = delegate
        self.tag = "simulated"

    def register(self, server: grpc.aio.Server) -> None:
        type(self.delegate).register(self, server)

    async def Unary(self, request: str, context: Any) -> str:  # noqa: N802
        reply: str = await self.delegate.Unary(request, context)
        return reply.replace("object", self.tag)

    async def Down(self, request: str, context: Any) -> AsyncIterator[str]:  # noqa: N802
        async for reply in self.delegate.Down(request, context):
            yield reply.replace("object", self.tag)

    async def DownByWrite(self, request: str, context: Any) -> None:  # noqa: N802
        async for reply in self.delegate.Down(request, context):
            await context.write(reply.replace("object", self.tag))

    async def Up(self, requests: AsyncIterator[str], context: Any) -> str:  # noqa: N802
        reply: str = await self.delegate.Up(requests, context)
        return reply.replace("object", self.tag)

    async def UpByRead(self, requests: AsyncIterator[str], context: Any) -> str:  # noqa: N802
        reply: str = await self.delegate.UpByRead(requests, context)
        return reply.replace("object", self.tag)

    async def Both(self, requests: AsyncIterator[str], context: Any) -> AsyncIterator[str]:  # noqa: N802
        async for reply in self.delegate.Both(requests, context):
            yield reply.replace("object", self.tag)

    async def BothByReadWrite(self, requests: AsyncIterator[str], context: Any) -> None:  # noqa: N802
        async for reply in self.delegate.Both(requests, context):
            await context.write(reply.replace("object", self.tag))


@pytest.mark.parametrize("method", METHODS)
async def test_a_call_is_answered_by_the_object(
    method: str,
    dispatch: Dispatch,
    usage: Usage,
    serve: Serve,
    connect: Connect,
    chain: MakeChain,
    kinds: Any,
    call_kind: CallKind,
) -> None:
    """A call in the current version is answered by the current object, and counted once."""
    dispatch.show(chain(kinds("object"), current=1))
    channel = connect(await serve(dispatch), 1)
    assert await call_kind(channel, method) == expected(method, "object")
    assert usage.counts() == {counted(method, "current"): 1}


@pytest.mark.parametrize("method", METHODS)
async def test_a_call_is_answered_by_a_simulation(
    method: str,
    dispatch: Dispatch,
    usage: Usage,
    serve: Serve,
    connect: Connect,
    chain: MakeChain,
    kinds: Any,
    call_kind: CallKind,
) -> None:
    """A call in an older version is answered by the past simulation through its delegate, and counted as its."""
    current = kinds("object")
    dispatch.show(chain(Delegating(current), current, current=2))
    channel = connect(await serve(dispatch), 1)
    assert await call_kind(channel, method) == expected(method, "simulated")
    assert usage.counts() == {counted(method, "past"): 1}


@pytest.mark.parametrize("method", METHODS)
async def test_a_parked_call_is_answered_when_calls_resume(
    method: str,
    dispatch: Dispatch,
    usage: Usage,
    serve: Serve,
    connect: Connect,
    chain: MakeChain,
    kinds: Any,
    call_kind: CallKind,
    until: Until,
) -> None:
    """A call that comes to a quiet node waits, and is then answered as any other."""
    dispatch.show(chain(kinds("object"), current=1))
    channel = connect(await serve(dispatch), 1)
    await dispatch.quiesce(1)
    async with asyncio.TaskGroup() as group:
        replies = group.create_task(call_kind(channel, method))
        await until(lambda: dispatch.in_flight.parked == 1)
        assert usage.counts() == {}
        dispatch.resume()
    assert replies.result() == expected(method, "object")
    assert usage.counts() == {counted(method, "current"): 1}
    assert dispatch.in_flight.parked == 0


@pytest.mark.parametrize("method", METHODS)
async def test_a_call_of_a_version_to_come_waits_for_it(
    method: str,
    dispatch: Dispatch,
    usage: Usage,
    serve: Serve,
    connect: Connect,
    chain: MakeChain,
    kinds: Any,
    call_kind: CallKind,
    until: Until,
) -> None:
    """A call in a version that the node has not yet is answered once the chain has it."""
    current = kinds("object")
    dispatch.show(chain(current, current=1))
    channel = connect(await serve(dispatch), 2)
    async with asyncio.TaskGroup() as group:
        replies = group.create_task(call_kind(channel, method))
        await until(lambda: dispatch.in_flight.parked == 1)
        dispatch.show(chain(current, Delegating(current), current=1))
    assert replies.result() == expected(method, "simulated")
    assert usage.counts() == {counted(method, "future", version=2): 1}


@pytest.mark.parametrize("method", METHODS)
async def test_a_call_is_forwarded(
    method: str,
    dispatch: Dispatch,
    usage: Usage,
    serve: Serve,
    connect: Connect,
    chain: MakeChain,
    kinds: Any,
    call_kind: CallKind,
    until: Until,
) -> None:
    """Parked calls and calls that still come are answered by the successor, which counts them."""
    successors = Usage()
    successor = Dispatch(usage=successors, newest=Newest(Version(1)), on_newer=lambda _: None)
    successor.show(chain(kinds("successor"), current=1))
    dispatch.show(chain(kinds("object"), current=1))
    channel = connect(await serve(dispatch), 1)
    await dispatch.quiesce(1)
    async with asyncio.TaskGroup() as group:
        parked = group.create_task(call_kind(channel, method))
        await until(lambda: dispatch.in_flight.parked == 1)
        dispatch.forward(connect(await serve(successor)))
    assert parked.result() == expected(method, "successor")
    assert await call_kind(channel, method) == expected(method, "successor")
    assert usage.counts() == {}
    assert successors.counts() == {counted(method, "current"): 2}
    await until(lambda: dispatch.in_flight.forwarded == 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("then", ["resume", "forward"])
async def test_a_gate_that_closes_while_the_request_is_on_its_way(
    method: str,
    then: str,
    dispatch: Dispatch,
    usage: Usage,
    serve: Serve,
    connect: Connect,
    chain: MakeChain,
    kinds: Any,
    until: Until,
) -> None:
    """A call whose headers came before the gate closed and whose request came after does not go in, nor get lost."""
    dispatch.show(chain(kinds("object"), current=1))
    channel = connect(await serve(dispatch), 1)
    by_stream = not (method == "Unary" or method.startswith("Down"))
    call: Any = channel.stream_stream(f"/toy.Kinds/{method}")()
    await call.wait_for_connection()
    if by_stream:  # such a call is inside as soon as its headers are here
        await until(lambda: dispatch.in_flight.clients == 1)
        await _write(call, "abc", one_by_one=True)
        assert [reply.decode() async for reply in call] == expected(method, "object")
        return
    await _round_trip(channel)
    await dispatch.quiesce(1)
    await _write(call, "abc", one_by_one=False)
    await until(lambda: dispatch.in_flight.parked == 1)
    assert all(key.method != f"/toy.Kinds/{method}" for key in usage.counts() if key.outcome == "OK")
    if then == "resume":
        dispatch.resume()
        assert [reply.decode() async for reply in call] == expected(method, "object")
        return
    successor = Dispatch(usage=Usage(), newest=Newest(Version(1)), on_newer=lambda _: None)
    successor.show(chain(kinds("successor"), current=1))
    dispatch.forward(connect(await serve(successor)))
    assert [reply.decode() async for reply in call] == expected(method, "successor")


async def _round_trip(channel: Any) -> None:
    """Return when all that was sent before on the channel's connection has been read by the server."""
    await channel.stream_unary("/toy.Kinds/Up")(iter([b"x"]))


async def _write(call: Any, text: str, *, one_by_one: bool) -> None:
    for message in text if one_by_one else [text]:
        await call.write(message.encode())
    await call.done_writing()
