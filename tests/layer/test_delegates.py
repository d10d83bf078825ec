# ruff: noqa: N802 - gRPC names its methods in CamelCase
"""A delegate is called one way, however it was written, and so is a plain method of an object.

One module, as all its tests derive their objects from the same few classes.
"""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from itertools import product
from typing import Any

import grpc
import grpc.aio
import pytest

from segue.layer.grpc_abort import AbortError, send
from segue.layer.grpc_collector import Collector, MethodHandler
from segue.layer.grpc_context import Context, Requests, TypedContext
from segue.layer.grpc_delegate import Delegate, bind, delegated
from segue.layer.threads.grpc_threads import as_async, is_plain
from segue.layer.threads.workers import Workers

KINDS = ["Unary", "Down", "Up", "Both"]
MAKERS: dict[str, Callable[..., MethodHandler]] = {
    "Unary": grpc.unary_unary_rpc_method_handler,
    "Down": grpc.unary_stream_rpc_method_handler,
    "Up": grpc.stream_unary_rpc_method_handler,
    "Both": grpc.stream_stream_rpc_method_handler,
}

MARK: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="")


class Servicer:
    """Registers a method of each kind; messages are text."""

    def register(self, server: Any) -> None:
        server.add_registered_method_handlers(
            "toy.Kinds",
            {name: make(getattr(self, name), bytes.decode, str.encode) for name, make in MAKERS.items()},
        )


class AsyncObject(Servicer):
    def __init__(self, delegate: Any = None) -> None:
        self.log: list[str] = []

    async def Unary(self, request: str, context: Any) -> str:
        return f"o:{request}"

    async def Down(self, request: str, context: Any) -> AsyncIterator[str]:
        for letter in request:
            yield f"o:{letter}"

    async def Up(self, requests: AsyncIterator[str], context: Any) -> str:
        return "o:" + "".join([request async for request in requests])

    async def Both(self, requests: AsyncIterator[str], context: Any) -> AsyncIterator[str]:
        async for request in requests:
            yield f"o:{request}"


class WritingObject(AsyncObject):
    async def Down(self, request: str, context: Any) -> None:  # type: ignore[override]
        for letter in request:
            await context.write(f"o:{letter}")

    async def Up(self, requests: AsyncIterator[str], context: Any) -> str:
        got = ""
        while (request := await context.read()) is not grpc.aio.EOF:
            got += request
        return f"o:{got}"

    async def Both(self, requests: AsyncIterator[str], context: Any) -> None:  # type: ignore[override]
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(f"o:{request}")


class PlainObject(Servicer):
    def __init__(self, delegate: Any = None) -> None:
        self.log: list[str] = []

    def Unary(self, request: str, context: Any) -> str:
        assert threading.current_thread() is not threading.main_thread()
        return f"o:{request}"

    def Down(self, request: str, context: Any) -> Iterator[str]:
        for letter in request:
            yield f"o:{letter}"

    def Up(self, requests: Iterator[str], context: Any) -> str:
        return "o:" + "".join(requests)

    def Both(self, requests: Iterator[str], context: Any) -> Iterator[str]:
        for request in requests:
            yield f"o:{request}"


class AsyncSimulation(Servicer):
    """Answers each method by the delegate's, with both directions translated."""

    def __init__(self, delegate: Any) -> None:
        self.delegate = delegate

    async def Unary(self, request: str, context: Any) -> str:
        reply: str = await self.delegate.Unary(request.upper(), context)
        return f"s:{reply}"

    async def Down(self, request: str, context: Any) -> AsyncIterator[str]:
        async for reply in self.delegate.Down(request.upper(), context):
            yield f"s:{reply}"

    async def Up(self, requests: AsyncIterator[str], context: Any) -> str:
        reply: str = await self.delegate.Up((request.upper() async for request in requests), context)
        return f"s:{reply}"

    async def Both(self, requests: AsyncIterator[str], context: Any) -> AsyncIterator[str]:
        async for reply in self.delegate.Both((request.upper() async for request in requests), context):
            yield f"s:{reply}"


