"""A real server and real channels on loopback, and objects whose methods are of each kind and style."""

import asyncio
import importlib
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from segue.layer.chain import Chain, Link
from segue.layer.grpc_channel import LabelledChannel
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Label, Newest
from segue.layer.usage import Usage
from segue.model.ids import NodeId, Version

SERVICE = "toy.Kinds"

PROTO = """
syntax = "proto3";
package segue.tests.layer;
message Text { string text = 1; }
service Talk {
  rpc Say(Text) returns (Text);
  rpc Hear(Text) returns (stream Text);
  rpc Tell(stream Text) returns (Text);
  rpc Chat(stream Text) returns (stream Text);
  rpc Forgotten(Text) returns (Text);
}
"""


class Kinds:
    """Each kind of method, and each style of the streaming ones; messages are text.

    `Unary` of "fail", "refuse", "hang" and the like does so.
    """

    def __init__(self, tag: str) -> None:
        self.tag = tag
        self.cancelled = asyncio.Event()
        self.closed = asyncio.Event()
        self.release = asyncio.Event()

    def register(self, server: grpc.aio.Server) -> None:
        makers: dict[str, Callable[..., grpc.RpcMethodHandler[str, str]]] = {
            "Unary": grpc.unary_unary_rpc_method_handler,
            "Down": grpc.unary_stream_rpc_method_handler,
            "DownByWrite": grpc.unary_stream_rpc_method_handler,
            "Up": grpc.stream_unary_rpc_method_handler,
            "UpByRead": grpc.stream_unary_rpc_method_handler,
            "Both": grpc.stream_stream_rpc_method_handler,
            "BothByReadWrite": grpc.stream_stream_rpc_method_handler,
        }
        handlers = {
            name: make(getattr(self, name), request_deserializer=bytes.decode, response_serializer=str.encode)
            for name, make in makers.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        server.add_registered_method_handlers(SERVICE, handlers)

    async def Unary(self, request: str, context: Any) -> str | None:  # noqa: N802
        match request:
            case "fail":
                raise ValueError("secret of the object")
            case "abort":
                await context.abort(grpc.StatusCode.NOT_FOUND, "no such block", (("reason", "gone"),))
            case "set code":
                context.set_code(grpc.StatusCode.RESOURCE_EXHAUSTED)
                context.set_details("full")
                return None
            case "set code and raise":
                context.set_code(grpc.StatusCode.OUT_OF_RANGE)
                context.set_details("too far")
                raise ValueError("secret of the object")
            case "no message":
                return None
            case "hang":
                try:
                    await self.release.wait()
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise
        return f"{self.tag}:{request}"

    async def Down(self, request: str, context: Any) -> AsyncIterator[str]:  # noqa: N802
        try:
            for letter in request:
                yield f"{self.tag}:{letter}"
            if request == "hang":
                await self.release.wait()
        finally:
            self.closed.set()

    async def DownByWrite(self, request: str, context: Any) -> None:  # noqa: N802
        for letter in request:
            await context.write(f"{self.tag}:{letter}")

    async def Up(self, requests: AsyncIterator[str], context: Any) -> str:  # noqa: N802
        return f"{self.tag}:" + "".join([request async for request in requests])

    async def UpByRead(self, requests: AsyncIterator[str], context: Any) -> str:  # noqa: N802
        got = ""
        while (request := await context.read()) is not grpc.aio.EOF:
            got += request
        return f"{self.tag}:{got}"

    async def Both(self, requests: AsyncIterator[str], context: Any) -> AsyncIterator[str]:  # noqa: N802
        async for request in requests:
            yield f"{self.tag}:{request}"

    async def BothByReadWrite(self, requests: AsyncIterator[str], context: Any) -> None:  # noqa: N802
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(f"{self.tag}:{request}")


@pytest.fixture
def kinds() -> Callable[[str], Any]:
    """Make an object with a method of each kind, which answers with its tag."""
    return Kinds


@pytest.fixture
def usage() -> Usage:
    return Usage()


@pytest.fixture
def newest() -> Newest:
    return Newest(Version(1))


@pytest.fixture
def heard() -> list[Version]:
    """The versions that callers were the first to name."""
    return []


@pytest.fixture
def dispatch(usage: Usage, newest: Newest, heard: list[Version]) -> Dispatch:
    return Dispatch(usage=usage, newest=newest, on_newer=heard.append)


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Dispatch], Awaitable[str]]]:
    """Serve a dispatch on a port of its own, and return its address."""
    servers: list[grpc.aio.Server] = []

    async def start(dispatch: Dispatch) -> str:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((dispatch,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        await server.stop(None)


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., grpc.aio.Channel]]:
    """Open a channel to an address: as a client or node of a version, or without a label."""
    channels: list[grpc.aio.Channel] = []

    def open_channel(
        address: str, version: int | None = None, newest: int | None = None, node: str | None = None
    ) -> grpc.aio.Channel:
        channel = grpc.aio.insecure_channel(address)
        if version is not None:
            label = Label(
                caller=Version(version), newest=Version(newest or version), node=None if node is None else NodeId(node)
            )
            channel = LabelledChannel(channel, label.to_metadata)
        channels.append(channel)
        return channel

    yield open_channel
    for channel in channels:
        await channel.close()


@pytest.fixture
def chain() -> Callable[..., Chain]:
    """Make a chain of objects, the first given being of version `oldest` and number `current` the current one."""

    def make(*instances: object, current: int, oldest: int = 1, ready: bool = True) -> Chain:
        return Chain(
            tuple(
                Link(
                    version=Version(version),
                    role="past" if version < current else "current" if version == current else "future",
                    instance=instance,
                    ready=ready or version == current,
                )
                for version, instance in enumerate(instances, start=oldest)
            )
        )

    return make


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], Awaitable[None]]:
    """Wait for a condition, which the test's time limit bounds."""

    async def wait(condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110 - the condition is of code that has no event for tests
            await asyncio.sleep(0.001)

    return wait


@pytest.fixture
def call_kind() -> Callable[[grpc.aio.Channel, str], Coroutine[None, None, list[str]]]:
    """Call a method of `Kinds` with "abc", in as many messages as it takes, and return the replies."""

    async def letters() -> AsyncIterator[bytes]:
        for letter in "abc":
            yield letter.encode()

    async def call(channel: Any, method: str) -> list[str]:
        path = f"/{SERVICE}/{method}"
        if method == "Unary":
            return [(await channel.unary_unary(path)(b"abc")).decode()]
        if method.startswith("Down"):
            return [reply.decode() async for reply in channel.unary_stream(path)(b"abc")]
        if method.startswith("Up"):
            return [(await channel.stream_unary(path)(letters())).decode()]
        return [reply.decode() async for reply in channel.stream_stream(path)(letters())]

    return call


@pytest.fixture(scope="session")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, Any]]:
    """The modules that protoc makes of PROTO: messages, and services."""
    folder: Path = tmp_path_factory.mktemp("generated")
    (folder / "layer_talk.proto").write_text(PROTO)
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", "--python_out=.", "--grpc_python_out=."]
    subprocess.run([*command, "layer_talk.proto"], cwd=folder, check=True, timeout=15)
    sys.path.insert(0, str(folder))
    try:
        yield importlib.import_module("layer_talk_pb2"), importlib.import_module("layer_talk_pb2_grpc")
    finally:
        sys.path.remove(str(folder))
        for name in ("layer_talk_pb2", "layer_talk_pb2_grpc"):
            sys.modules.pop(name, None)
