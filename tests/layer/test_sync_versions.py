# ruff: noqa: N802 - gRPC names its methods in CamelCase
"""The layer alone on gRPC's threaded server: calls of all kinds, and what belongs to them, as on `grpc.aio`'s."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import grpc
import grpc.aio
import pytest

import segue
from segue.errors import OperatorError, ReleaseError
from segue.layer.alone.loop_thread import LoopOverError, LoopThread

MAKERS: dict[str, Callable[..., Any]] = {
    "Unary": grpc.unary_unary_rpc_method_handler,
    "Down": grpc.unary_stream_rpc_method_handler,
    "Up": grpc.stream_unary_rpc_method_handler,
    "Both": grpc.stream_stream_rpc_method_handler,
}
CALLS = {"Unary": "unary_unary", "Down": "unary_stream", "Up": "stream_unary", "Both": "stream_stream"}

#: What an interceptor of the server has set.
WHO: ContextVar[str] = ContextVar("who", default="nobody")


class Kinds:
    """Registers a method of each kind; messages are text."""

    def register(self, server: Any) -> None:
        server.add_registered_method_handlers(
            "toy.Kinds", {name: make(getattr(self, name), bytes.decode, str.encode) for name, make in MAKERS.items()}
        )


class Plain(Kinds):
    tag = "p"

    def Unary(self, request: str, context: Any) -> str:
        return f"p:{request}"

    def Down(self, request: str, context: Any) -> Iterator[str]:
        for letter in request:
            yield f"p:{letter}"

    def Up(self, requests: Iterator[str], context: Any) -> str:
        return "p:" + "".join(requests)

    def Both(self, requests: Iterator[str], context: Any) -> Iterator[str]:
        for request in requests:
            yield f"p:{request}"


class Async(Kinds):
    tag = "a"

    async def Unary(self, request: str, context: Any) -> str:
        return f"a:{request}"

    async def Down(self, request: str, context: Any) -> AsyncIterator[str]:
        for letter in request:
            yield f"a:{letter}"

    async def Up(self, requests: AsyncIterator[str], context: Any) -> str:
        return "a:" + "".join([request async for request in requests])

    async def Both(self, requests: AsyncIterator[str], context: Any) -> AsyncIterator[str]:
        async for request in requests:
            yield f"a:{request}"


class Writing(Async):
    async def Down(self, request: str, context: Any) -> None:  # type: ignore[override]
        for letter in request:
            await context.write(f"a:{letter}")

    async def Up(self, requests: AsyncIterator[str], context: Any) -> str:
        got = ""
        while (request := await context.read()) is not grpc.aio.EOF:
            got += request
        return f"a:{got}"

    async def Both(self, requests: AsyncIterator[str], context: Any) -> None:  # type: ignore[override]
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(f"a:{request}")


class AsyncPast(Kinds, segue.PastSimulation):
    async def Unary(self, request: str, context: Any) -> str:
        return f"1:{await self.delegate.Unary(request, context)}"

    async def Down(self, request: str, context: Any) -> AsyncIterator[str]:
        async for reply in self.delegate.Down(request, context):
            yield f"1:{reply}"

    async def Up(self, requests: AsyncIterator[str], context: Any) -> str:
        return f"1:{await self.delegate.Up(requests, context)}"

    async def Both(self, requests: AsyncIterator[str], context: Any) -> AsyncIterator[str]:
        async for reply in self.delegate.Both(requests, context):
            yield f"1:{reply}"


class PlainPast(Kinds, segue.PastSimulation):
    def Unary(self, request: str, context: Any) -> str:
        return f"1:{self.delegate.Unary(request, context)}"

    def Down(self, request: str, context: Any) -> Iterator[str]:
        for reply in self.delegate.Down(request, context):
            yield f"1:{reply}"

    def Up(self, requests: Iterator[str], context: Any) -> str:
        return f"1:{self.delegate.Up(requests, context)}"

    def Both(self, requests: Iterator[str], context: Any) -> Iterator[str]:
        for reply in self.delegate.Both(requests, context):
            yield f"1:{reply}"


class AsyncFuture(segue.FutureSimulation, AsyncPast):
    async def Unary(self, request: str, context: Any) -> str:
        return f"3:{await self.delegate.Unary(request, context)}"


@contextmanager
def serving(servicer: Any, *, threads: int = 8, interceptors: Any = (), **given: Any) -> Iterator[tuple[str, Any]]:
    """Serve on a threaded server of its own, and give (address, versions)."""
    pool = futures.ThreadPoolExecutor(threads)
    server = grpc.server(pool, interceptors=interceptors)
    versions = segue.SyncVersions(server, **given)
    servicer.register(versions)
    versions.start()
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield address, versions
    finally:
        server.stop(None)
        versions.stop()
        pool.shutdown()


@contextmanager
def client(address: str, version: int | None) -> Iterator[Callable[[str], Any]]:
    """Give what makes a stub's method of a name."""
    channel: Any = (
        grpc.insecure_channel(address) if version is None else segue.labelled_sync_channel(address, version=version)
    )
    with channel:
        yield lambda name: getattr(channel, CALLS[name])(f"/toy.Kinds/{name}", str.encode, bytes.decode)


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, which the test's time limit bounds."""
    while not condition():
        time.sleep(0.001)