class WritingSimulation(AsyncSimulation):
    async def Down(self, request: str, context: Any) -> None:  # type: ignore[override]
        async for reply in self.delegate.Down(request.upper(), context):
            await context.write(f"s:{reply}")

    async def Up(self, requests: AsyncIterator[str], context: Any) -> str:
        reply: str = await self.delegate.Up(self._read(context), context)
        return f"s:{reply}"

    async def Both(self, requests: AsyncIterator[str], context: Any) -> None:  # type: ignore[override]
        async for reply in self.delegate.Both(self._read(context), context):
            await context.write(f"s:{reply}")

    async def _read(self, context: Any) -> AsyncIterator[str]:
        while (request := await context.read()) is not grpc.aio.EOF:
            yield request.upper()


class PlainSimulation(Servicer):
    def __init__(self, delegate: Any) -> None:
        self.delegate = delegate

    def Unary(self, request: str, context: Any) -> str:
        return f"s:{self.delegate.Unary(request.upper(), context)}"

    def Down(self, request: str, context: Any) -> Iterator[str]:
        for reply in self.delegate.Down(request.upper(), context):
            yield f"s:{reply}"

    def Up(self, requests: Iterator[str], context: Any) -> str:
        return f"s:{self.delegate.Up((request.upper() for request in requests), context)}"

    def Both(self, requests: Iterator[str], context: Any) -> Iterator[str]:
        for reply in self.delegate.Both((request.upper() for request in requests), context):
            yield f"s:{reply}"


OBJECTS = [AsyncObject, WritingObject, PlainObject]
SIMULATIONS = [AsyncSimulation, WritingSimulation, PlainSimulation]


def methods(instance: Any) -> dict[str, MethodHandler]:
    collector = Collector()
    instance.register(collector)
    return {path.rpartition("/")[2]: handler for path, handler in collector.methods.items()}


def behaviour_of(name: str, handler: MethodHandler) -> Callable[..., Any]:
    kind = "_".join(
        "stream" if streaming else "unary" for streaming in (handler.request_streaming, handler.response_streaming)
    )
    behaviour: Callable[..., Any] = getattr(handler, kind)
    return behaviour


def delegate_to(instance: Any, workers: Workers) -> Any:
    delegate = Delegate(instance)
    bind(
        delegate,
        {name: delegated(handler, behaviour_of(name, handler), workers) for name, handler in methods(instance).items()},
    )
    return delegate


