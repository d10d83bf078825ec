# ruff: noqa: N802 - gRPC names its methods in CamelCase
"""Calls of all kinds, through chains of objects of all styles, that come directly, were parked, or are forwarded."""

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import grpc
import grpc.aio
import pytest

from segue.author import FutureSimulation, PastSimulation
from segue.layer.chain import Link
from segue.layer.grpc_channel import labelled_channel
from segue.layer.grpc_collector import MethodHandler
from segue.layer.grpc_listener import listen_for_relays, successor_channel
from segue.layer.grpc_live_chain import LiveChain, Maker
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest
from segue.layer.usage import Usage
from segue.model.ids import Version

Until = Callable[[Callable[[], bool]], Awaitable[None]]
#: How an object or a simulation is written: `a` with coroutines and generators, `w` with `context.read` and
#: `context.write`, `p` with plain functions.
Style: TypeAlias = Literal["a", "w", "p"]
Delivery: TypeAlias = Literal["direct", "parked", "forwarded"]

_NOT_DIRECT: tuple[Delivery, ...] = ("parked", "forwarded")

KINDS = ["Unary", "Down", "Up", "Both"]
_MAKERS: dict[str, Callable[..., MethodHandler]] = {
    "Unary": grpc.unary_unary_rpc_method_handler,
    "Down": grpc.unary_stream_rpc_method_handler,
    "Up": grpc.stream_unary_rpc_method_handler,
    "Both": grpc.stream_stream_rpc_method_handler,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """What an object or a simulation does in each call besides answering.

    Attributes:
        initial, trailing: the metadata that it sends.
        gzip: whether it compresses what it sends.
        reads: how many requests it takes before it returns; None for all.
        farewell: what it sends when the caller has sent all, in `Both`.
        end: called before the last reply of `Unary` and `Up`, and after the last of the others.
        plain_end: the same for plain functions.
        whole: whether `Down` answers with the request as it is, and not with each letter.
        hangs: whether it waits there until the call is over.
    """

    initial: Sequence[tuple[str, str | bytes]] = ()
    trailing: Sequence[tuple[str, str | bytes]] = ()
    gzip: bool = False
    reads: int | None = None
    farewell: str = ""
    end: Callable[[Any], Awaitable[None]] | None = None
    plain_end: Callable[[Any], None] | None = None
    whole: bool = False
    hangs: bool = False


class Actor:
    """An object or a simulation; messages are text. `o:` before a reply is the object's, `s:` a simulation's."""

    def __init__(self, tag: str, script: Script, delegate: Any = None) -> None:
        self.tag = tag
        self.script = script
        self.delegate = delegate
        self.entered = 0
        self.cleaned = 0
        self.hanging = False
        self.remaining_s: float | None = None
        self.metadata: list[tuple[str, Any]] = []

    async def start(self) -> None:
        """Nothing to get ready."""

    async def stop(self) -> None:
        """Nothing to close."""

    def register(self, server: Any) -> None:
        handlers = {name: make(getattr(self, name), bytes.decode, str.encode) for name, make in _MAKERS.items()}
        server.add_registered_method_handlers("toy.Calls", handlers)

    @contextmanager
    def noted(self, context: Any) -> Iterator[None]:
        self.entered += 1
        self.remaining_s = context.time_remaining()
        self.metadata = [tuple(pair) for pair in context.invocation_metadata()]
        try:
            yield
        finally:
            self.cleaned += 1


class Async(Actor):
    async def begin(self, context: Any) -> None:
        if self.script.gzip:
            context.set_compression(grpc.Compression.Gzip)
        if self.script.initial:
            await context.send_initial_metadata(tuple(self.script.initial))
        if self.script.trailing:
            context.set_trailing_metadata(tuple(self.script.trailing))

    async def end(self, context: Any) -> None:
        if self.script.hangs:
            self.hanging = True
            await asyncio.Event().wait()
        if self.script.end:
            await self.script.end(context)

    async def taken(self, requests: AsyncIterator[str]) -> AsyncIterator[str]:
        left = self.script.reads
        while left != 0 and (request := await anext(requests, None)) is not None:
            yield request
            left = None if left is None else left - 1

    async def Unary(self, request: str, context: Any) -> str:
        with self.noted(context):
            await self.begin(context)
            await self.end(context)
            return f"o:{request}"

    async def Down(self, request: str, context: Any) -> AsyncIterator[str]:
        with self.noted(context):
            await self.begin(context)
            for letter in [request] if self.script.whole else request:
                yield f"o:{letter}"
            await self.end(context)

    async def Up(self, requests: AsyncIterator[str], context: Any) -> str:
        with self.noted(context):
            await self.begin(context)
            got = "".join([request async for request in self.taken(aiter(requests))])
            await self.end(context)
            return f"o:{got}"

    async def Both(self, requests: AsyncIterator[str], context: Any) -> AsyncIterator[str]:
        with self.noted(context):
            await self.begin(context)
            async for request in self.taken(aiter(requests)):
                yield f"o:{request}"
            await self.end(context)
            for letter in self.script.farewell:
                yield f"o:{letter}"


async def read_all(context: Any) -> AsyncIterator[str]:
    while (request := await context.read()) is not grpc.aio.EOF:
        yield request


class Writing(Async):
    async def Down(self, request: str, context: Any) -> None:  # type: ignore[override]
        with self.noted(context):
            await self.begin(context)
            for letter in [request] if self.script.whole else request:
                await context.write(f"o:{letter}")
            await self.end(context)

    async def Up(self, requests: AsyncIterator[str], context: Any) -> str:
        return await super().Up(read_all(context), context)

    async def Both(self, requests: AsyncIterator[str], context: Any) -> None:  # type: ignore[override]
        with self.noted(context):
            await self.begin(context)
            async for request in self.taken(read_all(context)):
                await context.write(f"o:{request}")
            await self.end(context)
            for letter in self.script.farewell:
                await context.write(f"o:{letter}")


class Plain(Actor):
    def begin(self, context: Any) -> None:
        if self.script.gzip:
            context.set_compression(grpc.Compression.Gzip)
        if self.script.initial:
            context.send_initial_metadata(tuple(self.script.initial))
        if self.script.trailing:
            context.set_trailing_metadata(tuple(self.script.trailing))

    def end(self, context: Any) -> None:
        if self.script.hangs:
            over = threading.Event()
            if context.add_callback(over.set):
                self.hanging = True
                over.wait()
        if self.script.plain_end:
            self.script.plain_end(context)

    def taken(self, requests: Iterator[str]) -> Iterator[str]:
        left = self.script.reads
        while left != 0 and (request := next(requests, None)) is not None:
            yield request
            left = None if left is None else left - 1

    def Unary(self, request: str, context: Any) -> str:
        with self.noted(context):
            self.begin(context)
            self.end(context)
            return f"o:{request}"

    def Down(self, request: str, context: Any) -> Iterator[str]:
        with self.noted(context):
            self.begin(context)
            for letter in [request] if self.script.whole else request:
                yield f"o:{letter}"
            self.end(context)

    def Up(self, requests: Iterator[str], context: Any) -> str:
        with self.noted(context):
            self.begin(context)
            got = "".join(self.taken(requests))
            self.end(context)
            return f"o:{got}"

    def Both(self, requests: Iterator[str], context: Any) -> Iterator[str]:
        with self.noted(context):
            self.begin(context)
            for request in self.taken(requests):
                yield f"o:{request}"
            self.end(context)
            for letter in self.script.farewell:
                yield f"o:{letter}"


class AsyncSimulation(Async):
    async def Unary(self, request: str, context: Any) -> str:
        with self.noted(context):
            await self.begin(context)
            reply = await self.delegate.Unary(request, context)
            await self.end(context)
            return f"s:{reply}"

    async def Down(self, request: str, context: Any) -> AsyncIterator[str]:
        with self.noted(context):
            await self.begin(context)
            async for reply in self.delegate.Down(request, context):
                yield f"s:{reply}"
            await self.end(context)

    async def Up(self, requests: AsyncIterator[str], context: Any) -> str:
        with self.noted(context):
            await self.begin(context)
            reply = await self.delegate.Up(requests, context)
            await self.end(context)
            return f"s:{reply}"

    async def Both(self, requests: AsyncIterator[str], context: Any) -> AsyncIterator[str]:
        with self.noted(context):
            await self.begin(context)
            async for reply in self.delegate.Both(requests, context):
                yield f"s:{reply}"
            await self.end(context)


class WritingSimulation(AsyncSimulation):
    async def Down(self, request: str, context: Any) -> None:  # type: ignore[override]
        with self.noted(context):
            await self.begin(context)
            async for reply in self.delegate.Down(request, context):
                await context.write(f"s:{reply}")
            await self.end(context)

    async def Up(self, requests: AsyncIterator[str], context: Any) -> str:
        return await super().Up(read_all(context), context)

    async def Both(self, requests: AsyncIterator[str], context: Any) -> None:  # type: ignore[override]
        with self.noted(context):
            await self.begin(context)
            async for reply in self.delegate.Both(read_all(context), context):
                await context.write(f"s:{reply}")
            await self.end(context)


class PlainSimulation(Plain):
    def Unary(self, request: str, context: Any) -> str:
        with self.noted(context):
            self.begin(context)
            reply = self.delegate.Unary(request, context)
            self.end(context)
            return f"s:{reply}"

    def Down(self, request: str, context: Any) -> Iterator[str]:
        with self.noted(context):
            self.begin(context)
            for reply in self.delegate.Down(request, context):
                yield f"s:{reply}"
            self.end(context)

    def Up(self, requests: Iterator[str], context: Any) -> str:
        with self.noted(context):
            self.begin(context)
            reply = self.delegate.Up(requests, context)
            self.end(context)
            return f"s:{reply}"

    def Both(self, requests: Iterator[str], context: Any) -> Iterator[str]:
        with self.noted(context):
            self.begin(context)
            for reply in self.delegate.Both(requests, context):
                yield f"s:{reply}"
            self.end(context)


_OBJECTS: dict[Style, Any] = {"a": Async, "w": Writing, "p": Plain}
_SIMULATIONS: dict[Style, Any] = {"a": AsyncSimulation, "w": WritingSimulation, "p": PlainSimulation}


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Where a call goes.

    Attributes:
        past, future: styles of the simulations, the one next to the object first.
        current: the object's style.
        version: the caller's, the oldest being 1; the object's comes after its past simulations'.
        delivery: how the call gets there.
    """

    past: str = ""
    current: str = "a"
    future: str = ""
    version: int = 1
    delivery: Delivery = "direct"

    @property
    def depth(self) -> int:
        """How many simulations the call passes through."""
        return abs(len(self.past) + 1 - self.version)

    def __str__(self) -> str:
        return f"{self.past[::-1]}>{self.current}<{self.future}-{self.version}-{self.delivery}"


@dataclass(slots=True, kw_only=True)
class World:
    """A node, and a caller of it.

    Attributes:
        way: where calls go.
        front: what takes calls.
        answering: what answers them: the same, but for forwarded calls.
        actors: those on the way, the object first.
        channel: to the node, labelled.
        address: the node's.
    """

    way: Way
    front: Dispatch
    answering: Dispatch
    actors: list[Any]
    channel: Any
    address: str
    until: Until

    async def begin(
        self, kind: str, text: str = "abc", requests: Any = None, channel: Any = None, **options: Any
    ) -> Any:
        """Begin a call with its one request, or with `requests`, by default each letter, and have it let in."""
        if self.way.delivery == "parked":
            await self.front.quiesce(5)
        channel, path = channel or self.channel, f"/toy.Calls/{kind}"
        if kind in ("Unary", "Down"):
            make = channel.unary_unary if kind == "Unary" else channel.unary_stream
            call = make(path, str.encode, bytes.decode)(text, **options)
        else:
            make = channel.stream_unary if kind == "Up" else channel.stream_stream
            given = list(text) if requests is None else requests
            call = make(path, str.encode, bytes.decode)(None if given == () else given, **options)
        if self.way.delivery == "parked":
            await self.until(lambda: self.front.in_flight.parked == 1 or call.done())
            self.front.resume()
        return call

    async def over(self) -> None:
        """Wait until no call is inside."""
        await self.until(
            lambda: all(
                (now.clients, now.nodes, now.parked, now.forwarded) == (0, 0, 0, 0)
                for now in (self.front.in_flight, self.answering.in_flight)
            )
        )

    def replies(self, kind: str, text: str = "abc") -> list[str]:
        """Return what the caller gets for `text`."""
        mark = "s:" * self.way.depth + "o:"
        return [f"{mark}{text}"] if kind in ("Unary", "Up") else [f"{mark}{letter}" for letter in text]


def _dispatch() -> Dispatch:
    return Dispatch(usage=Usage(), newest=Newest(Version(1)), on_newer=lambda _: None)


async def _show(dispatch: Dispatch, way: Way, scripts: Sequence[Script], turning: type | None) -> list[Any]:
    """Have a chain answered, and return those of it that a call meets on its way, the object first."""
    number = len(way.past) + 1
    on_way = iter(scripts[1:])
    met = [_OBJECTS[way.current]("object", scripts[0])]  # type: ignore[index]

    def maker(style: str, version: int, role: Any) -> Maker:
        name = f"version {version}"

        def make(delegate: Any) -> Any:
            meets = min(way.version, number) <= version <= max(way.version, number)
            bases = (_SIMULATIONS[style], role) if turning is None else (turning, _SIMULATIONS[style], role)  # type: ignore[index]
            made = type("Made", bases, {})(name, next(on_way, Script()) if meets else Script(), delegate)
            if meets:
                met.append(made)
            return made

        return Maker(make=make, version=Version(version), since=Version(version))

    live = LiveChain(dispatch)
    await live.start(
        Link(version=Version(number), role="current", instance=met[0]),
        [maker(style, number - at, PastSimulation) for at, style in enumerate(way.past, start=1)],
    )
    for at, style in enumerate(way.future, start=1):
        await live.install(maker(style, number + at, FutureSimulation))
    return met


@pytest.fixture
async def world(until: Until) -> AsyncIterator[Callable[..., Awaitable[World]]]:
    """Make a node whose chain a way goes through, with what its object and simulations do, the object first."""
    async with AsyncExitStack() as opened:

        async def make(way: Way, *scripts: Script, limit_bytes: int = 4 << 20, turning: type | None = None) -> World:
            front = _dispatch()
            answering = _dispatch() if way.delivery == "forwarded" else front
            actors = await _show(answering, way, scripts or (Script(),), turning)
            options = (("grpc.max_receive_message_length", limit_bytes),)
            server = grpc.aio.server(options=options)
            server.add_generic_rpc_handlers((front,))
            port = server.add_insecure_port("127.0.0.1:0")
            await server.start()
            opened.push_async_callback(server.stop, None)
            if way.delivery == "forwarded":
                socket = Path(opened.enter_context(tempfile.TemporaryDirectory())) / "s"
                listener = await listen_for_relays(answering, socket, limit_bytes)
                opened.push_async_callback(listener.stop, 0)
                channel = await opened.enter_async_context(successor_channel(socket))
                front.forward(channel)
            address = f"127.0.0.1:{port}"
            client = await opened.enter_async_context(labelled_channel(address, version=way.version, options=options))
            return World(
                way=way, front=front, answering=answering, actors=actors, channel=client, address=address, until=until
            )

        yield make


#: Each style alone, each pair of styles next to each other, and chains of four.
DIRECT = [
    *(Way(current=style) for style in "awp"),
    *(
        Way(past=pair[0], current=pair[1], version=1) if index % 2 else Way(current=pair[1], future=pair[0], version=2)
        for index, pair in enumerate(["aa", "ap", "pa", "wp", "pw", "pp", "wa", "aw", "ww"])
    ),
    Way(past="pa", current="w", future="a", version=1),
    Way(past="ap", current="p", future="w", version=1),
    Way(past="wa", current="a", future="p", version=4),
]
_OTHERWISE = [
    replace(way, delivery=delivery)
    for way in (Way(current="a"), Way(past="a", current="p"), Way(past="pa", current="w", future="a"))
    for delivery in _NOT_DIRECT
]
WAYS = [*DIRECT, *_OTHERWISE]
#: For what does not depend on how two that are next to each other are written.
MAIN_WAYS = [Way(current="a"), Way(current="p"), Way(current="w", future="a", version=2), DIRECT[-3], *_OTHERWISE]
#: For what takes long: one for each delivery.
ONE_OF_EACH = [
    Way(past="pa", current="w"),
    Way(past="a", current="p", delivery="parked"),
    Way(past="pa", current="w", delivery="forwarded"),
]


#: {what a test asks for: the kinds of call that it gets}
_ASKED = {
    "kind": KINDS,
    "stream": KINDS[1:],
    "answered_by_stream": ["Down", "Both"],
    "asking_by_stream": ["Up", "Both"],
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Have each test that asks for a way, or for a kind of call, run with all of them."""
    if "way" in metafunc.fixturenames:
        metafunc.parametrize("way", WAYS, ids=str)
    if "own_way" in metafunc.fixturenames:  # the calls end at the node that they came to
        metafunc.parametrize("own_way", [way for way in WAYS if way.delivery != "forwarded"], ids=str)
    if "main_way" in metafunc.fixturenames:
        metafunc.parametrize("main_way", MAIN_WAYS, ids=str)
    if "one_way" in metafunc.fixturenames:
        metafunc.parametrize("one_way", ONE_OF_EACH, ids=str)
    for name, kinds in _ASKED.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, kinds)


async def heard(kind: str, call: Any) -> tuple[list[str], grpc.RpcError | None]:
    """Return what the caller of a call gets: the replies, and the error after them."""
    replies: list[str] = []
    try:
        if kind in ("Unary", "Up"):
            replies.append(await call)
        else:
            async for reply in call:
                replies.append(reply)
    except grpc.aio.AioRpcError as error:
        return replies, error
    return replies, None


@pytest.fixture
def hear() -> Callable[[str, Any], Awaitable[tuple[list[str], grpc.RpcError | None]]]:
    """Take all that comes of a call: its replies, and the error after them."""
    return heard


@pytest.fixture
def scripted() -> Callable[..., Script]:
    """Say what an object or a simulation does besides answering."""
    return Script


@pytest.fixture
def make_way() -> Callable[..., Way]:
    """Say where a call goes."""
    return Way