def threads_of_ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("segue-")]


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """After `stop` no thread of ours is there."""
    yield
    until(lambda: not threads_of_ours())


@pytest.mark.parametrize("past", [AsyncPast, PlainPast])
@pytest.mark.parametrize("servicer", [Plain, Async, Writing])
def test_each_kind_in_each_version(servicer: Any, past: Any) -> None:
    """However servicers and simulations are written; unlabelled calls are of the server's own version."""
    tag = servicer.tag
    with serving(servicer(), version=2, past=[past], future=[AsyncFuture]) as (address, versions):
        assert versions.answered == [1, 2, 3]
        for version, before, unary in ((1, "1:", "1:"), (2, "", ""), (None, "", ""), (3, "1:", "3:")):
            with client(address, version) as stub:
                assert stub("Unary")("abc") == f"{unary}{tag}:abc"
                assert list(stub("Down")("abc")) == [f"{before}{tag}:{letter}" for letter in "abc"]
                assert stub("Up")(iter("abc")) == f"{before}{tag}:abc"
                assert list(stub("Both")(iter("abc"))) == [f"{before}{tag}:{letter}" for letter in "abc"]
        counted = {(key.caller_version, key.method.rpartition("/")[2]): n for key, n in versions.counts().items()}
        assert counted == {(v, name): n for v, n in ((1, 1), (2, 2), (3, 1)) for name in MAKERS}


def test_the_servers_own_calls_run_as_ever() -> None:
    """A plain method of the current version runs in the server's thread, with gRPC's own context."""
    seen: list[tuple[str, str]] = []

    class Looking(Plain):
        def Unary(self, request: str, context: Any) -> str:
            seen.append((threading.current_thread().name, type(context).__module__))
            return request

    with serving(Looking(), version=2, past=[AsyncPast]) as (address, _):
        for version in (2, 1):
            with client(address, version) as stub:
                stub("Unary")("a")
    assert [(name.partition("-")[0], module) for name, module in seen] == [
        ("ThreadPoolExecutor", "grpc._server"),
        ("segue", "segue.layer.threads.grpc_sync_context"),
    ]


def test_observed_methods_do_not() -> None:
    """Their calls are one step with their observers and interceptors, so they go through the loop."""
    log: list[str] = []

    class Watching(AsyncPast):
        @segue.observes("Unary")
        async def seen(self, request: str, reply: str, context: Any) -> None:
            log.append(reply)

        @segue.intercepts("Unary")
        async def changed(self, request: str, context: Any, proceed: Any) -> str:
            reply: str = await proceed(request.upper())
            return f"{reply}!"

    with serving(Plain(), version=2, past=[Watching]) as (address, versions):
        with client(address, 2) as stub:
            assert stub("Unary")("abc") == "p:ABC!"
            assert log == ["p:ABC"]
            versions.retire(2)
            assert stub("Unary")("abc") == "p:abc"
        with client(address, 1) as stub, pytest.raises(grpc.RpcError) as caught:
            stub("Unary")("a")
        refusal = segue.refusal_of(caught.value)
        assert refusal is not None
        assert refusal.reason == "RETIRED_VERSION"


