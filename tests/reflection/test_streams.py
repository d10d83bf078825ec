"""The stream is delegated message by message, both ways, and so are its ends: half-close, cancellation, errors."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_reflection.v1alpha import reflection_pb2 as v1alpha
from grpc_reflection.v1alpha import reflection_pb2_grpc as v1alpha_services
from hypothesis import given, settings
from hypothesis import strategies as st
from reflection import reflection_v1_pb2 as v1
from reflection import reflection_v1_pb2_grpc as v1_services
from reflection.node import Reflection
from reflection.upgrade import Version1
from shop import shop_pb2

Prepare = Callable[[grpc.aio.Server], object]
Serve = Callable[[Prepare], Awaitable[str]]
Served = Callable[[Prepare], AbstractAsyncContextManager[str]]
Adding = Callable[[object], Prepare]
Connect = Callable[[str], grpc.aio.Channel]

SHOP = shop_pb2.DESCRIPTOR.services_by_name["Shop"].full_name

#: The example's simulation does not look at its node.
_NO_NODE: Any = None

#: {name of a version: its messages, its stub}
VERSIONS: dict[str, tuple[Any, Any]] = {
    "v1alpha": (v1alpha, v1alpha_services.ServerReflectionStub),
    "v1": (v1, v1_services.ServerReflectionStub),
}


class Watched(Reflection):
    """Reflection that tells what it got, and fails when asked for a symbol that says how.

    `stop` ends the stream at once, `refuse` and `fail` end it with a status and with an exception, `hang` waits.
    """

    def __init__(self) -> None:
        super().__init__([SHOP])
        self.got: list[str] = []
        self.hanging = asyncio.Event()
        self.ended = asyncio.Event()

    async def ServerReflectionInfo(self, requests: Any, context: Any) -> AsyncIterator[v1.ServerReflectionResponse]:  # noqa: N802
        try:
            async for request in requests:
                assert isinstance(request, v1.ServerReflectionRequest)
                self.got.append(request.file_containing_symbol)
                match request.file_containing_symbol:
                    case "stop":
                        return
                    case "refuse":
                        context.set_trailing_metadata((("reason", "busy"),))
                        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many files", (("reason", "busy"),))
                    case "fail":
                        raise ValueError("secret of the object")
                    case "hang":
                        self.hanging.set()
                        await asyncio.Event().wait()
                async for reply in super().ServerReflectionInfo(_just(request), context):
                    yield reply
        finally:
            self.ended.set()


async def _just(request: v1.ServerReflectionRequest) -> AsyncIterator[v1.ServerReflectionRequest]:
    yield request


@pytest.fixture
def watched() -> Watched:
    return Watched()


@pytest.fixture(params=VERSIONS)
async def open_stream(
    request: pytest.FixtureRequest, serve: Serve, connect: Connect, adding: Adding, watched: Watched
) -> Callable[..., Any]:
    """Open a stream to the watched object, in v1 and through the past simulation."""
    _, stub = VERSIONS[request.param]
    open_one: Callable[..., Any] = stub(connect(await serve(adding(watched)))).ServerReflectionInfo
    return open_one


def symbol(stream_messages: Any, name: str) -> Any:
    return stream_messages.ServerReflectionRequest(file_containing_symbol=name)


@pytest.fixture
def ask_for(request: pytest.FixtureRequest, open_stream: object) -> Callable[[str], Any]:
    """Make a request in the version of the stream."""
    messages, _ = VERSIONS[request.node.callspec.params["open_stream"]]
    return lambda name: symbol(messages, name)


async def test_each_request_is_answered_before_the_next_is_sent(
    open_stream: Any, ask_for: Callable[[str], Any], watched: Watched
) -> None:
    """Nothing is held back in either direction; after the half-close the stream ends well."""
    stream = open_stream()
    for count in range(1, 4):
        await stream.write(ask_for(SHOP))
        assert (await stream.read()).original_request == ask_for(SHOP)
        assert watched.got == [SHOP] * count
        assert not watched.ended.is_set()
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
    assert await stream.code() is grpc.StatusCode.OK
    assert watched.ended.is_set()


async def test_the_half_close_comes_before_the_answers(open_stream: Any, ask_for: Callable[[str], Any]) -> None:
    """Requests that were sent before the half-close are all answered."""
    stream = open_stream()
    for name in ("shop.Item", "nowhere", SHOP):
        await stream.write(ask_for(name))
    await stream.done_writing()
    replies = [reply async for reply in stream]
    assert [reply.original_request for reply in replies] == [ask_for(n) for n in ("shop.Item", "nowhere", SHOP)]
    assert [reply.WhichOneof("message_response") for reply in replies] == [
        "file_descriptor_response",
        "error_response",
        "file_descriptor_response",
    ]


async def test_the_object_ends_the_stream(open_stream: Any, ask_for: Callable[[str], Any]) -> None:
    """Without waiting for the caller's half-close."""
    stream = open_stream()
    await stream.write(ask_for("stop"))
    assert await stream.read() is grpc.aio.EOF
    assert await stream.code() is grpc.StatusCode.OK


