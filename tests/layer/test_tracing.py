"""Rule: whoever traces finds on a call's span who called in which version and what answered; nobody else pays."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import grpc
import grpc.aio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import segue
from segue.layer import tracing
from segue.layer.chain import Chain
from segue.layer.grpc_health import Health
from segue.layer.grpc_server import Dispatch
from segue.model.ids import Version

METHODS = ("Unary", "Down", "DownByWrite", "Up", "UpByRead", "Both", "BothByReadWrite")
TOLD = {"segue.caller.version", "segue.answered_by", "segue.object.version"}
PROVIDER = TracerProvider()
SPANS = InMemorySpanExporter()
PROVIDER.add_span_processor(SimpleSpanProcessor(SPANS))

MakeChain = Callable[..., Chain]
Call = Callable[[grpc.aio.Channel, str], Awaitable[list[str]]]
Connect = Callable[..., grpc.aio.Channel]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Have tracing on in this process; OpenTelemetry lets that be set once, and nobody take it back."""
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: PROVIDER)
    SPANS.clear()
    return SPANS


class Tracing(grpc.aio.ServerInterceptor):
    """Makes a span of each call, as OpenTelemetry's interceptor does: replies that stream are iterated over."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = await continuation(handler_call_details)
        name = handler_call_details.method
        tracer = PROVIDER.get_tracer("test")
        if handler is None:
            return None
        if handler.response_streaming:
            kind = "stream_stream" if handler.request_streaming else "unary_stream"
            inner = getattr(handler, kind)

            async def many(request: Any, context: Any) -> AsyncIterator[Any]:
                with tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False):
                    async for reply in inner(request, context):
                        yield reply

            behaviour: Any = many
        else:
            kind = "stream_unary" if handler.request_streaming else "unary_unary"
            inner = getattr(handler, kind)

            async def one(request: Any, context: Any) -> Any:
                with tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False):
                    return await inner(request, context)

            behaviour = one
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(behaviour, handler.request_deserializer, handler.response_serializer)


@asynccontextmanager
async def traced(dispatch: Dispatch) -> AsyncIterator[str]:
    """Serve a dispatch behind the interceptor."""
    server = grpc.aio.server(interceptors=[Tracing()])
    server.add_generic_rpc_handlers((dispatch,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return {name: value for name, value in (span.attributes or {}).items() if name.startswith("segue.")}


async def span_of(exporter: InMemorySpanExporter, method: str, count: int = 1) -> ReadableSpan:
    """Return the last of so many spans of a method, which end a little after their callers have the reply."""
    while True:
        found = [span for span in exporter.get_finished_spans() if span.name == f"/toy.Kinds/{method}"]
        if len(found) >= count:
            return found[-1]
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("method", METHODS)
async def test_each_kind_of_call(
    spans: InMemorySpanExporter, dispatch: Dispatch, chain: MakeChain, kinds: Any, connect: Connect, call_kind: Call,
    method: str,
) -> None:  # fmt: skip
    dispatch.show(chain(kinds("past"), kinds("current"), kinds("future"), current=2))
    by_version = {1: "past", 2: "current", 3: "future"}
    async with traced(dispatch) as address:
        for count, (version, kind) in enumerate(by_version.items(), start=1):
            replies = await call_kind(connect(address, version), method)
            assert all(reply.startswith(f"{kind}:") for reply in replies)
            assert attributes(await span_of(spans, method, count)) == {
                "segue.caller.version": version, "segue.answered_by": kind, "segue.object.version": 2,
            }  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
async def test_a_call_that_waited(
    spans: InMemorySpanExporter, dispatch: Dispatch, chain: MakeChain, kinds: Any, connect: Connect, call_kind: Call,
    until: Callable[[Callable[[], bool]], Awaitable[None]], method: str,
) -> None:  # fmt: skip
    """In the pause of an upgrade: its kind is not known when the interceptor gets it."""
    async with traced(dispatch) as address, asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(_coroutine(call_kind(connect(address, 1), method)))
        await until(lambda: dispatch.in_flight.parked == 1)
        dispatch.show(chain(kinds("current"), current=1))
        assert "".join(await waiting).replace("current:", "") == "abc"
        assert attributes(await span_of(spans, method))["segue.answered_by"] == "current"


async def _coroutine(waiting: Awaitable[list[str]]) -> list[str]:
    return await waiting


@pytest.mark.parametrize("method", ["Unary", "Down"])
async def test_a_call_that_is_refused(
    spans: InMemorySpanExporter, dispatch: Dispatch, chain: MakeChain, kinds: Any, connect: Connect, call_kind: Call,
    method: str,
) -> None:  # fmt: skip
    dispatch.show(chain(kinds("current"), current=2, oldest=2))
    async with traced(dispatch) as address:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call_kind(connect(address, 1), method)
        assert raised.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        refusal = segue.refusal_of(raised.value)
        assert refusal is not None
        assert attributes(await span_of(spans, method)) == {}


async def test_a_stream_that_fails_and_one_that_is_given_up(
    spans: InMemorySpanExporter, dispatch: Dispatch, chain: MakeChain, kinds: Any, connect: Connect
) -> None:
    """What an interceptor stands in front of ends as ever."""
    current = kinds("current")
    dispatch.show(chain(current, current=1))
    async with traced(dispatch) as address:
        channel: Any = connect(address, 1)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await channel.unary_unary("/toy.Kinds/Unary")(b"abort")
        assert raised.value.code() is grpc.StatusCode.NOT_FOUND
        call = channel.unary_stream("/toy.Kinds/Down")(b"hang")
        assert [await call.read() for _ in "hang"][-1] == b"current:g"
        call.cancel()
        async with asyncio.timeout(10):
            await current.closed.wait()


async def test_the_health_service(
    spans: InMemorySpanExporter, dispatch: Dispatch, chain: MakeChain, kinds: Any, connect: Connect
) -> None:
    Health(dispatch)
    dispatch.show(chain(kinds("current"), current=1))
    async with traced(dispatch) as address:
        channel: Any = connect(address)
        watching = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"")
        assert await watching.read() == b"\x08\x01"
        watching.cancel()


async def test_the_layer_alone(spans: InMemorySpanExporter, kinds: Any, connect: Connect, call_kind: Call) -> None:
    server = grpc.aio.server(interceptors=[Tracing()])
    versions = segue.Versions(server, version=2)
    kinds("current").register(versions)
    port = server.add_insecure_port("127.0.0.1:0")
    await versions.start()
    await server.start()
    assert await call_kind(connect(f"127.0.0.1:{port}", 2), "Unary") == ["current:abc"]
    assert attributes(await span_of(spans, "Unary"))["segue.caller.version"] == 2
    await server.stop(None)
    await versions.stop()


class Plain:
    """An object of a threaded server."""

    def register(self, server: Any) -> None:
        unary: Any = grpc.unary_unary_rpc_method_handler(lambda request, _: request)
        many: Any = grpc.unary_stream_rpc_method_handler(lambda request, _: iter([request]))
        handlers = {"Unary": unary, "Down": many}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("toy.Kinds", handlers),))


class PlainTracing(grpc.ServerInterceptor):
    """The same in a threaded server."""

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details)
        kind = "unary_stream" if handler.response_streaming else "unary_unary"
        inner = getattr(handler, kind)

        def run(request: Any, context: Any) -> Any:
            with PROVIDER.get_tracer("test").start_as_current_span(handler_call_details.method):
                return inner(request, context)

        def run_many(request: Any, context: Any) -> Iterator[Any]:
            with PROVIDER.get_tracer("test").start_as_current_span(handler_call_details.method):
                yield from inner(request, context)

        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(run_many if handler.response_streaming else run)


async def test_a_threaded_server(spans: InMemorySpanExporter) -> None:
    server = grpc.server(ThreadPoolExecutor(2), interceptors=[PlainTracing()])
    versions = segue.SyncVersions(server, version=3)
    Plain().register(versions)
    port = server.add_insecure_port("127.0.0.1:0")
    versions.start()
    server.start()
    try:
        with segue.labelled_sync_channel(f"127.0.0.1:{port}", version=3) as channel:
            unary: Any = channel.unary_unary("/toy.Kinds/Unary")
            assert await asyncio.to_thread(partial(unary, b"a", timeout=10)) == b"a"
            many: Any = channel.unary_stream("/toy.Kinds/Down")
            assert await asyncio.to_thread(lambda: list(many(b"b", timeout=10))) == [b"b"]
        for method in ("Unary", "Down"):
            assert attributes(await span_of(spans, method)) == {
                "segue.caller.version": 3, "segue.answered_by": "current", "segue.object.version": 3,
            }  # fmt: skip
    finally:
        server.stop(None).wait()
        versions.stop()


async def test_without_a_provider_nothing_is_done(
    dispatch: Dispatch, chain: MakeChain, kinds: Any, connect: Connect, call_kind: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenTelemetry is imported here, as it may be by anybody's library: only a provider counts."""

    def nobody_asks(*_: object) -> Any:
        raise AssertionError("asked for the current span")

    monkeypatch.setattr(trace, "get_current_span", nobody_asks)
    assert not tracing.tracing_is_on()
    dispatch.show(chain(kinds("current"), current=1))
    way, _ = dispatch.find(_Details("/toy.Kinds/Unary", (("segue-version", "1"),)))
    assert getattr(way, "mark", "no answer") is None
    async with traced(dispatch) as address:
        monkeypatch.undo()
        assert await call_kind(connect(address, 1), "Unary") == ["current:abc"]


class _Details(grpc.HandlerCallDetails):
    def __init__(self, method: str, metadata: tuple[tuple[str, str], ...]) -> None:
        self.method = method
        self.invocation_metadata = metadata


def test_a_process_that_does_not_know_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    assert tracing.mark_of(caller=Version(1), answered_by="current", node=Version(1)) is None
    assert tracing.marked(None, _coroutine_of_two) is _coroutine_of_two


async def _coroutine_of_two(request: Any, context: Any) -> None:
    """Do nothing."""
