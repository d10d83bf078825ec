# ruff: noqa: N802 - gRPC names its methods in CamelCase
"""Whatever way a call comes to a method, those that follow it are told of it, and it is one step."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from segue.author import FutureSimulation, PastSimulation, intercepts, observes
from segue.layer.chain import Link
from segue.layer.grpc_live_chain import LiveChain, Maker
from segue.layer.grpc_server import Dispatch
from segue.model.ids import Version

Serve = Callable[[Dispatch], Awaitable[str]]
Connect = Callable[..., grpc.aio.Channel]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


class Store:
    """Version 2: puts and gets; a put of "wait" waits until it is let go."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.inside = 0

    def register(self, server: Any) -> None:
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            name: grpc.unary_unary_rpc_method_handler(getattr(self, name))
            for name in ("Put", "Get", "PutNew")
            if hasattr(self, name)
        }
        if hasattr(self, "PutAll"):
            handlers["PutAll"] = grpc.unary_stream_rpc_method_handler(self.PutAll)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("toy.Store", handlers),))

    async def Put(self, request: bytes, context: Any) -> bytes:
        self.inside += 1
        if request == b"wait":
            await self.go_on.wait()
        return b"done"

    async def Get(self, request: bytes, context: Any) -> bytes:
        context.set_code(grpc.StatusCode.NOT_FOUND)
        return b""


class Version1(PastSimulation, Store):
    """Over the same."""

    def __init__(self, delegate: Any) -> None:
        self.delegate = delegate

    async def Put(self, request: bytes, context: Any) -> bytes:
        return await self.delegate.Put(request, context)  # type: ignore[no-any-return]

    async def PutAll(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield await self.delegate.Put(request, context)

    async def PutNew(self, request: bytes, context: Any) -> bytes:
        await self.delegate.Get(request, context)
        if context.code() is not grpc.StatusCode.NOT_FOUND:
            return b"there"
        await self.delegate.Put(request, context)
        context.set_code(grpc.StatusCode.OK)
        return b"new"


class Version3(FutureSimulation, Store):
    """Is told of what is put."""

    def __init__(self, delegate: Any) -> None:
        self.delegate = delegate
        self.seen: list[bytes] = []

    @observes("Put")
    async def put(self, request: bytes, reply: bytes, context: Any) -> None:
        self.seen.append(request)


@pytest.fixture
def live(dispatch: Dispatch) -> LiveChain:
    return LiveChain(dispatch)


def current(instance: object) -> Link:
    return Link(version=Version(2), role="current", instance=instance)


def maker(version: int, make: Callable[[Any], Any]) -> Maker:
    return Maker(make=make, version=Version(version), since=Version(version))


async def install(live: LiveChain, kind: Callable[[Any], Any]) -> Any:
    """Put a simulation of version 3 above the chain, and return it."""
    made: list[Any] = []

    def make(delegate: Any) -> Any:
        made.append(kind(delegate))
        return made[0]

    await live.install(maker(3, make))
    return made[0]


async def call(channel: Any, method: str, request: bytes = b"a") -> bytes:
    if method == "PutAll":
        [reply] = [reply async for reply in channel.unary_stream("/toy.Store/PutAll")(request)]
        return reply  # type: ignore[no-any-return]
    return await channel.unary_unary(f"/toy.Store/{method}")(request)  # type: ignore[no-any-return]


async def test_what_hooks_call_is_part_of_the_step(
    live: LiveChain, dispatch: Dispatch, serve: Serve, connect: Connect
) -> None:
    """An observer calls its delegate, whose method a simulation on the other side follows."""

    class Looking(Version1):
        @observes("Put")
        async def put(self, request: bytes, reply: bytes, context: Any) -> None:
            await self.delegate.Get(request, context)

    class Counting(FutureSimulation, Store):
        def __init__(self, delegate: Any) -> None:
            self.delegate = delegate
            self.inside = self.most = 0

        @intercepts("Get")
        async def get(self, request: bytes, context: Any, proceed: Any) -> bytes:
            self.inside += 1
            self.most = max(self.most, self.inside)
            await asyncio.sleep(0.02)
            self.inside -= 1
            return b"got"

    await live.start(current(Store()), [maker(1, Looking)])
    counting = await install(live, Counting)
    channel = connect(await serve(dispatch), 2)
    async with asyncio.TaskGroup() as group:
        for method in ("Put", "Get", "Put", "Get"):
            group.create_task(call(channel, method))
    assert counting.most == 1


@pytest.mark.parametrize(("version", "method"), [(2, "Put"), (1, "Put"), (1, "PutAll")])
async def test_told_of_calls_that_were_inside_the_object_when_it_came(
    version: int,
    method: str,
    live: LiveChain,
    dispatch: Dispatch,
    serve: Serve,
    connect: Connect,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Those too that other simulations have made, and those that streams have."""
    monkeypatch.setattr("segue.layer.grpc_live_chain._INSTALL_SETTLE_S", 0.05)
    store = Store()
    await live.start(current(store), [maker(1, Version1)])
    channel = connect(await serve(dispatch), version)
    async with asyncio.TaskGroup() as group:
        inside = group.create_task(call(channel, method, b"wait"))
        await until(lambda: store.inside == 1)
        newer = await install(live, Version3)
        store.go_on.set()
    assert inside.result() == b"done"
    assert newer.seen == [b"wait"]


async def test_told_although_a_status_stood_there_before(
    live: LiveChain, dispatch: Dispatch, serve: Serve, connect: Connect
) -> None:
    """A simulation looks with one call whether there is anything, which sets NOT_FOUND, and puts with another."""
    await live.start(current(Store()), [maker(1, Version1)])
    newer = await install(live, Version3)
    assert await call(connect(await serve(dispatch), 1), "PutNew", b"x") == b"new"
    assert newer.seen == [b"x"]


async def test_stopped_after_the_last_call_that_it_intercepts(
    live: LiveChain, dispatch: Dispatch, serve: Serve, connect: Connect, until: Until
) -> None:
    """A simulation that does not start fails no call that came to its interceptors meanwhile."""
    log: list[str] = []
    fails = asyncio.Event()

    class Faulty(Version3):
        async def start(self) -> None:
            await fails.wait()
            raise OSError("its disk is full")

        async def stop(self) -> None:
            log.append("stop")

        @intercepts("Put")
        async def before(self, request: bytes, context: Any, proceed: Any) -> bytes:
            log.append("put")
            return await proceed(request)  # type: ignore[no-any-return]

    store = Store()
    await live.start(current(store), [])
    channel = connect(await serve(dispatch), 2)

    async def fail() -> None:
        with pytest.raises(OSError, match="its disk is full"):
            await live.install(maker(3, Faulty))

    async with asyncio.TaskGroup() as group:
        group.create_task(fail())
        await until(lambda: live.newest == 3)
        first = group.create_task(call(channel, "Put", b"wait"))
        await until(lambda: store.inside == 1)
        second = group.create_task(call(channel, "Put"))
        await until(lambda: dispatch.in_flight.clients == 2)
        fails.set()
        await until(lambda: live.newest == 2)
        store.go_on.set()
    assert [first.result(), second.result()] == [b"done", b"done"]
    assert log == ["put", "put", "stop"]
