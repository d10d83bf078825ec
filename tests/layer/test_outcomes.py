"""What a caller gets of each way a call can end, directly and parked, and what is counted."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
import pytest

from segue.author import Disallowed
from segue.layer.chain import Chain
from segue.layer.grpc_server import Dispatch
from segue.layer.usage import Usage

Serve = Callable[[Dispatch], Awaitable[str]]
Connect = Callable[..., grpc.aio.Channel]
MakeChain = Callable[..., Chain]
Until = Callable[[Callable[[], bool]], Awaitable[None]]

FAILED = "segue: the object of version 1 failed; its node's log says why"


def outcomes(usage: Usage) -> dict[str, int]:
    return {key.outcome: count for key, count in usage.counts().items()}


@pytest.fixture(params=["direct", "parked"])
async def channel(
    request: pytest.FixtureRequest, dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> Any:
    """A channel to an object that answers, or that answers once `resume` is called."""
    dispatch.show(chain(kinds("v1"), current=1))
    if request.param == "parked":
        await dispatch.quiesce(1)
    return connect(await serve(dispatch), 1)


async def ended(dispatch: Dispatch, until: Until, call: Any) -> grpc.aio.AioRpcError:
    await until(lambda: dispatch.in_flight.parked == 1 or call.done())
    dispatch.resume()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    await until(lambda: dispatch.in_flight.clients == 0)  # an abort reaches the caller before the call has left
    return caught.value


@pytest.mark.parametrize(
    ("request_text", "code", "details"),
    [
        ("abort", "NOT_FOUND", "no such block"),
        ("set code", "RESOURCE_EXHAUSTED", "full"),
        ("set code and raise", "OUT_OF_RANGE", "too far"),
        ("fail", "INTERNAL", FAILED),
        ("no message", "INTERNAL", FAILED),
        (b"\xff", "INTERNAL", "segue: the request is no message of version 1's /toy.Kinds/Unary"),
    ],
)
async def test_a_status_reaches_the_caller_and_is_counted(
    request_text: str | bytes,
    code: str,
    details: str,
    channel: Any,
    dispatch: Dispatch,
    usage: Usage,
    until: Until,
) -> None:
    """The object's own statuses are its own; its failures say no more than that it failed."""
    request = request_text.encode() if isinstance(request_text, str) else request_text
    error = await ended(dispatch, until, channel.unary_unary("/toy.Kinds/Unary")(request))
    assert error.code().name == code
    assert error.details() == details
    assert outcomes(usage) == {code: 1}
    if code == "NOT_FOUND":
        assert tuple(error.trailing_metadata()) == (("reason", "gone"),)