def test_other_services_are_the_servers_own() -> None:
    """Before the start, with whatever label, and after the stop."""
    server = grpc.server(futures.ThreadPoolExecutor(2))
    versions = segue.SyncVersions(server, version=2, past=[AsyncPast])
    Plain().register(versions)
    handler: Any = grpc.unary_unary_rpc_method_handler(lambda request, context: b"healthy")
    server.add_registered_method_handlers("toy.Health", {"Check": handler})
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()

    def check() -> None:
        for version in (1, 2, 7):
            with segue.labelled_sync_channel(address, version=version) as channel:
                call: Any = channel.unary_unary("/toy.Health/Check")
                assert call(b"", timeout=2) == b"healthy"

    def reason(version: int) -> str:
        with client(address, version) as stub, pytest.raises(grpc.RpcError) as caught:
            stub("Unary")("a", timeout=5)
        refusal = segue.refusal_of(caught.value)
        assert refusal is not None
        return refusal.reason

    try:
        check()
        assert reason(1) == "NODE_NOT_READY"
        versions.start()
        check()
        assert reason(7) == "UNKNOWN_VERSION"
        versions.stop()
        check()
        assert reason(1) == reason(2) == "NODE_NOT_READY"
    finally:
        server.stop(None)


class Statuses(Async):
    """Ends its calls in the ways that there are."""

    async def Unary(self, request: str, context: Any) -> str:
        await context.send_initial_metadata((("first", "a"),))
        context.set_trailing_metadata((("last", "z"),))
        match request:
            case "metadata":
                return dict(context.invocation_metadata())["mine"]  # type: ignore[no-any-return]
            case "abort":
                await context.abort(grpc.StatusCode.NOT_FOUND, "none", (("why", "gone"),))
            case "set":
                context.set_code(grpc.StatusCode.DATA_LOSS)
                context.set_details("lost")
            case "fail":
                raise ValueError("secret")
            case "disallowed":
                raise segue.Disallowed("not here")
            case "details":
                context.set_details("gRPC sends none with OK")
        return request

    async def Down(self, request: str, context: Any) -> AsyncIterator[str]:
        yield "one"
        await self.Unary(request, context)


