"""Every kind of address passes from one process to the next while new connections come, without a failed call."""

import asyncio
import json
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from segue.errors import PeerError
from segue.layer.tls import TlsFiles
from segue.local import free_ports
from segue.node.hosts import HostProcess
from segue.node.plan import HandOverMode, ReleasePlan, Stage
from segue.testing.certificates import Authority

pytestmark = pytest.mark.timeout(120)

Spawn = Callable[..., Awaitable[HostProcess]]
MakeRelease = Callable[..., ReleasePlan]

#: An object that answers by its process and what its caller has shown to be.
TELLS = {
    "import asyncio, os": "import asyncio, os, json",
    "        self.file.write(request)\n        return self.path.read_bytes()": "        if request:\n"
    "            await asyncio.sleep(float(request))\n"
    "        who = [one.decode() for one in context.peer_identities() or ()]\n"
    "        return json.dumps([os.getpid(), context.peer().partition(':')[0], who]).encode()",
}


@dataclass
class Load:
    """Callers of several addresses: each keeps one connection, or opens one for each call."""

    credentials: grpc.ChannelCredentials | None
    #: {address: what the object answered, in order}
    answers: dict[str, list[Any]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    progress: asyncio.Condition = field(default_factory=asyncio.Condition)

    def channel(self, address: str) -> grpc.aio.Channel:
        """Open a channel that shares its connection with no other."""
        options = [("grpc.use_local_subchannel_pool", 1)]
        if self.credentials is None or address.startswith("unix:"):
            return grpc.aio.insecure_channel(address, options=options)
        return grpc.aio.secure_channel(address, self.credentials, options=options)

    async def call(self, channel: Any, address: str, request: bytes = b"") -> None:
        """Make a call and note what comes of it."""
        try:
            reply = await channel.unary_unary("/notes.Notes/Say")(request, metadata=(("segue-label", "1/1"),))
        except grpc.aio.AioRpcError as error:
            self.failures.append(f"{address}: {error.code().name}: {error.details()}")
        else:
            self.answers.setdefault(address, []).append(json.loads(reply))
        async with self.progress:
            self.progress.notify_all()

    async def keep_calling(self, address: str, *, anew: bool) -> None:
        """Call until told to stop."""
        channel = self.channel(address)
        while not self.stop.is_set():
            await self.call(channel, address)
            if anew:
                await channel.close()
                channel = self.channel(address)
        await channel.close()

    async def more(self, count: int) -> None:
        """Wait until each address has answered so many more."""
        wanted = {address: len(answers) + count for address, answers in self.answers.items()}
        async with self.progress:
            await self.progress.wait_for(
                lambda: all(len(self.answers[address]) >= number for address, number in wanted.items())
            )


@asynccontextmanager
async def load_on(addresses: list[str], credentials: grpc.ChannelCredentials | None = None) -> AsyncIterator[Load]:
    """Call the addresses, all the time."""
    load = Load(credentials, answers={address: [] for address in addresses})
    async with asyncio.TaskGroup() as callers:
        for address in addresses:
            for anew in (True, True, False):
                callers.create_task(load.keep_calling(address, anew=anew))
        try:
            yield load
        finally:
            load.stop.set()


class Generations:
    """Processes of one node, one after the other."""

    def __init__(self, spawn: Spawn, stage: Stage, folder: Path, **plan: object) -> None:
        self._spawn = spawn
        self._stage = stage
        self._folder = folder
        self._plan = plan
        self._count = 0

    async def start(self) -> HostProcess:
        """Start the first process."""
        host, _ = await self._warm()
        await host.start(self._stage)
        await host.serve()
        return host

    async def replace(self, old: HostProcess) -> HostProcess:
        """Have the next process take the place of `old`, as an agent does."""
        new, peer = await self.begin_to_replace(old)
        await old.leave(peer, at_once=self._plan.get("hand_over") is HandOverMode.STOP_AND_START)
        await new.serve()
        return new

    async def begin_to_replace(self, old: HostProcess) -> tuple[HostProcess, Path]:
        """Have the next process serve, as an agent does; `old` is not told yet where its calls go."""
        new, peer = await self._warm()
        await old.quiesce(30)
        await new.start(self._stage)
        await new.serve(replacing=True)
        return new, peer

    async def _warm(self) -> tuple[HostProcess, Path]:
        self._count += 1
        name = self._folder / str(self._count)
        host = await self._spawn(control=f"{name}.control", peer=f"{name}.peer", **self._plan)
        await host.warm()
        return host, Path(f"{name}.peer")


def free_port() -> int:
    (port,) = free_ports(1)
    return port


def addresses_of(kind: str, folder: Path) -> list[str]:
    match kind:
        case "IPv4":
            return [f"127.0.0.1:{free_port()}"]
        case "IPv6":
            return [f"[::1]:{free_port()}"]
        case "all of the machine":
            return [f"0.0.0.0:{free_port()}"]
        case "Unix":
            return [f"unix:{folder}/n1.sock"]
        case _:
            return [f"127.0.0.1:{(port := free_port())}", f"[::1]:{port}", f"unix:{folder}/n1.sock"]


@pytest.fixture
def tells(make_release: MakeRelease) -> tuple[ReleasePlan, ...]:
    return (make_release(1, TELLS),)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    (tmp_path / "tls").mkdir()
    return Authority(tmp_path / "tls")


@pytest.mark.parametrize("kind", ["IPv4", "IPv6", "all of the machine", "Unix", "several"])
async def test_an_address_passes_under_load(
    kind: str, spawn: Spawn, stage: Stage, tmp_path: Path, tells: tuple[ReleasePlan, ...]
) -> None:
    """Twice, the first process still there when the third comes; at the end only the third answers."""
    addresses = addresses_of(kind, tmp_path)
    generations = Generations(
        spawn, stage, tmp_path, releases=tells, address=addresses[0], listen=tuple(addresses), max_connection_age_s=3
    )
    first = await generations.start()
    async with load_on(addresses) as load:
        await load.more(10)
        second = await generations.replace(first)
        third = await generations.replace(second)
        await load.more(30)
        await first.ended()
        await second.ended()
        await load.more(10)
    assert load.failures == []
    for address in addresses:
        assert load.answers[address][-1][0] == third.pid
        assert {pid for pid, _, _ in load.answers[address]} >= {first.pid, third.pid}
    await third.end()
    assert [
        path.name for path in tmp_path.iterdir() if path.is_socket() and path.suffix not in (".control", ".peer")
    ] == []


async def test_new_connections_come_to_the_new_process_at_once(
    spawn: Spawn, stage: Stage, tmp_path: Path, tells: tuple[ReleasePlan, ...]
) -> None:
    """And old ones stay with the old process, whose caller the new one sees as its own."""
    addresses = addresses_of("several", tmp_path)
    generations = Generations(
        spawn, stage, tmp_path, releases=tells, address=addresses[0], listen=tuple(addresses), max_connection_age_s=600
    )
    first = await generations.start()
    load = Load(None)
    kept = {address: load.channel(address) for address in addresses}
    for address, channel in kept.items():
        await load.call(channel, address)
    second = await generations.replace(first)
    for address in addresses:
        for _ in range(16):
            channel = load.channel(address)
            await load.call(channel, address)
            await channel.close()
        await load.call(kept[address], address)
    assert load.failures == []
    for address in addresses:
        scheme = "unix" if address.startswith("unix:") else "ipv6" if address.startswith("[") else "ipv4"
        assert load.answers[address] == [[first.pid, scheme, []], *[[second.pid, scheme, []]] * 17]
    for channel in kept.values():
        await channel.close()
    async with asyncio.timeout(30):
        await first.ended()


async def test_tls_passes_and_callers_stay_who_they_are(
    spawn: Spawn, stage: Stage, tmp_path: Path, tells: tuple[ReleasePlan, ...], authority: Authority
) -> None:
    """By the ports, while the certificate is replaced; the Unix socket is not TLS."""
    own, client = authority.sign("n1"), authority.sign("client", "DNS:billing")
    addresses = addresses_of("several", tmp_path)
    tls = TlsFiles(cert=str(own.cert), key=str(own.key), client_ca=str(authority.cert))
    generations = Generations(
        spawn, stage, tmp_path,
        releases=tells, address=addresses[0], listen=tuple(addresses), max_connection_age_s=3, tls=tls,
    )  # fmt: skip
    credentials = grpc.ssl_channel_credentials(
        authority.cert.read_bytes(), client.key.read_bytes(), client.cert.read_bytes()
    )
    first = await generations.start()
    async with load_on(addresses, credentials) as load:
        await load.more(5)
        second = await generations.replace(first)
        authority.sign("n1")
        await load.more(20)
        await first.ended()
        await load.more(5)
    assert load.failures == []
    for address in addresses:
        shown: list[str] = [] if address.startswith("unix:") else ["billing"]
        assert all(who == shown for _, _, who in load.answers[address])
        assert load.answers[address][-1][0] == second.pid


async def test_stop_and_start_loses_no_call_that_was_accepted(
    spawn: Spawn, stage: Stage, tmp_path: Path, tells: tuple[ReleasePlan, ...]
) -> None:
    """Calls on connections that are open wait and are answered; new connections to a port may be refused a while."""
    addresses = addresses_of("several", tmp_path)
    generations = Generations(
        spawn, stage, tmp_path, releases=tells, address=addresses[0], listen=tuple(addresses),
        max_connection_age_s=600, hand_over=HandOverMode.STOP_AND_START,
    )  # fmt: skip
    first = await generations.start()
    kept = Load(None)
    channels = [(kept.channel(address), address) for address in addresses for _ in range(4)]
    async with load_on(addresses) as load, asyncio.TaskGroup() as calls:
        await load.more(5)
        for channel, address in channels:
            await kept.call(channel, address)

        async def keep_calling(channel: grpc.aio.Channel, address: str) -> None:
            for _ in range(40):
                await kept.call(channel, address, b"0.02")

        for channel, address in channels:
            calls.create_task(keep_calling(channel, address))
        second = await generations.replace(first)
        await load.more(20)
    assert kept.failures == []
    assert all("onnect" in failure and not failure.startswith("unix:") for failure in load.failures), load.failures
    for address in addresses:
        assert load.answers[address][-1][0] == second.pid
        assert kept.answers[address][-1][0] == second.pid
    for channel, _ in channels:
        await channel.close()
    async with asyncio.timeout(30):
        await first.ended()


async def test_a_socket_that_a_killed_process_left_is_taken(
    spawn: Spawn, stage: Stage, tmp_path: Path, tells: tuple[ReleasePlan, ...]
) -> None:
    """With the permissions that the operator gave it since; and a process that ends takes it away."""
    address, path = f"unix:{tmp_path}/n1.sock", tmp_path / "n1.sock"
    generations = Generations(spawn, stage, tmp_path, releases=tells, address=address)
    first = await generations.start()
    path.chmod(0o660)
    os.kill(first.pid, 9)
    await first.ended()
    assert path.is_socket()
    second = await generations.start()
    load = Load(None)
    async with load.channel(address) as channel:
        await load.call(channel, address)
    assert load.failures == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    await second.end()
    assert not path.exists()


@pytest.mark.parametrize("kind", ["Unix", "several"])
@pytest.mark.parametrize("mode", list(HandOverMode))
async def test_a_process_that_serves_again_has_all_addresses_again(
    spawn: Spawn, stage: Stage, tmp_path: Path, tells: tuple[ReleasePlan, ...], kind: str, mode: HandOverMode
) -> None:
    """The next one had shown its own socket at the path, and died before this one was told to leave."""
    addresses = addresses_of(kind, tmp_path)
    generations = Generations(
        spawn, stage, tmp_path, releases=tells, address=addresses[0], listen=tuple(addresses), hand_over=mode
    )
    first = await generations.start()
    second, _ = await generations.begin_to_replace(first)
    os.kill(second.pid, 9)
    await second.ended()
    await first.start(stage)
    await first.serve()
    async with load_on(addresses) as load:
        await load.more(5)
    assert load.failures == []
    assert {pid for answers in load.answers.values() for pid, _, _ in answers} == {first.pid}


async def test_what_is_not_a_socket_is_not_replaced(
    spawn: Spawn, stage: Stage, tmp_path: Path, tells: tuple[ReleasePlan, ...]
) -> None:
    """Nor is a port taken then; once it is gone, the same process takes all."""
    addresses = (f"127.0.0.1:{free_port()}", f"unix:{tmp_path}/n1.sock")
    (tmp_path / "n1.sock").write_text("precious")
    host = await spawn(releases=tells, address=addresses[0], listen=addresses)
    await host.warm()
    await host.start(stage)
    with pytest.raises(PeerError, match="no socket"):
        await host.serve()
    assert (tmp_path / "n1.sock").read_text() == "precious"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(addresses[0].rpartition(":")[2])))
    (tmp_path / "n1.sock").unlink()
    await host.serve()
    assert (tmp_path / "n1.sock").is_socket()
