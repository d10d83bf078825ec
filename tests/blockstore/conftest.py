"""A ring of block store nodes in this process, on real sockets, each upgraded when a test says so."""

import hashlib
import importlib.util
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc.aio
import pytest

from segue.author import Node, TransformContext
from segue.layer.chain import Chain, Link
from segue.layer.grpc_channel import LabelledChannel, labelled_channel
from segue.layer.grpc_delegate import Delegate
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest, label_source
from segue.layer.usage import Usage
from segue.model.ids import ClassName, NodeId, SystemName, Version
from segue.model.usage import AnsweredBy
from segue.release.modules import LoadedRelease

EXAMPLE = Path(__file__).parents[2] / "examples" / "blockstore"
VERSIONS = (Version(1), Version(2), Version(3))

Releases = dict[int, LoadedRelease]


@pytest.fixture(scope="session")
def example() -> Path:
    return EXAMPLE


@pytest.fixture(scope="session")
def releases() -> Iterator[Releases]:
    loaded: Releases = {}
    for version in VERSIONS:
        loaded[version] = LoadedRelease(EXAMPLE / f"blockstore-{version}", version, previous=loaded.get(version - 1))
    yield loaded
    for version in reversed(VERSIONS):
        loaded[version].unload()


@pytest.fixture(scope="session")
def v1(releases: Releases) -> ModuleType:
    return releases[1].load("blockstore.blockstore_pb2")


@pytest.fixture(scope="session")
def v2(releases: Releases) -> ModuleType:
    return releases[2].load("blockstore.blockstore_pb2")


@pytest.fixture(scope="session")
def v3(releases: Releases) -> ModuleType:
    return releases[3].load("blockstore.blockstore_pb2")


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
        label = label_source(Version(version), newest or Newest(VERSIONS[-1]), NodeId(node_id))
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
        self.usage, self.newest = Usage(), Newest(VERSIONS[0])
        self.dispatch = Dispatch(usage=self.usage, newest=self.newest, on_newer=lambda _: None)
        self.server = grpc.aio.server()
        self.members: dict[str, str] = {}
        self.links: list[Link] = []

    async def listen(self) -> None:
        self.server.add_generic_rpc_handlers((self.dispatch,))
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        await self.server.start()

    async def start(self) -> None:
        """Make the object that the folders are of, its past simulations, and the future ones that were installed."""
        current: Any = self.releases[self.version].resolve("blockstore.node:BlockNode")(
            self._node(self.version, self._state(self.version) / "object")
        )
        await current.start()
        self._set(Link(version=Version(self.version), role="current", instance=current))
        for release in range(self.version, 1, -1):
            past = self._simulation("past", release - 1, release, self._state(release) / "past", self.links[0])
            self._set(past, *self.links)
            await self.link(release - 1).start()
        if self.version > 1:
            await current.self_test()
        while self._future(self.links[-1].version + 1).exists():
            await self.install()

    async def install(self) -> None:
        """Put the next future simulation in, as a node does: first it observes, then it answers."""
        version = self.links[-1].version + 1
        links = self.links
        future = self._simulation("future", version, version, self._future(version), links[-1])
        self._set(*links, replace(future, ready=False))
        await self.link(version).start()
        self._set(*links, future)

    async def upgrade(self) -> None:
        """Go to the next version."""
        before, after = Version(self.version), Version(self.version + 1)
        await self.dispatch.quiesce(5)
        await self.stop()
        new, past, future = self._state(after) / "object", self._state(after) / "past", self._future(after)
        new.mkdir(parents=True)
        past.mkdir()
        self.releases[after].resolve("blockstore.upgrade:transform")(
            self._state(before) / "object",
            new,
            TransformContext(
                from_version=before, to_version=after, simulation=future if future.exists() else None, past=past
            ),
        )
        self.version = after
        await self.start()
        self.dispatch.resume()

    async def stop(self) -> None:
        for link in reversed(self.links):
            instance: Any = link.instance
            await instance.stop()

    def link(self, version: int) -> Any:
        """Return the object that answers a version."""
        return next(link.instance for link in self.links if link.version == version)

    def _state(self, version: int) -> Path:
        return self.folder / str(version)

    def _future(self, version: int) -> Path:
        return self.folder / "future" / str(version)

    def _node(self, version: int, state: Path) -> Node:
        return self.make_node(state, version, node_id=self.id, members=self.members, newest=self.newest)

    def _simulation(self, role: AnsweredBy, version: int, release: int, state: Path, below: Link) -> Link:
        """Make the simulation of `version` that `release` brought, over the object `below`."""
        view = Delegate(below.instance)
        instance = self.releases[release].resolve(f"blockstore.upgrade:Version{version}")(
            self._node(version, state), view
        )
        return Link(version=Version(version), role=role, instance=instance, delegate=view)

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
        client = self._module.KINDS[version](
            nodes, load("blockstore.blockstore_pb2"), load("blockstore.blockstore_pb2_grpc")
        )
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
    """Start `count` nodes, n1, n2, ..., of version 1; or of a later one, upgraded from a version 1 without blocks."""
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
        for _ in range(1, version):
            for member in members.values():
                await member.upgrade()
        return ring

    yield start
    for ring in rings:
        await ring.close()