class Runner(grpc.GenericRpcHandler):
    """Runs an object's methods as the upgrade layer does: typed, its scope finished, its abort sent."""

    def __init__(self, instance: Any, workers: Workers) -> None:
        self.running = 0
        self._methods = {
            name: (handler, as_async(handler, behaviour_of(name, handler), workers))
            for name, handler in methods(instance).items()
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        handler, behaviour = self._methods[handler_call_details.method.rpartition("/")[2]]

        async def serve(_: object, raw: Context) -> None:
            self.running += 1
            context = TypedContext(raw, bytes.decode, str.encode)
            try:
                request: Any = Requests(context)
                if not handler.request_streaming:
                    request = await context.read()
                result = behaviour(request, context)
                if not hasattr(result, "__aiter__"):
                    reply = await result
                    if not handler.response_streaming:
                        await context.write(reply)
                    return
                async with aclosing(result) as replies:
                    async for reply in replies:
                        await context.write(reply)
            except AbortError as aborted:
                await send(aborted, raw)
            finally:
                await context.finish()
                self.running -= 1

        return grpc.stream_stream_rpc_method_handler(serve)


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers(limit=4)
    yield made
    made.close()


@pytest.fixture
async def serve(workers: Workers) -> AsyncIterator[Callable[[Any], Awaitable[tuple[grpc.aio.Channel, Runner]]]]:
    """Serve an object, and return a channel to it and what runs it."""
    opened: list[Any] = []

    async def start(instance: Any) -> tuple[grpc.aio.Channel, Runner]:
        server = grpc.aio.server()
        runner = Runner(instance, workers)
        server.add_generic_rpc_handlers((runner,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        opened.append((channel, server))
        return channel, runner

    yield start
    for channel, server in opened:
        await channel.close()
        await server.stop(None)


Serve = Callable[[Any], Awaitable[tuple[Any, Runner]]]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


async def call(channel: Any, kind: str, text: str = "abc", **options: Any) -> list[str]:
    async def letters() -> AsyncIterator[bytes]:
        for letter in text:
            yield letter.encode()

    path = f"/toy.Kinds/{kind}"
    if kind == "Unary":
        return [(await channel.unary_unary(path)(text.encode(), **options)).decode()]
    if kind == "Down":
        return [reply.decode() async for reply in channel.unary_stream(path)(text.encode(), **options)]
    if kind == "Up":
        return [(await channel.stream_unary(path)(letters(), **options)).decode()]
    return [reply.decode() async for reply in channel.stream_stream(path)(letters(), **options)]


@pytest.mark.parametrize(("made", "kind"), list(product(OBJECTS, KINDS)))
async def test_an_object_is_called_whichever_way_it_is_written(made: Any, kind: str, serve: Serve) -> None:
    """All four kinds are answered by coroutines, generators, writers and plain functions."""
    channel, _ = await serve(made())
    assert await call(channel, kind) == (["o:abc"] if kind in ("Unary", "Up") else ["o:a", "o:b", "o:c"])


@pytest.mark.parametrize(("simulation", "made", "kind"), list(product(SIMULATIONS, OBJECTS, KINDS)))
async def test_a_simulation_calls_its_delegate_one_way(
    simulation: Any, made: Any, kind: str, serve: Serve, workers: Workers
) -> None:
    """A simulation of each style gets the same of a delegate of each style, for all four kinds."""
    channel, _ = await serve(simulation(delegate_to(made(), workers)))
    assert await call(channel, kind) == (["s:o:ABC"] if kind in ("Unary", "Up") else ["s:o:A", "s:o:B", "s:o:C"])


@pytest.mark.parametrize(
    ("first", "second", "made", "kind"), list(product(SIMULATIONS[::2], SIMULATIONS, OBJECTS, KINDS))
)
async def test_a_chain_of_two_simulations(
    first: Any, second: Any, made: Any, kind: str, serve: Serve, workers: Workers
) -> None:
    """A simulation over a simulation, of whatever styles."""
    channel, _ = await serve(first(delegate_to(second(delegate_to(made(), workers)), workers)))
    assert await call(channel, kind) == (
        ["s:s:o:ABC"] if kind in ("Unary", "Up") else ["s:s:o:A", "s:s:o:B", "s:s:o:C"]
    )


@pytest.mark.parametrize("made", OBJECTS)
async def test_kinds_may_differ(made: Any, serve: Serve, workers: Workers) -> None:
    """A unary call collects the delegate's stream, and a stream repeats what a unary call of the delegate gives."""

    class Collecting(AsyncSimulation):
        async def Unary(self, request: str, context: Any) -> str:
            return "".join([reply async for reply in self.delegate.Down(request, context)])

        async def Down(self, request: str, context: Any) -> AsyncIterator[str]:
            for letter in await self.delegate.Unary(request, context):
                yield letter

        async def Up(self, requests: AsyncIterator[str], context: Any) -> str:
            return str(await self.delegate.Up(["x", "y"], context))

    class PlainlyCollecting(PlainSimulation):
        def Unary(self, request: str, context: Any) -> str:
            return "".join(self.delegate.Down(request, context))

        def Down(self, request: str, context: Any) -> Iterator[str]:
            yield from self.delegate.Unary(request, context)

        def Up(self, requests: Iterator[str], context: Any) -> str:
            return str(self.delegate.Up(["x", "y"], context))

    for simulation in (Collecting, PlainlyCollecting):
        channel, _ = await serve(simulation(delegate_to(made(), workers)))
        assert await call(channel, "Unary", "ab") == ["o:ao:b"]
        assert await call(channel, "Down", "ab") == ["o", ":", "a", "b"]
        assert await call(channel, "Up") == ["o:xy"]


class Endless(AsyncObject):
    """Sends without end, and notes how it ended."""

    async def Down(self, request: str, context: Any) -> AsyncIterator[str]:
        try:
            while True:
                yield "more"
        finally:
            self.log.append("cleaned up")


class EndlessWriting(AsyncObject):
    async def Down(self, request: str, context: Any) -> None:  # type: ignore[override]
        try:
            while True:
                await context.write("more")
        finally:
            self.log.append("cleaned up")


class EndlessPlain(PlainObject):
    def Down(self, request: str, context: Any) -> Iterator[str]:
        try:
            while True:
                yield "more"
        finally:
            self.log.append("cleaned up")


ENDLESS = [Endless, EndlessWriting, EndlessPlain]


@pytest.mark.parametrize(("simulation", "made"), list(product(SIMULATIONS, ENDLESS)))
async def test_a_caller_that_cancels_ends_the_delegate(
    simulation: Any, made: Any, serve: Serve, workers: Workers, until: Until
) -> None:
    """When the call is over, the clean-up of a delegate that was sending has run."""
    instance = made()
    channel, runner = await serve(simulation(delegate_to(instance, workers)))
    replies = channel.unary_stream("/toy.Kinds/Down")(b"abc")
    assert await replies.read() == b"s:more"
    replies.cancel()
    await until(lambda: not runner.running)
    assert instance.log == ["cleaned up"]


@pytest.mark.parametrize("made", ENDLESS)
async def test_what_a_simulation_leaves_early_is_closed_with_the_call(
    made: Any, serve: Serve, workers: Workers, until: Until
) -> None:
    """A simulation may stop to iterate without closing: its delegate has cleaned up when the call is over."""
    kept: list[Any] = []

    class First(AsyncSimulation):
        async def Unary(self, request: str, context: Any) -> str:
            replies = self.delegate.Down(request, context)
            kept.append(replies)
            return str(await anext(replies))

    class PlainFirst(PlainSimulation):
        def Unary(self, request: str, context: Any) -> str:
            return str(next(self.delegate.Down(request, context)))

    for simulation in (First, PlainFirst):
        instance = made()
        channel, runner = await serve(simulation(delegate_to(instance, workers)))
        assert await call(channel, "Unary") == ["more"]
        await until(lambda runner=runner: not runner.running)  # type: ignore[misc]
        assert instance.log == ["cleaned up"]


async def test_a_delegate_waits_for_whoever_iterates(workers: Workers) -> None:
    """At most a few replies are made that nobody has asked for yet, by writers and plain generators too."""
    made = 0

    class Counting(AsyncObject):
        async def Down(self, request: str, context: Any) -> None:  # type: ignore[override]
            nonlocal made
            while True:
                made += 1
                await context.write("more")

    class PlainCounting(PlainObject):
        def Down(self, request: str, context: Any) -> Iterator[str]:
            nonlocal made
            while True:
                made += 1
                yield "more"

    for instance in (Counting(), PlainCounting()):
        made = 0
        async with aclosing(delegate_to(instance, workers).Down("abc", None)) as replies:
            for _ in range(20):
                await anext(replies)
            assert 20 <= made <= 26


class AbortingLate(AsyncObject):
    async def Down(self, request: str, context: Any) -> AsyncIterator[str]:
        yield "one"
        await context.abort(grpc.StatusCode.DATA_LOSS, "torn", (("where", "block 7"),))

    async def Unary(self, request: str, context: Any) -> str:
        await context.abort(grpc.StatusCode.NOT_FOUND, "none")
        return ""


class AbortingLateByWrite(AbortingLate):
    async def Down(self, request: str, context: Any) -> None:  # type: ignore[override]
        await context.write("one")
        await context.abort(grpc.StatusCode.DATA_LOSS, "torn", (("where", "block 7"),))


class AbortingLatePlain(PlainObject):
    def Down(self, request: str, context: Any) -> Iterator[str]:
        yield "one"
        context.abort_with_status(Status())

    def Unary(self, request: str, context: Any) -> str:
        context.abort(grpc.StatusCode.NOT_FOUND, "none")
        return ""


class Status(grpc.Status):
    code = grpc.StatusCode.DATA_LOSS
    details = "torn"
    trailing_metadata = (("where", "block 7"),)


ABORTING = [AbortingLate, AbortingLateByWrite, AbortingLatePlain]


@pytest.mark.parametrize(("simulation", "made"), list(product(SIMULATIONS, ABORTING)))
async def test_a_delegate_that_aborts_ends_the_call(simulation: Any, made: Any, serve: Serve, workers: Workers) -> None:
    """What a delegate aborts with in the middle of a stream reaches the caller after what was sent before."""
    channel, _ = await serve(simulation(delegate_to(made(), workers)))
    replies = channel.unary_stream("/toy.Kinds/Down")(b"abc")
    assert await replies.read() == b"s:one"
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await replies.read()
    assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.DATA_LOSS, "torn")
    assert tuple(failed.value.trailing_metadata()) == (("where", "block 7"),)


@pytest.mark.parametrize("made", ABORTING)
async def test_a_simulation_may_catch_what_its_delegate_aborts_with(made: Any, serve: Serve, workers: Workers) -> None:
    """An abort that a simulation catches ends nothing: the simulation answers otherwise."""

    class Catching(AsyncSimulation):
        async def Unary(self, request: str, context: Any) -> str:
            try:
                await self.delegate.Unary(request, context)
            except AbortError as aborted:
                return f"{aborted.code().name}: {aborted.details()}"
            return ""

        async def Down(self, request: str, context: Any) -> AsyncIterator[str]:
            try:
                async for reply in self.delegate.Down(request, context):
                    yield reply
            except grpc.aio.AbortError as aborted:
                yield str(aborted)

    class PlainlyCatching(PlainSimulation):
        def Unary(self, request: str, context: Any) -> str:
            try:
                self.delegate.Unary(request, context)
            except AbortError as aborted:
                return f"{aborted.code().name}: {aborted.details()}"
            return ""

        def Down(self, request: str, context: Any) -> Iterator[str]:
            try:
                yield from self.delegate.Down(request, context)
            except grpc.aio.AbortError as aborted:
                yield str(aborted)

    for simulation in (Catching, PlainlyCatching):
        channel, _ = await serve(simulation(delegate_to(made(), workers)))
        assert await call(channel, "Unary") == ["NOT_FOUND: none"]
        assert await call(channel, "Down") == ["one", "DATA_LOSS: torn"]


@pytest.mark.parametrize("simulation", SIMULATIONS)
@pytest.mark.parametrize("made", OBJECTS)
async def test_metadata_and_deadlines_reach_a_delegate(
    simulation: Any, made: Any, serve: Serve, workers: Workers
) -> None:
    """A delegate sees the caller's metadata, peer and deadline, and sends metadata in both ways."""
    seen: dict[str, Any] = {}

    def look(context: Any) -> None:
        seen.update(
            metadata=dict(context.invocation_metadata())["asked"],
            left=context.time_remaining(),
            peer=context.peer(),
            auth=context.auth_context(),
            identities=(context.peer_identities(), context.peer_identity_key()),
        )
        context.set_compression(grpc.Compression.Gzip)
        context.disable_next_message_compression()
        context.set_trailing_metadata((("after", "y"),))
        seen["trailing"] = tuple(context.trailing_metadata())

    class Looking(made):  # type: ignore[misc]
        async def Unary(self, request: str, context: Any) -> str:
            look(context)
            await context.send_initial_metadata((("before", "x"),))
            return "seen"

    class PlainlyLooking(made):  # type: ignore[misc]
        def Unary(self, request: str, context: Any) -> str:
            look(context)
            assert context.is_active()
            context.send_initial_metadata((("before", "x"),))
            return "seen"

    looking = PlainlyLooking if made is PlainObject else Looking
    channel, _ = await serve(simulation(delegate_to(looking(), workers)))
    unary = channel.unary_unary("/toy.Kinds/Unary")(b"abc", metadata=(("asked", "z"),), timeout=15)
    assert await unary == b"s:seen"
    assert dict(await unary.initial_metadata())["before"] == "x"
    assert dict(await unary.trailing_metadata())["after"] == "y"
    assert seen["metadata"] == "z"
    assert 0 < seen["left"] <= 15.2
    assert seen["peer"].startswith("ipv4:127.0.0.1")
    assert seen["auth"]
    assert seen["identities"] == (None, None)
    assert seen["trailing"] == (("after", "y"),)


@pytest.mark.parametrize("made", [AsyncObject, PlainObject])
async def test_a_code_that_a_delegate_set_can_be_read_and_reset(made: Any, serve: Serve, workers: Workers) -> None:
    """`set_code` of a delegate is seen by the simulation, which may answer with OK."""

    class Setting(AsyncObject):
        async def Unary(self, request: str, context: Any) -> str:
            context.set_code(grpc.StatusCode.NOT_FOUND)
            context.set_details("none")
            return ""

    class PlainlySetting(PlainObject):
        def Unary(self, request: str, context: Any) -> str:
            context.set_code(grpc.StatusCode.NOT_FOUND)
            context.set_details("none")
            return ""

    class Resetting(AsyncSimulation):
        async def Unary(self, request: str, context: Any) -> str:
            await self.delegate.Unary(request, context)
            found = f"{context.code().name}: {context.details()}"
            context.set_code(grpc.StatusCode.OK)
            return found

    setting = PlainlySetting() if made is PlainObject else Setting()
    channel, _ = await serve(Resetting(delegate_to(setting, workers)))
    assert await call(channel, "Unary") == ["NOT_FOUND: none"]


async def test_plain_functions_over_plain_functions_do_not_wait_for_each_other(serve: Serve, workers: Workers) -> None:
    """200 calls through five objects, plain and asynchronous in turn, with four threads for callers."""
    chain: Any = PlainObject()
    for simulation in (PlainSimulation, AsyncSimulation, PlainSimulation, PlainSimulation):
        chain = simulation(delegate_to(chain, workers))
    channel, _ = await serve(chain)
    for kind in KINDS:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(call(channel, kind)) for _ in range(200)]
        assert {len(task.result()) for task in tasks} == {1 if kind in ("Unary", "Up") else 3}
        assert tasks[0].result()[0].startswith("s:s:s:s:o:A")


async def test_a_call_that_has_a_thread_gets_more_at_once(serve: Serve, workers: Workers) -> None:
    """Calls that hold a plain delegate's stream and call it again for each reply never wait for each other."""

    class Nested(AsyncSimulation):
        async def Unary(self, request: str, context: Any) -> str:
            return "".join(
                [await self.delegate.Unary(reply, context) async for reply in self.delegate.Down(request, context)]
            )

    channel, _ = await serve(Nested(delegate_to(PlainObject(), workers)))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call(channel, "Unary")) for _ in range(50)]
    assert {tuple(task.result()) for task in tasks} == {("o:o:ao:o:bo:o:c",)}


