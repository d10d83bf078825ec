"""Calls are parked up to a limit, in number and in bytes; beyond it they are refused, to be tried again."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
import pytest

from segue.layer.chain import Chain
from segue.layer.grpc_refusal import Refusal, RefusalReason, refusal_of
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest
from segue.layer.parked import ParkLimits
from segue.layer.usage import Usage
from segue.model.ids import Version

Serve = Callable[[Dispatch], Awaitable[str]]
Connect = Callable[..., grpc.aio.Channel]
MakeChain = Callable[..., Chain]
Until = Callable[[Callable[[], bool]], Awaitable[None]]

UNARY = "/toy.Kinds/Unary"
#: Every kind of call, as it begins.
KINDS = ["Unary", "Down", "Up", "Both"]


def limited(**limits: Any) -> Dispatch:
    parking = ParkLimits(wait_s=limits.pop("wait_s", 30.0), **limits)
    return Dispatch(usage=Usage(), newest=Newest(Version(1)), on_newer=lambda _: None, parking=parking)


def begin(channel: Any, kind: str, request: bytes) -> Any:
    """Begin a call of any kind; what is sent as a stream does not end."""
    path = f"/toy.Kinds/{kind}"
    if kind == "Unary":
        return channel.unary_unary(path)(request)
    if kind == "Down":
        return channel.unary_stream(path)(request)

    async def requests() -> Any:
        yield request

    return (channel.stream_unary if kind == "Up" else channel.stream_stream)(path)(requests())


async def refused(call: Any) -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    refusal = refusal_of(caught.value)
    assert refusal is not None
    return refusal


async def test_so_many_calls_may_wait(
    serve: Serve, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """One more is told when to come again; those that wait are answered, and then there is room again."""
    dispatch = limited(calls=2)
    dispatch.show(chain(kinds("v1"), current=1))
    await dispatch.quiesce(1)
    unary: Any = connect(await serve(dispatch), 1).unary_unary(UNARY)
    calls = [unary(b"a"), unary(b"b")]
    await until(lambda: dispatch.in_flight.parked == 2)
    refusal = await refused(unary(b"c"))
    assert refusal.reason is RefusalReason.TOO_MANY_PARKED
    assert refusal.retry_after_s == 1
    assert "try again after 1 s" in refusal.message
    dispatch.resume()
    assert [await call for call in calls] == [b"v1:a", b"v1:b"]
    await dispatch.quiesce(1)
    third = unary(b"c")
    await until(lambda: dispatch.in_flight.parked == 1)
    dispatch.resume()
    assert await third == b"v1:c"
    assert dispatch.parked_bytes == 0


@pytest.mark.parametrize("kind", KINDS)
async def test_they_may_hold_so_many_bytes(
    kind: str, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """Requests are read as they come, and counted, whatever the kind of call is; what is read is not lost."""
    dispatch = limited(request_bytes=1000)
    dispatch.show(chain(kinds("v1"), current=1))
    await dispatch.quiesce(1)
    channel: Any = connect(await serve(dispatch), 1)
    calls = [begin(channel, kind, b"a" * 400) for _ in range(2)]
    await until(lambda: dispatch.parked_bytes == 800)
    beyond = begin(channel, kind, b"b" * 201)
    if kind in ("Unary", "Up"):
        assert (await refused(beyond)).reason is RefusalReason.TOO_MANY_PARKED
    else:
        assert (await refused(beyond.read())).reason is RefusalReason.TOO_MANY_PARKED
    small = begin(channel, kind, b"c" * 200)
    await until(lambda: dispatch.parked_bytes == 1000)
    dispatch.resume()
    for call, text in zip([*calls, small], ["a" * 400, "a" * 400, "c" * 200], strict=True):
        if kind in ("Unary", "Up"):
            assert (await call).decode() == f"v1:{text}"
        else:
            assert (await call.read()).decode() == "v1:" + (text[0] if kind == "Down" else text)
    assert (dispatch.in_flight.parked, dispatch.parked_bytes) == (0, 0)


async def test_a_call_that_gives_up_makes_room(
    serve: Serve, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """Neither it nor its request is counted any more."""
    dispatch = limited(calls=1)
    dispatch.show(chain(kinds("v1"), current=1))
    await dispatch.quiesce(1)
    unary: Any = connect(await serve(dispatch), 1).unary_unary(UNARY)
    gives_up = unary(b"a" * 100)
    await until(lambda: dispatch.parked_bytes == 100)
    gives_up.cancel()
    await until(lambda: dispatch.in_flight.parked == 0)
    assert dispatch.parked_bytes == 0
    call = unary(b"b")
    await until(lambda: dispatch.in_flight.parked == 1)
    dispatch.resume()
    assert await call == b"v1:b"


async def test_calls_that_wait_for_their_version_count(
    serve: Serve, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """Anybody can claim a version, and would fill the node otherwise."""
    dispatch = limited(calls=1)
    dispatch.show(chain(kinds("v1"), current=1))
    address = await serve(dispatch)
    newer: Any = connect(address, 2).unary_unary(UNARY)
    older: Any = connect(address, 1).unary_unary(UNARY)
    waiting = newer(b"a")
    await until(lambda: dispatch.in_flight.parked == 1)
    refusal = await refused(newer(b"b"))
    assert refusal.reason is RefusalReason.TOO_MANY_PARKED
    assert await older(b"x") == b"v1:x"
    waiting.cancel()


async def test_calls_that_wait_for_a_successor_count(
    serve: Serve, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """As long as it cannot be reached."""
    dispatch = limited(calls=1)
    dispatch.forward(connect("127.0.0.1:1"))
    unary: Any = connect(await serve(dispatch), 1).unary_unary(UNARY)
    waiting = unary(b"a")
    await until(lambda: dispatch.in_flight.parked == 1)
    assert (await refused(unary(b"b"))).reason is RefusalReason.TOO_MANY_PARKED
    dispatch.show(chain(kinds("v1"), current=1))
    dispatch.resume()
    assert await waiting == b"v1:a"


async def test_a_stream_that_has_sent_nothing_waits_too(
    serve: Serve, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """It goes in before it sends its first request, and sends it then."""
    dispatch = limited()
    dispatch.show(chain(kinds("v1"), current=1))
    await dispatch.quiesce(1)
    channel: Any = connect(await serve(dispatch), 1)
    talk = channel.stream_stream("/toy.Kinds/Both")()
    await until(lambda: dispatch.in_flight.parked == 1)
    dispatch.resume()
    await until(lambda: dispatch.in_flight.clients == 1)
    for letter in (b"a", b"b"):
        await talk.write(letter)
        assert await talk.read() == b"v1:" + letter
    await talk.done_writing()
    assert await talk.read() is grpc.aio.EOF
    await until(lambda: dispatch.in_flight.clients == 0)


class Otherwise:
    """An object whose method at `UNARY` takes and gives streams."""

    def register(self, server: grpc.aio.Server) -> None:
        handlers: dict[str, Any] = {"Unary": grpc.stream_stream_rpc_method_handler(self.answer)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("toy.Kinds", handlers),))

    async def answer(self, requests: Any, context: Any) -> Any:
        yield b"streams:" + b"".join([request async for request in requests])


async def test_a_request_is_not_lost_where_its_method_becomes_a_stream(
    serve: Serve, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """A call without a label, whose version is another when it goes in than it was when it came."""
    dispatch = limited()
    dispatch.show(chain(kinds("v1"), current=1))
    await dispatch.quiesce(1)
    unary: Any = connect(await serve(dispatch)).unary_unary(UNARY)
    call = unary(b"a")
    await until(lambda: dispatch.parked_bytes == 1)
    dispatch.show(chain(kinds("v1"), Otherwise(), current=2))
    dispatch.resume()
    assert await call == b"streams:a"
