"""A ring of block store nodes in this process, on real sockets, each upgraded when a test says so."""

import hashlib
import importlib.util
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc.aio
import pytest

from segue.author import Node, TransformContext
from segue.layer.chain import Chain, Link
from segue.layer.grpc_channel import LabelledChannel, labelled_channel
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest, label_source
from segue.layer.usage import Usage
from segue.model.ids import ClassName, NodeId, SystemName, Version
from segue.model.usage import AnsweredBy
from segue.release.modules import LoadedRelease

EXAMPLE = Path(__file__).parents[2] / "examples" / "blockstore"
ONE, TWO = Version(1), Version(2)

Releases = dict[int, LoadedRelease]


@pytest.fixture(scope="session")
def example() -> Path:
    return EXAMPLE


@pytest.fixture(scope="session")
def releases() -> Iterator[Releases]:
    one = LoadedRelease(EXAMPLE / "blockstore-1", ONE)
    two = LoadedRelease(EXAMPLE / "blockstore-2", TWO, previous=one)
    yield {1: one, 2: two}
    two.unload()
    one.unload()


@pytest.fixture(scope="session")
def v1(releases: Releases) -> ModuleType:
    return releases[1].load("blockstore.blockstore_pb2")


@pytest.fixture(scope="session")
def v2(releases: Releases) -> ModuleType:
    return releases[2].load("blockstore.blockstore_pb2")


@pytest.fixture(scope="session")
def upgrade(releases: Releases) -> ModuleType:
    return releases[2].load("blockstore.upgrade")


@pytest.fixture(scope="session")
def index(releases: Releases) -> ModuleType:
    """The module of the index of names."""
    return releases[2].load("blockstore.upgrade.names")