@pytest.mark.parametrize(
    ("request_", "code", "details", "trailing"),
    [
        ("details", "OK", "", {"last": "z"}),
        ("abort", "NOT_FOUND", "none", {"why": "gone"}),
        ("set", "DATA_LOSS", "lost", {"last": "z"}),
        ("fail", "INTERNAL", "segue: the object of version 2 failed; its node's log says why", {"last": "z"}),
        ("disallowed", "FAILED_PRECONDITION", "not here", {"last": "z"}),
    ],
)
def test_metadata_and_statuses_both_ways(
    request_: str, code: str, details: str, trailing: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """As on the aio server: what is set, aborted with, raised and disallowed."""
    caplog.set_level(logging.CRITICAL, "segue.layer.grpc_answer")
    with serving(Statuses(), version=2) as (address, versions), client(address, 2) as stub:
        call = stub("Unary").future(request_)
        assert call.code().name == code
        assert call.details() == details
        assert trailing.items() <= dict(call.trailing_metadata()).items()
        assert dict(call.initial_metadata())["first"] == "a"
        reply, call = stub("Unary").with_call("metadata", metadata=(("mine", "yes"),))
        assert reply == "yes"
        assert {key.outcome for key in versions.counts()} == {code, "OK"}


def test_a_status_after_some_replies(caplog: pytest.LogCaptureFixture) -> None:
    """Replies come, then the status."""

    class Ending(Async):
        async def Down(self, request: str, context: Any) -> AsyncIterator[str]:
            yield "one"
            await context.abort(grpc.StatusCode.ABORTED, "enough")

    with serving(Ending(), version=2) as (address, _), client(address, 2) as stub:
        replies = stub("Down")("")
        assert next(replies) == "one"
        with pytest.raises(grpc.RpcError):
            next(replies)
        assert (replies.code(), replies.details()) == (grpc.StatusCode.ABORTED, "enough")


def test_plain_methods_that_run_natively_are_counted_by_what_came_of_them() -> None:
    """Their errors are told as `grpc.server` tells them."""

    class Failing(Plain):
        def Unary(self, request: str, context: Any) -> str:
            if request == "abort":
                context.abort(grpc.StatusCode.NOT_FOUND, "none")
            raise ValueError("told as ever")

        def Down(self, request: str, context: Any) -> Iterator[str]:
            yield "one"
            context.set_code(grpc.StatusCode.DATA_LOSS)

    logging.getLogger("grpc._server").disabled = True
    try:
        with serving(Failing(), version=1) as (address, versions), client(address, None) as stub:
            for request in ("abort", "fail"):
                with pytest.raises(grpc.RpcError):
                    stub("Unary")(request)
            with pytest.raises(grpc.RpcError):
                list(stub("Down")(""))
            until(lambda: len(versions.counts()) == 3)
            assert sorted(key.outcome for key in versions.counts()) == ["DATA_LOSS", "NOT_FOUND", "UNKNOWN"]
    finally:
        logging.getLogger("grpc._server").disabled = False


def test_a_method_that_nobody_wrote(generated: tuple[Any, Any]) -> None:
    """Is refused with the type, natively or not."""
    messages, services = generated

    class Talk(services.TalkServicer):  # type: ignore[misc, name-defined]
        def register(self, server: Any) -> None:
            services.add_TalkServicer_to_server(self, server)

        def Say(self, request: Any, context: Any) -> Any:
            return request

    with serving(Talk(), version=1) as (address, _), segue.labelled_sync_channel(address, version=1) as channel:
        stub = services.TalkStub(channel)
        assert stub.Say(messages.Text(text="a")).text == "a"
        with pytest.raises(grpc.RpcError) as caught:
            stub.Forgotten(messages.Text())
        refusal = segue.refusal_of(caught.value)
        assert refusal is not None
        assert refusal.reason == "NO_SUCH_METHOD"


class Hanging(Async):
    """Says what becomes of calls that hang."""

    def __init__(self) -> None:
        self.calls = 0
        self.inside = threading.Event()
        self.cancelled = threading.Event()
        self.remaining: Any = None
        self.done: list[str] = []

    async def _hang(self, context: Any) -> None:
        self.calls += 1
        self.remaining = context.time_remaining()
        context.add_done_callback(lambda _: self.done.append("done"))
        self.inside.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()

    async def Unary(self, request: str, context: Any) -> str:
        await self._hang(context)
        return ""

    async def Down(self, request: str, context: Any) -> AsyncIterator[str]:
        yield "one"
        await self._hang(context)

    async def Up(self, requests: AsyncIterator[str], context: Any) -> str:
        async for _ in requests:
            self.inside.set()
        self.done.append("a call that was cancelled passed for one whose requests ended")
        return ""

    async def Both(self, requests: AsyncIterator[str], context: Any) -> AsyncIterator[str]:
        async for request in requests:
            yield request
            await self._hang(context)


@pytest.mark.parametrize("name", ["Unary", "Down", "Both"])
def test_a_caller_that_gives_up_cancels_the_call(name: str) -> None:
    """Its clean-up runs, its callbacks are called, and it is counted as cancelled."""
    hanging = Hanging()
    with serving(hanging, version=1) as (address, versions), client(address, 1) as stub:
        method = stub(name)
        call = method.future("a") if name == "Unary" else method(iter(["a"])) if name == "Both" else method("a")
        assert hanging.inside.wait(10)
        assert hanging.remaining is None
        call.cancel()
        assert hanging.cancelled.wait(10)
        until(lambda: [key.outcome for key in versions.counts()] == ["CANCELLED"])
        until(lambda: hanging.done == ["done"])


def test_a_caller_that_gives_up_while_it_sends() -> None:
    """The method does not take that for the end of the requests."""
    hanging = Hanging()
    go_on = threading.Event()

    def requests() -> Iterator[str]:
        yield "a"
        go_on.wait(10)

    with serving(hanging, version=1) as (address, versions), client(address, 1) as stub:
        call = stub("Up").future(requests())
        assert hanging.inside.wait(10)
        call.cancel()
        until(lambda: [key.outcome for key in versions.counts()] == ["CANCELLED"])
        go_on.set()
    assert hanging.done == []


@pytest.mark.parametrize("name", ["Unary", "Down"])
def test_a_deadline(name: str) -> None:
    """The method knows it, and its call ends with it."""
    hanging = Hanging()
    with serving(hanging, version=1) as (address, versions), client(address, 1) as stub:
        with pytest.raises(grpc.RpcError) as caught:
            list(stub(name)("a", timeout=0.3))
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert 0 < hanging.remaining < 1
        assert hanging.cancelled.wait(10)
        until(lambda: [key.outcome for key in versions.counts()] == ["DEADLINE_EXCEEDED"])


def test_a_method_that_cancels_itself() -> None:
    """Its caller is told so, and not that the server has stopped."""

    class Cancelling(Async):
        async def Unary(self, request: str, context: Any) -> str:
            raise asyncio.CancelledError

    with serving(Cancelling(), version=1) as (address, _), client(address, 1) as stub:
        with pytest.raises(grpc.RpcError) as caught:
            stub("Unary")("a")
        error: Any = caught.value
        assert error.code() is grpc.StatusCode.CANCELLED


def test_a_reader_that_gives_up_loses_nothing() -> None:
    """What the caller sends later is for who reads next."""

    class Impatient(Async):
        async def Up(self, requests: AsyncIterator[str], context: Any) -> str:
            try:
                async with asyncio.timeout(0.05):
                    await context.read()
            except TimeoutError:
                gave_up.set()
            return str(await context.read())

    gave_up = threading.Event()

    def requests() -> Iterator[str]:
        gave_up.wait(10)
        yield "late"

    with serving(Impatient(), version=1) as (address, _), client(address, 1) as stub:
        assert stub("Up")(requests()) == "late"


def test_compression_and_large_messages() -> None:
    """A reply of more than 4 MB, compressed, comes whole."""

    class Large(Async):
        async def Down(self, request: str, context: Any) -> AsyncIterator[str]:
            context.set_compression(grpc.Compression.Gzip)
            context.disable_next_message_compression()
            yield "x" * 5_000_000
            yield "y" * 5_000_000

    with serving(Large(), version=1) as (address, _):
        channel = segue.labelled_sync_channel(
            address, version=1, options=(("grpc.max_receive_message_length", 6_000_000),)
        )
        with channel:
            call: Any = channel.unary_stream("/toy.Kinds/Down", str.encode, bytes.decode)
            replies = call("")
            assert [(reply[0], len(reply)) for reply in replies] == [("x", 5_000_000), ("y", 5_000_000)]


def test_a_stream_waits_for_its_caller() -> None:
    """Replies are not made far ahead of what the caller takes."""
    made: list[int] = []

    class Endless(Async):
        async def Down(self, request: str, context: Any) -> AsyncIterator[str]:
            for number in range(10_000):
                made.append(number)
                yield "x" * 100_000

    with serving(Endless(), version=1) as (address, _), client(address, 1) as stub:
        replies = stub("Down")("")
        next(replies)
        before = -1
        while before != len(made):
            before = len(made)
            time.sleep(0.2)
        assert len(made) < 1000
        replies.cancel()


def test_what_an_interceptor_of_the_server_set() -> None:
    """Contextvars come to methods and simulations."""

    class Naming(grpc.ServerInterceptor):
        def intercept_service(self, continuation: Any, details: Any) -> Any:
            WHO.set("ann")
            return continuation(details)

    class Asking(Plain):
        def Unary(self, request: str, context: Any) -> str:
            return WHO.get()

    with serving(Asking(), version=2, past=[AsyncPast], interceptors=(Naming(),)) as (address, _):
        for version, expected in ((2, "ann"), (1, "1:ann")):
            with client(address, version) as stub:
                assert stub("Unary")("") == expected


def test_a_hundred_calls_at_once() -> None:
    """All are answered and counted, through the loop and beside it."""
    with (
        serving(Plain(), threads=100, version=2, past=[PlainPast]) as (address, versions),
        client(address, 1) as older,
        client(address, 2) as newer,
        futures.ThreadPoolExecutor(100) as pool,
    ):
        olds = [pool.submit(older("Unary"), str(number)) for number in range(50)]
        news = [pool.submit(newer("Unary"), str(number)) for number in range(50)]
        ups = [pool.submit(older("Up"), iter("abc")) for _ in range(50)]
        downs = [pool.submit(lambda: list(newer("Down")("abc"))) for _ in range(50)]
        assert [future.result() for future in olds] == [f"1:p:{number}" for number in range(50)]
        assert [future.result() for future in news] == [f"p:{number}" for number in range(50)]
        assert {future.result() for future in ups} == {"1:p:abc"}
        assert all(future.result() == ["p:a", "p:b", "p:c"] for future in downs)
        until(lambda: sum(versions.counts().values()) == 200)
        assert set(versions.counts().values()) == {50}


@pytest.mark.parametrize("past", [True, False])
def test_shutdown_with_calls_inside(past: bool) -> None:
    """The server's grace lets them end; those that do not are cancelled, and nothing is left."""
    hanging = Hanging()
    stopped: list[str] = []

    class Past(AsyncPast):
        async def stop(self) -> None:
            assert hanging.cancelled.is_set(), "a simulation is stopped after its last call"
            stopped.append("stopped")

    pool = futures.ThreadPoolExecutor(4)
    server = grpc.server(pool)
    versions = segue.SyncVersions(server, version=2, past=[Past])
    hanging.register(versions)
    versions.start()
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    with client(address, 1 if past else 2) as stub:
        call = stub("Unary").future("a")
        assert hanging.inside.wait(10)
        server.stop(0.1).wait()
        versions.stop()
        assert call.exception(timeout=10) is not None
    assert stopped == ["stopped"]
    assert [key.outcome for key in versions.counts()] == ["CANCELLED"]
    pool.shutdown()
    versions.stop()


def test_stopped_before_the_server() -> None:
    """Callers inside are told to try again, with the type."""
    hanging = Hanging()
    with serving(hanging, version=1) as (address, versions), client(address, 1) as stub:
        unary, down = stub("Unary").future("a"), stub("Down")("a")
        assert next(down) == "one"
        until(lambda: hanging.calls == 2)
        versions.stop()
        with pytest.raises(grpc.RpcError) as caught:
            next(down)
        for error in (caught.value, unary.exception(timeout=10)):
            refusal = segue.refusal_of(error)
            assert refusal is not None
            assert refusal.reason == "NODE_NOT_READY"


def test_a_plain_method_that_does_not_end() -> None:
    """`stop` says so in time, and can be called again."""
    inside, go_on = threading.Event(), threading.Event()

    class Stuck(Plain):
        def Unary(self, request: str, context: Any) -> str:
            inside.set()
            go_on.wait(10)
            return request

    with serving(Stuck(), version=2, past=[AsyncPast]) as (address, versions), client(address, 1) as stub:
        call = stub("Unary").future("a")
        assert inside.wait(10)
        with pytest.raises(TimeoutError, match=r"stop\(\) again"):
            versions.stop(timeout_s=0.05)
        go_on.set()
        versions.stop()
        assert call.exception(timeout=10) is not None


def test_a_simulation_that_does_not_start_or_stop() -> None:
    """The error comes out, and no thread is left."""

    class Bad(AsyncPast):
        async def start(self) -> None:
            raise OSError("its disk is full")

    class Worse(AsyncPast):
        async def stop(self) -> None:
            raise OSError("its disk is full")

    versions = segue.SyncVersions(grpc.server(futures.ThreadPoolExecutor(1)), version=2, past=[Bad])
    Plain().register(versions)
    with pytest.raises(ReleaseError, match=r"Bad of version 1 did not start: OSError\('its disk is full'\)"):
        versions.start()
    until(lambda: not threads_of_ours())
    versions = segue.SyncVersions(grpc.server(futures.ThreadPoolExecutor(1)), version=2, past=[Worse])
    Plain().register(versions)
    versions.start()
    with pytest.raises(OperatorError, match="start them once"):
        versions.start()
    with pytest.raises(OSError, match="disk is full"):
        versions.stop()
    versions.stop()


def test_to_retire_what_has_not_started() -> None:
    """Is said."""
    versions = segue.SyncVersions(grpc.server(futures.ThreadPoolExecutor(1)), version=2)
    with pytest.raises(OperatorError, match=r"start\(\) first"):
        versions.retire(2)


def test_a_loop_takes_nothing_after_its_end() -> None:
    """What comes too late is told so, and what had no time to begin."""
    loop = LoopThread("segue-test")
    loop.start()
    dropped: list[int] = []
    gate = threading.Event()
    loop.tell(gate.wait, 10)

    async def never() -> None:
        raise AssertionError("it is cancelled before its first step")

    for number in range(3):
        loop.spawn(never, lambda number=number: dropped.append(number))  # type: ignore[misc]

    async def last() -> None:
        assert dropped == [0, 1, 2]

    assert not loop.stop(last, timeout_s=0)
    gate.set()
    assert loop.stop(last, timeout_s=10)
    with pytest.raises(LoopOverError):
        loop.run(last)
    loop.tell(gate.clear)  # of no effect
    assert gate.is_set()


def test_asked_while_it_is_being_stopped() -> None:
    """Counts are there as ever, and nothing is retired any more."""
    go_on = threading.Event()

    class Slow(AsyncPast):
        async def stop(self) -> None:
            await asyncio.to_thread(go_on.wait)

    server = grpc.server(futures.ThreadPoolExecutor(1))
    versions = segue.SyncVersions(server, version=2, past=[Slow])
    Async().register(versions)
    versions.start()
    with pytest.raises(TimeoutError):
        versions.stop(timeout_s=0.05)
    try:
        assert versions.counts() == {}
        with pytest.raises(OperatorError, match="being stopped"):
            versions.retire(2)
    finally:
        go_on.set()
        versions.stop()