async def test_no_more_plain_calls_than_the_limit_are_at_work(serve: Serve, workers: Workers) -> None:
    """Callers wait for their turn when as many calls as there are threads for are at work."""
    inside = most = 0
    lock = threading.Lock()

    class Slow(PlainObject):
        def Unary(self, request: str, context: Any) -> str:
            nonlocal inside, most
            with lock:
                inside += 1
                most = max(most, inside)
            threading.Event().wait(0.005)
            with lock:
                inside -= 1
            return ""

    channel, _ = await serve(Slow())
    async with asyncio.TaskGroup() as group:
        for _ in range(30):
            group.create_task(call(channel, "Unary"))
    assert most == 4


@pytest.mark.parametrize("made", OBJECTS)
async def test_contextvars_reach_threads(made: Any, workers: Workers) -> None:
    """A plain function sees the contextvars of its caller, in both directions between loop and threads."""

    class Marked(AsyncObject):
        async def Unary(self, request: str, context: Any) -> str:
            return MARK.get()

    class PlainlyMarked(PlainObject):
        def Unary(self, request: str, context: Any) -> str:
            return MARK.get()

    MARK.set("here")
    instance = PlainlyMarked() if made is PlainObject else Marked()
    for simulation in SIMULATIONS:
        middle = simulation(delegate_to(instance, workers))
        assert await delegate_to(middle, workers).Unary("", None) == "s:here"