@pytest.fixture(scope="session")
def client_module(example: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("blockstore_client", example / "client.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


MakeNode = Callable[..., Node]


@pytest.fixture
def make_node() -> MakeNode:
    """Make what an object is given; `members` is the ring, by default the node alone."""

    def make(
        state: Path,
        version: int,
        *,
        node_id: str = "n1",
        members: dict[str, str] | None = None,
        newest: Newest | None = None,
    ) -> Node:
        state.mkdir(parents=True, exist_ok=True)
        label = label_source(Version(version), newest or Newest(TWO), NodeId(node_id))
        return Node(
            system=SystemName("blockstore"),
            class_name=ClassName("BlockNode"),
            id=NodeId(node_id),
            version=Version(version),
            state=state,
            address="127.0.0.1:9001",
            config={"members": {node_id: "127.0.0.1:9001"} if members is None else members},
            open_channel=lambda target: LabelledChannel(grpc.aio.insecure_channel(target), label),
            take_report=lambda _: None,
        )

    return make


@dataclass
class Member:
    """One node of the ring: its server, its folders, and the chain that it shows."""

    id: str
    folder: Path
    releases: Releases
    make_node: MakeNode
    address: str = ""
    version: int = 1

    def __post_init__(self) -> None:
        self.usage, self.newest = Usage(), Newest(ONE)
        self.dispatch = Dispatch(usage=self.usage, newest=self.newest, on_newer=lambda _: None)
        self.server = grpc.aio.server()
        self.members: dict[str, str] = {}
        self.links: list[Link] = []

    async def listen(self) -> None:
        self.server.add_generic_rpc_handlers((self.dispatch,))
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        await self.server.start()

    async def start(self) -> None:
        """Make the object that the folders are of, and its past simulation."""
        state = self.folder / str(self.version)
        current = self._make("blockstore.node:BlockNode", state / "object", self.version)
        await current.start()
        self._set(self._link(self.version, "current", current))
        if self.version == 2:
            past = self._make("blockstore.upgrade:Version1", state / "past", 1, current)
            await past.start()
            await current.self_test()
            self._set(self._link(1, "past", past), *self.links)
        elif (state / "future").exists():
            await self.install()

    async def install(self) -> None:
        """Put the future simulation in, as a node does: first it observes, then it answers."""
        current = self.links[-1]
        state = self.folder / "1" / "future"
        future = self._make("blockstore.upgrade:Version2", state, 2, current.instance)
        self._set(current, self._link(2, "future", future, ready=False))
        await future.start()
        self._set(current, self._link(2, "future", future))

    async def upgrade(self) -> None:
        """Go from version 1 to version 2."""
        await self.dispatch.quiesce(5)
        await self.stop()
        new, past = self.folder / "2" / "object", self.folder / "2" / "past"
        new.mkdir(parents=True)
        past.mkdir()
        self.releases[2].resolve("blockstore.upgrade:transform")(
            self.folder / "1" / "object",
            new,
            TransformContext(from_version=ONE, to_version=TWO, simulation=self.folder / "1" / "future", past=past),
        )
        self.version = 2
        await self.start()
        self.dispatch.resume()

    async def stop(self) -> None:
        for link in self.links:
            instance: Any = link.instance
            await instance.stop()

    def _make(self, name: str, state: Path, version: int, *delegate: Any) -> Any:
        node = self.make_node(state, version, node_id=self.id, members=self.members, newest=self.newest)
        return self.releases[2 if "upgrade" in name else version].resolve(name)(node, *delegate)

    def _link(self, version: int, role: AnsweredBy, instance: Any, *, ready: bool = True) -> Link:
        return Link(version=Version(version), role=role, instance=instance, ready=ready)

    def _set(self, *links: Link) -> None:
        self.links = list(links)
        self.dispatch.show(Chain(tuple(links)))


class RingOfNodes:
    """All nodes, what calls them, and what a test asks about them."""

    def __init__(self, members: dict[str, Member], releases: Releases, client_module: ModuleType) -> None:
        self.members = members
        self._releases = releases
        self._module = client_module
        self._closing = AsyncExitStack()

    def client(self, version: int, *through: str) -> Any:
        """Return the example's client, which calls the named nodes only; all of them by default."""
        ids = through or tuple(self.members)
        nodes = self._module.Members(version, {name: self.members[name].address for name in ids}, random.Random(7))
        load = self._releases[version].load
        kind = {1: self._module.Client1, 2: self._module.Client2}[version]
        client = kind(nodes, load("blockstore.blockstore_pb2"), load("blockstore.blockstore_pb2_grpc"))
        self._closing.push_async_callback(client.close)
        return client

    def stub(self, version: int, node: str) -> Any:
        """Return a stub of the generated code for one node."""
        channel = labelled_channel(self.members[node].address, version=Version(version))
        self._closing.push_async_callback(channel.close)
        return self._releases[version].load("blockstore.blockstore_pb2_grpc").BlockStoreStub(channel)

    def in_order(self) -> list[str]:
        """Return the nodes' ids clockwise."""
        return sorted(self.members, key=lambda name: hashlib.sha1(name.encode()).digest()[:8])

    def replicas(self, data: bytes) -> list[str]:
        """Return where a block belongs, worked out anew."""
        position = hashlib.sha1(data).digest()[:8]
        clockwise = self.in_order()
        after = [name for name in clockwise if hashlib.sha1(name.encode()).digest()[:8] >= position]
        return [*after, *clockwise][:3]

    def block_for_each_window(self, text: str) -> list[bytes]:
        """Return blocks that, between them, belong on every three neighbours of the ring."""
        found: dict[tuple[str, ...], bytes] = {}
        number = 0
        while len(found) < len(self.members):
            data = f"{text} {number}".encode() * 20
            found.setdefault(tuple(self.replicas(data)), data)
            number += 1
        return list(found.values())

    async def close(self) -> None:
        await self._closing.aclose()
        for member in self.members.values():
            await member.stop()
            await member.server.stop(None)


StartRing = Callable[..., Awaitable[RingOfNodes]]


@pytest.fixture
async def start_ring(
    tmp_path: Path, releases: Releases, client_module: ModuleType, make_node: MakeNode
) -> AsyncIterator[StartRing]:
    """Start `count` nodes, n1, n2, ..., of version 1; or of version 2, each on a state of version 1 without blocks."""
    rings: list[RingOfNodes] = []

    async def start(count: int = 6, version: int = 1) -> RingOfNodes:
        members = {
            name: Member(name, tmp_path / name, releases, make_node) for name in (f"n{n + 1}" for n in range(count))
        }
        ring = RingOfNodes(members, releases, client_module)
        rings.append(ring)
        for member in members.values():
            await member.listen()
        for member in members.values():
            member.members = {name: other.address for name, other in members.items()}
            await member.start()
        if version == 2:
            for member in members.values():
                await member.upgrade()
        return ring

    yield start
    for ring in rings:
        await ring.close()
