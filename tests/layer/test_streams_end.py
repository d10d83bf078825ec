"""Streams that are inside when a node goes quiet have a time to end, then they are ended, and nothing of them stays."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc.aio
import pytest

from segue.layer.chain import Chain
from segue.layer.grpc_refusal import RefusalReason, refusal_of
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest
from segue.layer.usage import Usage
from segue.model.ids import Version

Serve = Callable[[Dispatch], Awaitable[str]]
Connect = Callable[..., grpc.aio.Channel]
MakeChain = Callable[..., Chain]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


def assert_upgrading(error: grpc.RpcError) -> None:
    refusal = refusal_of(error)
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert refusal is not None
    assert refusal.reason is RefusalReason.NODE_UPGRADING


async def ended(call: Any) -> None:
    """See a call end because its node upgrades."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rest(call)
    assert_upgrading(caught.value)


async def rest(call: Any) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


async def test_streams_have_time_while_unary_calls_go_on(
    dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """What is waited for streams is not waited by unary calls; streams that come are parked meanwhile."""
    dispatch.show(chain(kinds("v1"), current=1))
    channel: Any = connect(await serve(dispatch), 1)
    unary, both = channel.unary_unary("/toy.Kinds/Unary"), channel.stream_stream("/toy.Kinds/Both")
    inside = both()
    await inside.write(b"a")
    assert await inside.read() == b"v1:a"
    async with asyncio.TaskGroup() as group:
        quiet = group.create_task(dispatch.quiesce(5, streams_s=20))
        await asyncio.sleep(0)
        later = both()
        await later.write(b"x")
        await until(lambda: dispatch.in_flight.parked == 1)
        assert await unary(b"x") == b"v1:x"
        assert not quiet.done()
        await inside.write(b"b")
        assert await inside.read() == b"v1:b"
        await inside.done_writing()
        assert await inside.read() is grpc.aio.EOF
    assert (dispatch.in_flight.clients, dispatch.in_flight.parked) == (0, 1)
    dispatch.resume()
    assert await later.read() == b"v1:x"
    later.cancel()


@pytest.mark.parametrize("node", [None, "n2"])
async def test_a_stream_that_does_not_end_is_ended(
    node: str | None, dispatch: Dispatch, usage: Usage, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """Its caller gets what was sent, and then a status that says why; the method's clean-up is over by then."""
    current = kinds("v1")
    dispatch.show(chain(current, current=1))
    channel: Any = connect(await serve(dispatch), 1, node=node)
    down = channel.unary_stream("/toy.Kinds/Down")(b"hang")
    assert await down.read() == b"v1:h"
    await dispatch.quiesce(5, streams_s=0.05)
    assert current.closed.is_set()
    assert (dispatch.in_flight.clients, dispatch.in_flight.nodes) == (0, 0)
    await ended(down)
    assert [key.outcome for key in usage.counts()] == ["UNAVAILABLE"]


class Odd:
    """An object with one stream that does not want to end, in the way that its request says."""

    def __init__(self) -> None:
        self.inside = 0
        self.release = asyncio.Event()

    def register(self, server: grpc.aio.Server) -> None:
        handlers: dict[str, Any] = {"Down": grpc.unary_stream_rpc_method_handler(self.down)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("toy.Odd", handlers),))

    async def down(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self.inside += 1
        try:
            yield b"x" * 10_000_000 if request == b"large" else b"begun"
            await self.wait(request, context)
        finally:
            self.inside -= 1

    async def wait(self, request: bytes, context: Any) -> None:
        match request:
            case b"swallows":
                try:
                    await self.release.wait()
                except asyncio.CancelledError:
                    return
            case b"fails":
                try:
                    await self.release.wait()
                finally:
                    raise ValueError("secret of the object")
            case b"aborts":
                try:
                    await self.release.wait()
                except asyncio.CancelledError:
                    await context.abort(grpc.StatusCode.DATA_LOSS, "gone")
            case b"stays":
                while not self.release.is_set():
                    try:
                        await self.release.wait()
                    except asyncio.CancelledError:
                        continue
            case b"floods":
                while True:
                    await context.write(b"x" * 100_000)


@pytest.fixture
async def odd(dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain) -> tuple[Odd, Any]:
    instance = Odd()
    dispatch.show(chain(instance, current=1))
    channel: Any = connect(await serve(dispatch), 1)
    return instance, channel.unary_stream("/toy.Odd/Down")


@pytest.mark.parametrize("how", [b"swallows", b"fails", b"aborts"])
async def test_whatever_a_method_makes_of_it(how: bytes, odd: tuple[Odd, Any], dispatch: Dispatch) -> None:
    """Its caller is told that the node upgrades, and never that the stream is complete."""
    instance, down = odd
    call = down(how)
    assert await call.read() == b"begun"
    await dispatch.quiesce(5, streams_s=0)
    assert instance.inside == 0
    await ended(call)


async def test_a_method_that_does_not_end(odd: tuple[Odd, Any], dispatch: Dispatch, until: Until) -> None:
    """It is said in time, and unary calls never waited; a later try finds it ended."""
    instance, down = odd
    call = down(b"stays")
    assert await call.read() == b"begun"
    with pytest.raises(TimeoutError, match="1 calls of clients and 0 of nodes are still inside, 1 of them streams"):
        await dispatch.quiesce(0.05, streams_s=0)
    dispatch.resume()
    instance.release.set()
    await ended(call)
    await dispatch.quiesce(5, streams_s=0)


async def test_a_caller_that_does_not_take_the_first_reply(
    odd: tuple[Odd, Any], dispatch: Dispatch, until: Until
) -> None:
    """It is larger than the caller's end allows: it has a moment, and does not hold up the upgrade."""
    instance, down = odd
    call = down(b"large")
    await until(lambda: instance.inside == 1)
    await asyncio.sleep(0.1)  # for gRPC's buffers to fill, or else this shows less
    await dispatch.quiesce(5, streams_s=0)
    assert (instance.inside, dispatch.in_flight.clients) == (0, 0)
    with pytest.raises(grpc.aio.AioRpcError):
        await rest(call)


async def test_a_caller_that_does_not_read(odd: tuple[Odd, Any], dispatch: Dispatch, until: Until) -> None:
    """Its stream is full, and it cannot be told anything: nobody waits for it."""
    instance, down = odd
    call = down(b"floods")
    await until(lambda: instance.inside == 1)
    await asyncio.sleep(0.1)  # for gRPC's buffers to fill, or else this shows less
    await dispatch.quiesce(5, streams_s=0)
    assert (instance.inside, dispatch.in_flight.clients) == (0, 0)
    await ended(call)


async def test_a_caller_that_gives_up_at_the_same_time(odd: tuple[Odd, Any], dispatch: Dispatch) -> None:
    """Nothing of the call stays, whoever was first."""
    instance, down = odd
    calls = [down(b"swallows") for _ in range(20)]
    for call in calls:
        assert await call.read() == b"begun"
    for call in calls:
        call.cancel()
    await dispatch.quiesce(5, streams_s=0)
    assert (instance.inside, dispatch.in_flight.clients) == (0, 0)


class Fetching:
    """An object whose `Ask` takes a stream from the other node, once it may; `Tell` is that stream."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.other: Any = None

    def register(self, server: grpc.aio.Server) -> None:
        handlers: dict[str, Any] = {
            "Ask": grpc.unary_unary_rpc_method_handler(self.ask),
            "Tell": grpc.unary_stream_rpc_method_handler(self.tell),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("toy.Fetching", handlers),))

    async def ask(self, request: bytes, context: Any) -> bytes:
        await self.go.wait()
        return b"".join([part async for part in self.other.unary_stream("/toy.Fetching/Tell")(request)])

    async def tell(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield request
        yield request


async def test_two_nodes_that_stream_to_each_other_get_quiet(
    serve: Serve, connect: Connect, chain: MakeChain, until: Until
) -> None:
    """Each has a client's call inside that takes a stream from the other; both go quiet at once, and no call fails."""
    objects = [Fetching(), Fetching()]
    nodes = [Dispatch(usage=Usage(), newest=Newest(Version(1)), on_newer=lambda _: None) for _ in objects]
    addresses = []
    for node, instance in zip(nodes, objects, strict=True):
        node.show(chain(instance, current=1))
        addresses.append(await serve(node))
    for mine, other in ((0, 1), (1, 0)):
        objects[mine].other = connect(addresses[other], 1, node=f"n{mine}")
    clients: list[Any] = [connect(address, 1) for address in addresses]
    asking = [client.unary_unary("/toy.Fetching/Ask")(b"x") for client in clients]
    await until(lambda: all(node.in_flight.clients == 1 for node in nodes))
    async with asyncio.TaskGroup() as group:
        for node in nodes:
            group.create_task(node.quiesce(15, streams_s=5))
        await asyncio.sleep(0)
        for instance in objects:
            instance.go.set()
    assert [await call for call in asking] == [b"xx", b"xx"]
    assert all(node.in_flight.clients == node.in_flight.nodes == 0 for node in nodes)
