"""Systems of real processes: the block store on loopback, and callers of both its versions in the test's process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from segue.cli import app_of
from segue.layer.grpc_channel import labelled_channel
from segue.local import LocalSettings
from segue.model.ids import ClassName, SystemName, Version
from segue.release.modules import LoadedRelease
from segue.testing.rig import Rig, rigged

BLOCKSTORE = Path(__file__).parents[2] / "examples" / "blockstore"


@pytest.fixture(scope="session")
def releases() -> dict[int, Path]:
    """The folders of the block store's releases: `{version: folder}`."""
    return {1: BLOCKSTORE / "blockstore-1", 2: BLOCKSTORE / "blockstore-2"}


@pytest.fixture
def start(tmp_path: Path, releases: dict[int, Path]) -> Callable[[int], AbstractAsyncContextManager[Rig]]:
    """Starts a block store of so many nodes on version 1."""

    def start_nodes(nodes: int) -> AbstractAsyncContextManager[Rig]:
        settings = LocalSettings(
            system=SystemName("blockstore"),
            class_name=ClassName("BlockNode"),
            nodes=nodes,
            max_connection_age_s=2,
            poll_s=0.2,
        )
        return rigged(tmp_path / "system", settings, releases[1])

    return start_nodes


class Caller:
    """A plain client of one version, on one node: no retries, no waiting for a connection.

    Args:
        version: the version that it speaks.
        messages: the module of its messages.
        stub: the store's stub on a labelled channel.
    """

    def __init__(self, version: int, messages: Any, stub: Any) -> None:
        self._version = version
        self._messages = messages
        self._stub = stub

    async def put(self, data: bytes) -> Any:
        """Put a block, and return its key."""
        field = "data" if self._version == 1 else "content"
        return (await self._stub.Put(self._messages.PutRequest(**{field: data}))).key

    async def get(self, key: Any) -> bytes:
        """Return the block of that key."""
        reply = await self._stub.Get(self._messages.GetRequest(key=key))
        return bytes(reply.data if self._version == 1 else reply.content)


@pytest.fixture
def calling(releases: dict[int, Path]) -> Iterator[Callable[[int, str], AbstractAsyncContextManager[Caller]]]:
    """Opens a caller of a version to an address."""
    loaded = {version: LoadedRelease(folder, Version(version)) for version, folder in releases.items()}

    @asynccontextmanager
    async def call(version: int, address: str) -> AsyncIterator[Caller]:
        messages = loaded[version].load("blockstore.blockstore_pb2")
        services = loaded[version].load("blockstore.blockstore_pb2_grpc")
        async with labelled_channel(address, version=Version(version)) as channel:
            yield Caller(version, messages, services.BlockStoreStub(channel))

    yield call
    for release in loaded.values():
        release.unload()


#: Runs a command of `segue` with these arguments, and returns what it printed.
Segue = Callable[..., Awaitable[str]]


@pytest.fixture
def segue() -> Segue:
    """Runs `segue` in this process, in a terminal that is wide enough for every line."""

    async def run(*arguments: str) -> str:
        ended = await asyncio.to_thread(CliRunner().invoke, app_of(), arguments, env={"COLUMNS": "1000"})
        if ended.exception:
            raise ended.exception
        return ended.output

    return run
