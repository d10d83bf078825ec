"""A node that listens at several addresses upgrades, and plain clients of each see no failed call."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from segue.layer.grpc_channel import labelled_channel
from segue.local import free_ports
from segue.model.ids import NodeId, Version
from segue.release.modules import LoadedRelease
from segue.testing.certificates import Authority
from segue.testing.rig import LIMIT_S, Rig

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(240)]

Start = Callable[[int], AbstractAsyncContextManager[Rig]]
N1 = NodeId("n1")


class Callers:
    """Plain clients of one node: at each address, some keep a connection and others open one for each call.

    Args:
        release: the release whose version they speak, loaded.
        credentials: for the ports; None if they are not TLS.
    """

    def __init__(self, release: LoadedRelease, credentials: grpc.ChannelCredentials | None) -> None:
        self._messages: Any = release.load("blockstore.blockstore_pb2")
        self._services: Any = release.load("blockstore.blockstore_pb2_grpc")
        self._credentials = credentials
        self._stop = asyncio.Event()
        #: {address: calls that were answered}
        self.answered: dict[str, int] = {}
        self.failures: list[str] = []

    @asynccontextmanager
    async def calling(self, addresses: list[str]) -> AsyncIterator[None]:
        """Call the addresses until the context is left."""
        async with asyncio.TaskGroup() as tasks:
            for address in addresses:
                self.answered[address] = 0
                for anew in (True, True, False):
                    tasks.create_task(self._keep_calling(address, anew=anew))
            try:
                yield
            finally:
                self._stop.set()

    async def more(self, count: int) -> None:
        """Wait until each address has answered so many more."""
        wanted = {address: number + count for address, number in self.answered.items()}
        async with asyncio.timeout(LIMIT_S):
            while True:
                if all(self.answered[address] >= number for address, number in wanted.items()):
                    return
                await asyncio.sleep(0.05)

    async def _keep_calling(self, address: str, *, anew: bool) -> None:
        channel = self._channel(address)
        while not self._stop.is_set():
            await self._put_and_get(channel, address)
            if anew:
                await channel.close()
                channel = self._channel(address)
        await channel.close()

    async def _put_and_get(self, channel: grpc.aio.Channel, address: str) -> None:
        stub = self._services.BlockStoreStub(channel)
        data = f"{address} {self.answered[address]}".encode()
        try:
            key = (await stub.Put(self._messages.PutRequest(data=data))).key
            reply = await stub.Get(self._messages.GetRequest(key=key))
        except grpc.aio.AioRpcError as error:
            self.failures.append(f"{address}: {error.code().name}: {error.details()}")
            await asyncio.sleep(0.05)
            return
        assert reply.data == data
        self.answered[address] += 1

    def _channel(self, address: str) -> grpc.aio.Channel:
        credentials = None if address.startswith("unix:") else self._credentials
        options = [("grpc.use_local_subchannel_pool", 1)]
        return labelled_channel(address, version=Version(1), options=options, credentials=credentials)


@pytest.fixture
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("n1")


@pytest.fixture
def release(releases: dict[int, Path]) -> Any:
    loaded = LoadedRelease(releases[1], Version(1))
    yield loaded
    loaded.unload()


async def listening_at(rig: Rig, path: Path, *options: str) -> None:
    """Start the node anew with further options, and wait for the socket at `path`, which is shown last."""
    await rig.local.end(N1)
    await rig.local.start_node(N1, *options, "--listen", f"unix:{path}")
    async with asyncio.timeout(LIMIT_S):
        while True:
            rig.local.require_all()
            if path.is_socket():
                return
            await asyncio.sleep(0.05)


async def test_ports_and_a_unix_socket_pass_with_tls(
    start: Start, releases: dict[int, Path], release: LoadedRelease, short: Path
) -> None:
    """127.0.0.1, [::1] and a Unix socket at once: through an upgrade, no call fails at any of them."""
    authority = Authority(short)
    own, client = authority.sign("n1"), authority.sign("client", "DNS:client")
    credentials = grpc.ssl_channel_credentials(
        authority.cert.read_bytes(), client.key.read_bytes(), client.cert.read_bytes()
    )
    async with start(1) as rig:
        addresses = [rig.local.members[N1], f"[::1]:{free_ports(1)[0]}", f"unix:{short}/n1.sock"]
        tls = ("--tls-cert", str(own.cert), "--tls-key", str(own.key), "--tls-client-ca", str(authority.cert))
        await listening_at(rig, short / "n1.sock", "--listen", addresses[1], *tls)
        callers = Callers(release, credentials)
        async with callers.calling(addresses):
            await callers.more(5)
            await rig.publish(releases[2], releases[1])
            await rig.until_serving(2)
            await callers.more(20)
        assert callers.failures == []
        assert (await rig.local.end(N1)) == 0
        assert not (short / "n1.sock").exists()


async def test_plain_addresses_of_both_families_pass(
    start: Start, releases: dict[int, Path], release: LoadedRelease, short: Path
) -> None:
    """The same without TLS, and a node that begins with another address than the one it is advertised by."""
    async with start(1) as rig:
        addresses = [rig.local.members[N1], f"[::1]:{free_ports(1)[0]}", f"unix:{short}/n1.sock"]
        await listening_at(rig, short / "n1.sock", "--listen", addresses[1], "--advertise", addresses[1])
        callers = Callers(release, None)
        async with callers.calling(addresses):
            await callers.more(5)
            await rig.publish(releases[2], releases[1])
            await rig.until_serving(2)
            await callers.more(20)
        assert callers.failures == []


async def test_a_node_that_stops_and_starts_loses_no_call_that_it_accepted(
    start: Start, releases: dict[int, Path], release: LoadedRelease, short: Path
) -> None:
    """It says so once; new connections may be refused for a moment; then it is in service at all its addresses."""
    async with start(1) as rig:
        addresses = [rig.local.members[N1], f"unix:{short}/n1.sock"]
        await listening_at(rig, short / "n1.sock", "--hand-over", "stop-and-start", "--max-connection-age-s", "600")
        callers = Callers(release, None)
        async with callers.calling(addresses):
            await callers.more(5)
            await rig.publish(releases[2], releases[1])
            (node,) = (await rig.until_serving(2)).nodes
            assert node.hand_over == "stop and start"
            await callers.more(20)
        refused = [failure for failure in callers.failures if "Failed to connect" in failure]
        assert callers.failures == refused
        assert not any(failure.startswith("unix:") for failure in refused)
        assert rig.local.log("n1").count("stops and starts") == 1
