"""A forwarded call is as if it had been made to the successor."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
import pytest

from segue.layer.chain import Chain
from segue.layer.grpc_forwarding import Forwarding
from segue.layer.grpc_refusal import RefusalReason, refusal_of
from segue.layer.grpc_server import Dispatch, InFlight
from segue.layer.label import Newest
from segue.layer.usage import Usage
from segue.model.ids import Version
from segue.model.usage import CallKey

Serve = Callable[[Dispatch], Awaitable[str]]
Connect = Callable[..., grpc.aio.Channel]
MakeChain = Callable[..., Chain]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


@pytest.fixture
def successors() -> Usage:
    return Usage()


@pytest.fixture
def successor(successors: Usage) -> Dispatch:
    return Dispatch(usage=successors, newest=Newest(Version(1)), on_newer=lambda _: None)


@pytest.fixture
async def address(dispatch: Dispatch, successor: Dispatch, serve: Serve, connect: Connect) -> str:
    """Where a node is that forwards everything to `successor`."""
    dispatch.forward(connect(await serve(successor)))
    return await serve(dispatch)


async def test_metadata_passes_both_ways(
    address: str, successor: Dispatch, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """The caller's own, the label, initial and trailing metadata, text and bytes."""

    class Telling(kinds):  # type: ignore[misc]
        async def Unary(self, request: str, context: Any) -> str:  # noqa: N802
            seen.extend(tuple(pair) for pair in context.invocation_metadata() if pair[0] != "user-agent")
            await context.send_initial_metadata((("first", "1"),))
            context.set_trailing_metadata((("last-bin", b"\x00\x01"),))
            return request

    seen: list[tuple[str, Any]] = []
    successor.show(chain(Telling("v1"), current=1))
    channel: Any = connect(address, 1, newest=3, node="n1")
    call = channel.unary_unary("/toy.Kinds/Unary")(b"x", metadata=(("own", "1"), ("own-bin", b"\x02")))
    assert await call == b"x"
    assert seen[:-1] == [("own", "1"), ("own-bin", b"\x02"), ("segue-label", "1/3"), ("segue-node", "n1")]
    assert seen[-1][0] == "segue-peer"
    assert tuple(await call.initial_metadata()) == (("first", "1"),)
    assert tuple(await call.trailing_metadata()) == (("last-bin", b"\x00\x01"),)


@pytest.mark.parametrize(
    ("request_text", "code", "details"),
    [("abort", "NOT_FOUND", "no such block"), ("set code", "RESOURCE_EXHAUSTED", "full"), ("none", None, None)],
)
@pytest.mark.parametrize("version", [1, 2])
async def test_a_status_passes(
    request_text: str,
    code: str | None,
    details: str | None,
    version: int,
    address: str,
    dispatch: Dispatch,
    successor: Dispatch,
    usage: Usage,
    successors: Usage,
    connect: Connect,
    chain: MakeChain,
    kinds: Any,
    until: Until,
) -> None:
    """Status, details and trailing metadata are the successor's, who also counts the call; nothing is counted here."""
    dispatch.show(chain(kinds("old"), current=1))
    successor.show(chain(kinds("v1"), kinds("v2"), current=2))
    channel: Any = connect(address, version)
    call = channel.unary_unary("/toy.Kinds/Unary")(request_text.encode())
    if code is None:
        assert await call == f"v{version}:none".encode()
    else:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert (caught.value.code().name, caught.value.details()) == (code, details)
        trailing = (("reason", "gone"),) if code == "NOT_FOUND" else ()
        assert tuple(caught.value.trailing_metadata()) == trailing
    await until(lambda: successor.in_flight.clients == 0)
    assert usage.counts() == {}
    assert successors.counts() == {
        CallKey(
            node_version=Version(2),
            caller_version=Version(version),
            caller="127.0.0.1",
            method="/toy.Kinds/Unary",
            answered_by="past" if version == 1 else "current",
            from_node=False,
            outcome=code or "OK",
        ): 1
    }