class Waiting(PlainObject):
    """Waits for its caller in one way or another."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()

    def Unary(self, request: str, context: Any) -> str:
        over = threading.Event()
        assert context.add_callback(over.set)
        self.entered.set()
        over.wait()
        self.log.append(f"active: {context.is_active()}, callback: {context.add_callback(over.set)}")
        return ""

    def Both(self, requests: Iterator[str], context: Any) -> Iterator[str]:
        yield next(requests)
        try:
            next(requests)
        except grpc.RpcError:
            self.log.append("no more requests")
            raise


@pytest.mark.parametrize("simulation", [None, *SIMULATIONS])
async def test_a_cancelled_call_ends_what_waits_in_its_thread(
    simulation: Any, serve: Serve, workers: Workers, until: Until
) -> None:
    """Callbacks are called and blocked iterators of requests raise, and then the call is over."""
    waiting = Waiting()
    instance = waiting if simulation is None else simulation(delegate_to(waiting, workers))
    channel, runner = await serve(instance)
    unary = channel.unary_unary("/toy.Kinds/Unary")(b"abc")
    await until(waiting.entered.is_set)
    unary.cancel()
    await until(lambda: not runner.running)
    assert waiting.log == ["active: False, callback: False"]
    both = channel.stream_stream("/toy.Kinds/Both")()
    await both.write(b"a")
    await both.read()
    both.cancel()
    await until(lambda: not runner.running)
    assert waiting.log[1:] in (["no more requests"], [])  # closed before it asked, or ended while it waited


async def test_a_thread_that_waits_for_its_delegate_is_told_that_the_call_is_over(
    serve: Serve, workers: Workers, until: Until
) -> None:
    """What a plain simulation waits for raises once, and its clean-up may call the delegate again."""
    log: list[str] = []

    class Hanging(AsyncObject):
        async def Unary(self, request: str, context: Any) -> str:
            if request == "unlock":
                log.append("unlocked")
                return ""
            log.append("waiting")
            try:
                await asyncio.Event().wait()
            finally:
                log.append("cancelled")
            return ""

    class Locking(PlainSimulation):
        def Unary(self, request: str, context: Any) -> str:
            try:
                return str(self.delegate.Unary("lock", context))
            finally:
                self.delegate.Unary("unlock", context)

    channel, runner = await serve(Locking(delegate_to(Hanging(), workers)))
    unary = channel.unary_unary("/toy.Kinds/Unary")(b"abc")
    await until(lambda: log == ["waiting"])
    unary.cancel()
    await until(lambda: not runner.running)
    assert log == ["waiting", "cancelled", "unlocked"]


async def test_a_plain_function_may_cancel_its_call(serve: Serve) -> None:
    """`context.cancel` ends the call with CANCELLED once the method has returned."""

    class Cancelling(PlainObject):
        def Unary(self, request: str, context: Any) -> str:
            context.cancel()
            return "too late"

    channel, _ = await serve(Cancelling())
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await channel.unary_unary("/toy.Kinds/Unary")(b"abc")
    assert failed.value.code() is grpc.StatusCode.CANCELLED


async def test_a_thread_stays_with_its_generator(workers: Workers) -> None:
    """A plain generator is made, driven and closed in one thread: what it holds may belong to a thread."""
    threads: set[int] = set()

    class Noting(PlainObject):
        def Down(self, request: str, context: Any) -> Iterator[str]:
            try:
                for letter in request:
                    threads.add(threading.get_ident())
                    yield letter
            finally:
                threads.add(threading.get_ident())

    assert [reply async for reply in delegate_to(Noting(), workers).Down("a" * 50, None)] == ["a"] * 50
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


@pytest.mark.parametrize("error", [ValueError("wrong"), StopIteration("stop"), SystemExit(3)])
async def test_what_a_plain_function_raises_comes_out(error: BaseException, workers: Workers) -> None:
    """An error passes from the thread to whoever calls; what would end a thread does not end the process."""

    class Failing(PlainObject):
        def Unary(self, request: str, context: Any) -> str:
            raise error

    with pytest.raises(ValueError if isinstance(error, ValueError) else RuntimeError):
        await delegate_to(Failing(), workers).Unary("", None)


@pytest.mark.parametrize("made", OBJECTS)
async def test_a_delegate_is_called_where_there_is_no_call(made: Any, workers: Workers) -> None:
    """Without a context, a delegate gets one that says so: no metadata, no deadline; to abort raises."""

    def say(context: Any) -> str:
        context.set_code(grpc.StatusCode.NOT_FOUND)
        context.set_details("none")
        context.set_trailing_metadata((("a", "b"),))
        return f"{tuple(context.invocation_metadata())} {context.time_remaining()} {context.code().name}"

    class Saying(AsyncObject):
        async def Unary(self, request: str, context: Any) -> str:
            if request == "abort":
                await context.abort(grpc.StatusCode.ABORTED)
            return say(context)

    class PlainlySaying(PlainObject):
        def Unary(self, request: str, context: Any) -> str:
            if request == "abort":
                context.abort(grpc.StatusCode.ABORTED, "")
            return say(context)

    delegate = delegate_to(PlainlySaying() if made is PlainObject else Saying(), workers)
    assert await delegate.Unary("", None) == "() None NOT_FOUND"
    assert await delegate.Unary("") == "() None NOT_FOUND"
    with pytest.raises(AbortError, match="ABORTED"):
        await delegate.Unary("abort", None)
    assert [reply async for reply in delegate_to(made(), workers).Both(["a", "b"])] == ["o:a", "o:b"]


async def test_other_attributes_are_the_objects_own(workers: Workers) -> None:
    """What is no method of the delegate's services is read from the object and written to it."""
    instance = AsyncObject()
    delegate = delegate_to(instance, workers)
    delegate.log = ["mine"]
    assert instance.log == ["mine"]
    assert delegate.log is instance.log
    assert repr(delegate) == f"Delegate({instance!r})"
    with pytest.raises(AttributeError, match="AsyncObject"):
        _ = delegate.missing
    bind(delegate, {})
    assert await delegate.Unary("a", None) == "o:a"  # the object's own now


async def test_a_thread_that_answers_no_call_is_told(workers: Workers) -> None:
    """An asynchronous delegate cannot be waited for in a thread of the author's own."""
    delegate = delegate_to(AsyncObject(), workers)
    with pytest.raises(RuntimeError, match="answers no call"):
        await asyncio.to_thread(delegate.Unary, "a", None)
    assert await asyncio.to_thread(delegate_to(DirectPlain(), workers).Unary, "a", None) == "a"


class DirectPlain(PlainObject):
    def Unary(self, request: str, context: Any) -> str:
        return request


def test_an_asynchronous_method_is_used_as_it_is() -> None:
    """No cost for objects that are asynchronous."""
    instance = AsyncObject()
    for name, handler in methods(instance).items():
        behaviour = behaviour_of(name, handler)
        assert as_async(handler, behaviour) is behaviour
        assert not is_plain(behaviour)