async def test_a_failure_is_logged_with_its_traceback(
    channel: Any, dispatch: Dispatch, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    """What the caller is not told, the node's log tells."""
    with caplog.at_level(logging.ERROR):
        await ended(dispatch, until, channel.unary_unary("/toy.Kinds/Unary")(b"fail"))
    (record,) = caplog.records
    assert record.name.startswith("segue.layer")
    assert "/toy.Kinds/Unary" in record.getMessage()
    assert record.exc_info
    assert isinstance(record.exc_info[1], ValueError)


@pytest.mark.parametrize("method", ["Up", "UpByRead", "Both", "BothByReadWrite", "Down", "DownByWrite"])
async def test_an_unreadable_message_of_a_stream(
    method: str, channel: Any, dispatch: Dispatch, usage: Usage, until: Until
) -> None:
    """It is INTERNAL whatever the kind."""
    call = channel.stream_unary(f"/toy.Kinds/{method}")(iter([b"\xff"]))
    error = await ended(dispatch, until, call)
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "no message of version 1's" in (error.details() or "")
    assert outcomes(usage) == {"INTERNAL": 1}


async def test_what_an_object_disallows(
    dispatch: Dispatch, usage: Usage, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """A disallowed call is an answer, with the author's words; it is not logged as a failure."""

    class Refusing(kinds):  # type: ignore[misc]
        async def Unary(self, request: str, context: Any) -> str:  # noqa: N802
            raise Disallowed("version 2 has no names")

    dispatch.show(chain(Refusing("v1"), kinds("v2"), current=2))
    channel: Any = connect(await serve(dispatch), 1)
    error = await ended(dispatch, until, channel.unary_unary("/toy.Kinds/Unary")(b"x"))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert error.details() == "version 2 has no names"
    assert outcomes(usage) == {"FAILED_PRECONDITION": 1}


@pytest.mark.parametrize("parked", [False, True])
async def test_a_cancellation_reaches_the_object(
    parked: bool,
    dispatch: Dispatch,
    usage: Usage,
    serve: Serve,
    connect: Connect,
    chain: MakeChain,
    kinds: Any,
    until: Until,
) -> None:
    """The object's method is cancelled where it waits, and the call is counted as cancelled."""
    current = kinds("v1")
    dispatch.show(chain(current, current=1))
    channel: Any = connect(await serve(dispatch), 1)
    if parked:
        await dispatch.quiesce(1)
    call = channel.unary_unary("/toy.Kinds/Unary")(b"hang")
    if parked:
        await until(lambda: dispatch.in_flight.parked == 1)
        dispatch.resume()
    await until(lambda: dispatch.in_flight.clients == 1)
    call.cancel()
    await current.cancelled.wait()
    await until(lambda: dispatch.in_flight.clients == 0)
    assert outcomes(usage) == {"CANCELLED": 1}


async def test_a_deadline_that_passes_is_counted_as_such(
    dispatch: Dispatch,
    usage: Usage,
    serve: Serve,
    connect: Connect,
    chain: MakeChain,
    kinds: Any,
    until: Until,
) -> None:
    """The caller got DEADLINE_EXCEEDED, and so it stands in the counts."""
    dispatch.show(chain(kinds("v1"), current=1))
    call: Any = connect(await serve(dispatch), 1).unary_unary("/toy.Kinds/Unary")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"hang", timeout=0.1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: dispatch.in_flight.clients == 0)
    assert outcomes(usage) == {"DEADLINE_EXCEEDED": 1}


async def test_a_stream_that_is_cancelled_is_closed_before_the_call_has_left(
    dispatch: Dispatch,
    usage: Usage,
    serve: Serve,
    connect: Connect,
    chain: MakeChain,
    kinds: Any,
    until: Until,
) -> None:
    """A generator's clean-up is part of the call: a node that is quiet has none outstanding."""
    current = kinds("v1")
    dispatch.show(chain(current, current=1))
    channel: Any = connect(await serve(dispatch), 1)
    call = channel.unary_stream("/toy.Kinds/Down")(b"hang")
    for _ in "hang":
        await call.read()
    call.cancel()
    await until(lambda: dispatch.in_flight.clients == 0)
    assert current.closed.is_set()
    assert outcomes(usage) == {"CANCELLED": 1}


async def test_a_stream_that_fails_is_closed_before_the_call_has_left(
    dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """Also where the generator waits at a reply that could not be sent."""

    class Wrong(kinds):  # type: ignore[misc]
        async def Down(self, request: str, context: Any) -> Any:  # noqa: N802
            try:
                yield 5
            finally:
                inside.append(dispatch.in_flight.clients)

    inside: list[int] = []
    dispatch.show(chain(Wrong("v1"), current=1))
    channel: Any = connect(await serve(dispatch), 1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_stream("/toy.Kinds/Down")(b"x").read()
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    await until(lambda: dispatch.in_flight.clients == 0)
    assert inside == [1]


async def test_a_call_that_is_cancelled_while_parked_is_gone(
    dispatch: Dispatch,
    usage: Usage,
    serve: Serve,
    connect: Connect,
    chain: MakeChain,
    kinds: Any,
    until: Until,
) -> None:
    """Nobody answered it, so it is not counted, and it does not go in later."""
    dispatch.show(chain(kinds("v1"), current=1))
    channel: Any = connect(await serve(dispatch), 1)
    await dispatch.quiesce(1)
    call = channel.unary_unary("/toy.Kinds/Unary")(b"x")
    await until(lambda: dispatch.in_flight.parked == 1)
    call.cancel()
    await until(lambda: dispatch.in_flight.parked == 0)
    dispatch.resume()
    await channel.unary_unary("/toy.Kinds/Unary")(b"y")
    assert outcomes(usage) == {"OK": 1}


async def test_callers_are_counted_apart(
    dispatch: Dispatch, usage: Usage, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """Nodes apart from clients, and a snapshot does not change."""
    dispatch.show(chain(kinds("v1"), current=1))
    address = await serve(dispatch)
    client: Any = connect(address, 1)
    node: Any = connect(address, 1, node="n1")
    await client.unary_unary("/toy.Kinds/Unary")(b"x")
    before = usage.counts()
    for _ in range(3):
        await node.unary_unary("/toy.Kinds/Unary")(b"x")
    assert {key.from_node: count for key, count in before.items()} == {False: 1}
    assert {key.from_node: count for key, count in usage.counts().items()} == {False: 1, True: 3}


async def test_a_method_that_cancels_itself(
    dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any, usage: Usage, until: Until
) -> None:
    """As when it awaits a task or a call that it has cancelled: its caller is told, and does not wait for ever."""

    class Cancelling(kinds):  # type: ignore[misc]
        async def Unary(self, request: str, context: Any) -> str:  # noqa: N802
            cancelled: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            cancelled.cancel()
            return await cancelled

    dispatch.show(chain(Cancelling("v1"), current=1))
    channel: Any = connect(await serve(dispatch), 1)
    error = await ended(dispatch, until, channel.unary_unary("/toy.Kinds/Unary")(b"a", timeout=10))
    assert (error.code().name, error.details()) == ("CANCELLED", "cancelled by the server")
    assert outcomes(usage) == {"CANCELLED": 1}