async def test_the_deadline_passes(
    address: str, successor: Dispatch, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """The successor's object sees how long the caller still waits."""

    class Timing(kinds):  # type: ignore[misc]
        async def Unary(self, request: str, context: Any) -> str:  # noqa: N802
            return str(context.time_remaining())

    successor.show(chain(Timing("v1"), current=1))
    channel: Any = connect(address, 1)
    unary = channel.unary_unary("/toy.Kinds/Unary")
    assert 0 < float(await unary(b"x", timeout=30)) <= 31  # gRPC rounds it up on the way
    assert await unary(b"x") == b"None"


async def test_a_cancellation_passes(
    address: str,
    dispatch: Dispatch,
    successor: Dispatch,
    successors: Usage,
    connect: Connect,
    chain: MakeChain,
    kinds: Any,
    until: Until,
) -> None:
    """The successor's object is cancelled when the caller cancels."""
    current = kinds("v1")
    successor.show(chain(current, current=1))
    channel: Any = connect(address, 1)
    call = channel.unary_unary("/toy.Kinds/Unary")(b"hang")
    await until(lambda: successor.in_flight.clients == 1)
    assert dispatch.in_flight.forwarded == 1
    call.cancel()
    await current.cancelled.wait()
    await until(lambda: dispatch.in_flight.forwarded == successor.in_flight.clients == 0)
    assert {key.outcome for key in successors.counts()} == {"CANCELLED"}


async def test_a_conversation_is_forwarded_message_by_message(
    address: str, successor: Dispatch, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """A reply arrives before the caller has sent all it will."""
    successor.show(chain(kinds("v1"), current=1))
    channel: Any = connect(address, 1)
    call = channel.stream_stream("/toy.Kinds/Both")()
    for letter in "abc":
        await call.write(letter.encode())
        assert await call.read() == f"v1:{letter}".encode()
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def test_a_successor_that_ends_a_conversation_early(
    address: str, dispatch: Dispatch, successor: Dispatch, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """The status reaches a caller who has not finished sending."""

    class Leaving(kinds):  # type: ignore[misc]
        async def BothByReadWrite(self, requests: Any, context: Any) -> None:  # noqa: N802
            await context.read()
            await context.abort(grpc.StatusCode.ABORTED, "enough")

    successor.show(chain(Leaving("v1"), current=1))
    channel: Any = connect(address, 1)
    call = channel.stream_stream("/toy.Kinds/BothByReadWrite")()
    await call.write(b"a")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert (caught.value.code().name, caught.value.details()) == ("ABORTED", "enough")
    await until(lambda: dispatch.in_flight.forwarded == 0)


async def test_calls_resume_after_forwarding(
    address: str, dispatch: Dispatch, successor: Dispatch, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """A hand-over that is called off leaves the old objects in service."""
    successor.show(chain(kinds("new"), current=1))
    dispatch.show(chain(kinds("old"), current=1))
    unary: Any = connect(address, 1).unary_unary("/toy.Kinds/Unary")
    assert await unary(b"x") == b"new:x"
    dispatch.resume()
    assert await unary(b"x") == b"old:x"


async def test_a_successor_that_is_not_there(
    address: str, dispatch: Dispatch, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """Calls wait for it, and are answered here if this process is to answer again: nobody has got them."""
    dispatch.show(chain(kinds("old"), current=1))
    dispatch.forward(connect("127.0.0.1:1"))
    channel: Any = connect(address, 1)
    unary = channel.unary_unary("/toy.Kinds/Unary")
    calls = [unary(b"a"), unary(b"b")]
    stream = channel.stream_stream("/toy.Kinds/Both")()
    await stream.write(b"c")
    await until(lambda: dispatch.in_flight.parked == 3)
    assert dispatch.in_flight.forwarded == 0
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await unary(b"x", timeout=0.1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    dispatch.resume()
    assert [await call for call in calls] == [b"old:a", b"old:b"]
    assert await stream.read() == b"old:c"
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
    await until(lambda: dispatch.in_flight == InFlight(clients=0, nodes=0, parked=0, forwarded=0))


async def test_a_successor_that_comes_late(
    address: str, dispatch: Dispatch, successor: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any,
    until: Until,
) -> None:  # fmt: skip
    """A second successor gets the calls that the first never got."""
    dispatch.forward(connect("127.0.0.1:1"))
    unary: Any = connect(address, 1).unary_unary("/toy.Kinds/Unary")
    call = unary(b"a")
    await until(lambda: dispatch.in_flight.parked == 1)
    successor.show(chain(kinds("new"), current=1))
    dispatch.forward(connect(await serve(successor)))
    assert await call == b"new:a"


async def test_a_successor_that_has_just_gone(
    address: str, dispatch: Dispatch, successor: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any,
    until: Until, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A call that came before its end was noticed goes to the next successor, and does not wait for the first."""
    dispatch.forward(connect("127.0.0.1:1"))
    client: Any = connect(address, 1)
    monkeypatch.setattr(Forwarding, "is_reached", True)
    call = client.unary_unary("/toy.Kinds/Unary")(b"a")
    await until(lambda: dispatch.in_flight.forwarded == 1)
    assert dispatch.in_flight.parked == 0
    successor.show(chain(kinds("new"), current=1))
    dispatch.forward(connect(await serve(successor)))
    assert await call == b"new:a"
    await until(lambda: dispatch.in_flight.forwarded == 0)


async def test_a_successor_that_has_just_gone_and_a_request_that_comes_later(
    address: str, dispatch: Dispatch, successor: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any,
    until: Until, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It was being read for the first successor, and is not lost to the next."""
    dispatch.forward(connect("127.0.0.1:1"))
    client: Any = connect(address, 1)
    monkeypatch.setattr(Forwarding, "is_reached", True)
    stream = client.stream_stream("/toy.Kinds/Both")()
    await until(lambda: dispatch.in_flight.forwarded == 1)
    successor.show(chain(kinds("new"), current=1))
    dispatch.forward(connect(await serve(successor)))
    await until(lambda: successor.in_flight.clients == 1)
    await stream.write(b"a")
    async with asyncio.timeout(10):
        assert await stream.read() == b"new:a"
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF


async def test_a_second_successor(
    dispatch: Dispatch, successor: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """New calls go to the new one; those that are being relayed end where they are, and then the old one is left."""
    third = Dispatch(usage=Usage(), newest=Newest(Version(1)), on_newer=lambda _: None)
    first, second = kinds("first"), kinds("second")
    successor.show(chain(first, current=1))
    third.show(chain(second, current=1))
    channels = [connect(await serve(successor)), connect(await serve(third))]
    dispatch.forward(channels[0])
    client: Any = connect(await serve(dispatch), 1)
    inside = client.unary_unary("/toy.Kinds/Unary")(b"hang")
    talk = client.stream_stream("/toy.Kinds/Both")()
    await talk.write(b"a")
    assert await talk.read() == b"first:a"
    await until(lambda: successor.in_flight.clients == 2)
    dispatch.forward(channels[1])
    assert await client.unary_unary("/toy.Kinds/Unary")(b"x") == b"second:x"
    assert dispatch.in_flight.forwarded == 2
    async with asyncio.TaskGroup() as group:
        left = group.create_task(dispatch.relayed(channels[0]))
        await talk.write(b"b")
        assert await talk.read() == b"first:b"
        assert not left.done()
        await talk.done_writing()
        assert await talk.read() is grpc.aio.EOF
        first.release.set()
        assert await inside == b"first:hang"
    await dispatch.relayed(channels[0])


async def test_relayed_calls_that_do_not_end_are_ended(
    address: str, dispatch: Dispatch, successor: Dispatch, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """Those that end in time are not; the others' callers are told, and the successor's object is cancelled."""
    current = kinds("v1")
    successor.show(chain(current, current=1))
    channel: Any = connect(address, 1)
    quick = channel.stream_stream("/toy.Kinds/Both")()
    endless = channel.unary_stream("/toy.Kinds/Down")(b"hang")
    await quick.write(b"a")
    assert await quick.read() == b"v1:a"
    assert [await endless.read() for _ in "hang"] == [b"v1:h", b"v1:a", b"v1:n", b"v1:g"]
    async with asyncio.TaskGroup() as group:
        ending = group.create_task(dispatch.end_relayed(0.3))
        await quick.done_writing()
        assert await quick.read() is grpc.aio.EOF
        await ending
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await endless.read()
    refusal = refusal_of(caught.value)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert refusal is not None
    assert refusal.reason is RefusalReason.NODE_UPGRADING
    await current.closed.wait()
    assert dispatch.in_flight.forwarded == 0
