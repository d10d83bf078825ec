"""Servers of the example on loopback, and channels to them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from inspect import isawaitable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from reflection.upgrade import Version1

import segue
from segue.layer.chain import Chain, Link
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest
from segue.layer.usage import Usage
from segue.model.ids import Version

Prepare = Callable[[grpc.aio.Server], object]

#: The example's simulation does not look at its node.
_NO_NODE: Any = None


@asynccontextmanager
async def serving(prepare: Prepare) -> AsyncIterator[str]:
    server = grpc.aio.server()
    added = prepare(server)
    if isawaitable(added):
        added = await added
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
        if isinstance(added, segue.Versions):
            await added.stop()


@pytest.fixture(scope="session")
def served() -> Callable[[Prepare], AbstractAsyncContextManager[str]]:
    """Serve on a port of its own, in a `with` block, what `prepare(server)` adds to a server."""
    return serving


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[Prepare], Awaitable[str]]]:
    """Serve on a port of its own, until the test ends, what `prepare(server)` adds to a server."""
    open_servers: list[AbstractAsyncContextManager[str]] = []

    async def start(prepare: Prepare) -> str:
        open_servers.append(serving(prepare))
        return await open_servers[-1].__aenter__()

    yield start
    for server in open_servers:
        await server.__aexit__(None, None, None)


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[str], grpc.aio.Channel]]:
    """Open a channel to an address, without a label."""
    channels: list[grpc.aio.Channel] = []

    def open_channel(address: str) -> grpc.aio.Channel:
        channels.append(grpc.aio.insecure_channel(address))
        return channels[-1]

    yield open_channel
    for channel in channels:
        await channel.close()


def chain_of(current: object) -> Chain:
    past = Link(version=Version(1), role="past", instance=Version1(_NO_NODE, current))
    return Chain((past, Link(version=Version(2), role="current", instance=current)))


@pytest.fixture
def chain() -> Callable[[object], Chain]:
    """Make the chain of an object of version 2 and the past simulation over it."""
    return chain_of


@pytest.fixture(scope="session")
def adding() -> Callable[[object], Prepare]:
    """Say how an object of version 2, and the past simulation over it, is added to a server."""

    def add(current: object) -> Prepare:
        dispatch = Dispatch(usage=Usage(), newest=Newest(Version(2)), on_newer=lambda version: None)
        dispatch.show(chain_of(current))
        return lambda server: server.add_generic_rpc_handlers((dispatch,))

    return add


@pytest.fixture
def example() -> Path:
    """The example's folder."""
    return Path(__file__).resolve().parents[2] / "examples" / "reflection"