async def test_a_status_of_the_object(open_stream: Any, ask_for: Callable[[str], Any]) -> None:
    """It reaches the caller with its text and trailing metadata, after the answers before it."""
    stream = open_stream()
    await stream.write(ask_for(SHOP))
    await stream.write(ask_for("refuse"))
    assert (await stream.read()).HasField("file_descriptor_response")
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stream.read()
    assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failed.value.details() == "too many files"
    assert dict(failed.value.trailing_metadata())["reason"] == "busy"


async def test_an_exception_of_the_object(
    open_stream: Any, ask_for: Callable[[str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The caller learns that it failed; what it was is in the log."""
    stream = open_stream()
    await stream.write(ask_for("fail"))
    with caplog.at_level(logging.ERROR), pytest.raises(grpc.aio.AioRpcError) as failed:
        await stream.read()
    assert failed.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(failed.value.details())
    assert "secret of the object" in caplog.text


@pytest.mark.parametrize("where", ["between requests", "in a request"])
async def test_a_caller_cancels(where: str, open_stream: Any, ask_for: Callable[[str], Any], watched: Watched) -> None:
    """The object's part of the stream ends, whether it waits for the caller or works."""
    stream = open_stream()
    await stream.write(ask_for(SHOP))
    await stream.read()
    if where == "in a request":
        await stream.write(ask_for("hang"))
        await watched.hanging.wait()
    assert not watched.ended.is_set()
    stream.cancel()
    await watched.ended.wait()
    assert await stream.code() is grpc.StatusCode.CANCELLED


async def test_what_the_caller_does_not_wait_for_is_closed(watched: Watched) -> None:
    """The object has cleaned up when the simulation has, also where the stream ends at one of its answers."""
    request = symbol(v1alpha, SHOP)

    async def requests() -> AsyncIterator[v1alpha.ServerReflectionRequest]:
        yield request

    replies: Any = Version1(_NO_NODE, watched).ServerReflectionInfo(requests(), None)
    assert (await anext(replies)).original_request == request
    await replies.aclose()
    assert watched.ended.is_set()


async def test_a_callers_deadline(open_stream: Any, ask_for: Callable[[str], Any], watched: Watched) -> None:
    """The object's part of the stream ends with the caller's deadline."""
    stream = open_stream(timeout=0.2)
    await stream.write(ask_for("hang"))
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await stream.read()
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await watched.ended.wait()


#: What is done with the streams, one after the other: (stream, what).
STEPS = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from([SHOP, "shop.Item", "nowhere", "read", "read", "half-close", "cancel"]),
    ),
    max_size=25,
)


class Stream:
    """A stream and what must come of it.

    Args:
        version: of the caller, a key of `VERSIONS`.
        channel: to the server.
    """

    def __init__(self, version: str, channel: grpc.aio.Channel) -> None:
        self._messages, stub = VERSIONS[version]
        self._call = stub(channel).ServerReflectionInfo()
        self._unread: list[str] = []
        self._writes = True
        self._cancelled = False
        self._ends = {grpc.StatusCode.OK}

    async def do(self, what: str) -> None:
        """Take one step, if the stream is still open for it, and check what comes."""
        if self._cancelled:
            return
        if what == "cancel":
            self._call.cancel()
            self._cancelled = True
            # After the half-close, the stream may have ended well before the cancellation.
            self._ends = {grpc.StatusCode.CANCELLED} if self._writes else {grpc.StatusCode.CANCELLED, *self._ends}
        elif what == "half-close":
            self._writes = False
            await self._call.done_writing()
        elif what != "read" and self._writes:
            self._unread.append(what)
            await self._call.write(symbol(self._messages, what))
        elif what == "read" and self._unread:
            asked = self._unread.pop(0)
            reply = await self._call.read()
            assert type(reply) is self._messages.ServerReflectionResponse
            assert reply.original_request == symbol(self._messages, asked)
            assert reply.HasField("error_response") == (asked == "nowhere")

    async def end(self) -> None:
        """Read what is left, and check how the stream ends."""
        await self.do("half-close")
        while self._unread and not self._cancelled:
            await self.do("read")
        if not self._cancelled:
            assert await self._call.read() is grpc.aio.EOF
        assert await self._call.code() in self._ends


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
async def test_interleaved_streams_of_both_versions(
    served: Served, adding: Adding, steps: list[tuple[int, str]]
) -> None:
    """Whatever the order of requests, reads, half-closes and cancellations, no stream meets another."""
    async with served(adding(Reflection([SHOP]))) as address, grpc.aio.insecure_channel(address) as channel:
        streams = [Stream(version, channel) for version in ("v1alpha", "v1", "v1alpha", "v1")]
        for stream, what in steps:
            await streams[stream].do(what)
        for one in streams:
            await one.end()
