"""Rule: several upgrade servers on one PostgreSQL are one, whichever is asked, and whichever of them is killed."""

import asyncio
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing

import pytest

from segue.errors import PeerError
from segue.local import free_ports
from segue.model.history import Kind
from segue.model.ids import ContentHash, NodeId
from segue.release.bundle import content_hash
from segue.server.history import Entry
from segue.server.sql import SqlStore
from segue.testing.postgresql import Postgresql
from segue.testing.server import SYSTEM, bundle_of
from segue.wire.client import UpgradeServer
from segue.wire.messages import Heartbeat, PermitAnswer, PermitRequest

AGENTS = [NodeId(f"n{number:03}") for number in range(200)]
#: Nodes that may be away at once.
LIMIT = 40
PROGRAM = """
import sys
from segue.server.app import serve
serve(sys.argv[1], host="127.0.0.1", port=int(sys.argv[2]), on_ready=lambda url: print(url, flush=True))
"""


class Server:
    """An upgrade server in a process of its own, always at one port."""

    def __init__(self, database: str) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self._database = database
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-c", PROGRAM, self._database, str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def await_ready(self) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == self.url

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()


@pytest.fixture
def servers(postgresql_server: Postgresql) -> Iterator[list[Server]]:
    # At once, on a database without tables: one of them makes these.
    database = postgresql_server.make_database("shared")
    servers = [Server(database) for _ in range(3)]
    try:
        for server in servers:
            server.await_ready()
        yield servers
    finally:
        for server in servers:
            server.kill()


async def insist(clients: list[UpgradeServer], ask: str, *args: object, **named: object) -> object:
    """Ask any of the servers until one answers, as an agent does."""
    while True:
        try:
            return await getattr(random.choice(clients), ask)(SYSTEM, *args, **named)
        except PeerError:
            await asyncio.sleep(random.uniform(0.1, 0.4))


async def go(clients: list[UpgradeServer], node: NodeId, back: list[NodeId], came_back: asyncio.Event) -> None:
    """Be an agent on its way from 1 to 2."""
    said = Heartbeat(class_name="BlockNode", version=1, address="h:1", phase="waiting")
    request = PermitRequest(class_name="BlockNode", from_version=1, to_version=2)
    await insist(clients, "heartbeat", node, said)
    while True:
        answer = await insist(clients, "ask_permit", node, request)
        assert isinstance(answer, PermitAnswer)
        if answer.permit is not None:
            break
        await asyncio.sleep(answer.retry_after_s * random.uniform(0.75, 1.25))
    await insist(clients, "return_permit", node, answer.permit)
    back.append(node)
    came_back.set()


async def stay_alive(clients: list[UpgradeServer], node: NodeId, back: list[NodeId]) -> None:
    """Report now and then, until all are back: who is silent counts as away."""
    said = Heartbeat(class_name="BlockNode", version=1, address="h:1", phase="waiting")
    while len(back) < len(AGENTS):
        version = 2 if node in back else 1
        await insist(clients, "heartbeat", node, said.model_copy(update={"version": version}))
        await asyncio.sleep(random.uniform(2, 4))


async def kill_now_and_then(servers: list[Server], back: list[NodeId], came_back: asyncio.Event) -> int:
    """Kill one server after the other, and start it again, until all nodes are back; return how often."""
    killed = 0
    while len(back) < len(AGENTS):
        target = len(back) + len(AGENTS) // 8
        while len(back) < min(target, len(AGENTS)):
            came_back.clear()
            await came_back.wait()
        server = servers[killed % len(servers)]
        server.kill()
        server.start()
        await asyncio.to_thread(server.await_ready)
        killed += 1
    return killed


def check(history: tuple[Entry, ...]) -> None:
    """Go through all that happened, in the order in which the database has it."""
    away: dict[NodeId, object] = {}
    most = 0
    granted: set[NodeId] = set()
    for number, entry in enumerate(history, start=1):
        assert entry.number == number, "something is missing"
        if entry.kind is Kind.GRANTED:
            assert entry.node is not None
            assert entry.node not in granted, "a node was answered twice, with two permits"
            granted.add(entry.node)
            away[entry.node] = entry.details["permit"]
            most = max(most, len(away))
        elif entry.kind is Kind.RETURNED:
            assert entry.node is not None
            assert away.pop(entry.node) == entry.details["permit"]
            assert not entry.details["failed"]
    assert not away
    assert granted == set(AGENTS)
    assert 1 < most <= LIMIT
    decided = [entry.at for entry in history if entry.kind in (Kind.GRANTED, Kind.RETURNED)]
    assert decided == sorted(decided), "the times are not of one clock"


@pytest.mark.end_to_end
@pytest.mark.timeout(120)
async def test_three_servers_that_are_killed_grant_exactly(
    servers: list[Server], postgresql_server: Postgresql
) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(UpgradeServer(server.url)) for server in servers]
        bundles = [bundle_of(version, schedule=f"max_unavailable = {LIMIT}") for version in (1, 2)]
        for client, bundle in zip(clients, bundles, strict=False):
            await client.publish(bundle)
        back: list[NodeId] = []
        came_back = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            killing = tasks.create_task(kill_now_and_then(servers, back, came_back))
            for node in AGENTS:
                tasks.create_task(go(clients, node, back, came_back))
                tasks.create_task(stay_alive(clients, node, back))
        assert killing.result() >= 3, "no server was killed in the middle"
        for client in clients:
            assert [await client.fetch(ContentHash(content_hash(bundle))) for bundle in bundles] == bundles
    with closing(SqlStore(postgresql_server.url("shared"))) as store:
        check(store.history(SYSTEM, limit=100_000))
