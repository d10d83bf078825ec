"""A simulation knows both names of every block on its node, however the block came there and the process ended."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

StartRing = Callable[..., Awaitable[Any]]
MakeNode = Callable[..., Any]

pytestmark = pytest.mark.timeout(60)  # hundreds of calls

BLOCKS = [f"block {number}".encode() for number in range(40)]
NAMES = {hashlib.sha1(data).digest(): hashlib.sha256(data).digest() for data in BLOCKS}


class Counting:
    """Stands in front of an object of either version, keeps the keys of what is fetched and counts what is listed."""

    def __init__(self, instance: Any) -> None:
        self._instance = instance
        self.fetched: list[Any] = []
        self.listed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._instance, name)

    async def Fetch(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.fetched.append(request.key)
        return await self._instance.Fetch(request, context)

    async def Scan(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        async for reply in self._instance.Scan(request, context):
            self.listed += 1
            yield reply


@pytest.fixture
async def delegates(
    make_node: MakeNode, releases: dict[int, Any], tmp_path: Path, index: ModuleType
) -> AsyncIterator[dict[int, Counting]]:
    """An object of each version that has `BLOCKS`."""
    made = {}
    for version in (1, 2):
        node = make_node(tmp_path / f"object-{version}", version)
        made[version] = releases[version].resolve("blockstore.node:BlockNode")(node)
        await made[version].start()
    for data in BLOCKS:
        made[1].blocks.write(hashlib.sha1(data).hexdigest(), data)
        key = index.key_in_v2(hashlib.sha1(data).digest(), hashlib.sha256(data).digest())
        made[2].blocks.write(key, releases[2].resolve("blockstore.block:compress")(data))
    yield {version: Counting(instance) for version, instance in made.items()}
    for instance in made.values():
        await instance.stop()


KINDS = pytest.mark.parametrize(("kind", "below"), [("Version2", 1), ("Version1", 2)], ids=["future", "past"])


@KINDS
async def test_blocks_that_are_there_already_are_learned_at_the_start(
    make_node: MakeNode,
    upgrade: ModuleType,
    index: ModuleType,
    delegates: dict[int, Counting],
    tmp_path: Path,
    kind: str,
    below: int,
) -> None:
    """And after a restart none is read again, but for those that a crash kept out of the index."""
    node = make_node(tmp_path / "simulation", 3 - below)
    simulation = getattr(upgrade, kind)(node, delegates[below])
    await simulation.start()
    assert simulation.names.digests == NAMES
    assert len(delegates[below].fetched) == len(BLOCKS)

    delegates[below].fetched.clear()
    killed_then = getattr(upgrade, kind)(node, delegates[below])  # the one before was never stopped
    await killed_then.start()
    assert killed_then.names.digests == NAMES
    assert delegates[below].fetched == []

    file = tmp_path / "simulation" / "names"
    file.write_bytes(file.read_bytes()[:-30])
    torn = getattr(upgrade, kind)(node, delegates[below])
    await torn.start()
    assert torn.names.digests == NAMES
    assert len(delegates[below].fetched) == 1
    assert index.known_names(tmp_path / "simulation") == NAMES
    for made in (simulation, killed_then, torn):
        await made.stop()


@KINDS
async def test_the_event_loop_goes_on_while_blocks_are_learned(
    make_node: MakeNode, upgrade: ModuleType, delegates: dict[int, Counting], tmp_path: Path, kind: str, below: int
) -> None:
    """Another task has its turn after each block."""
    simulation = getattr(upgrade, kind)(make_node(tmp_path / "simulation", 3 - below), delegates[below])
    turns = 0
    async with asyncio.TaskGroup() as group:
        start = group.create_task(simulation.start())
        while not start.done():
            turns += 1
            await asyncio.sleep(0)
    assert turns >= len(BLOCKS)
    await simulation.stop()


async def test_observers_may_be_told_before_and_while_it_starts(
    make_node: MakeNode, upgrade: ModuleType, delegates: dict[int, Counting], tmp_path: Path, v1: ModuleType
) -> None:
    simulation = upgrade.Version2(make_node(tmp_path / "simulation", 2), delegates[1])
    await simulation.learn_of_put(v1.PutRequest(data=b"before"), v1.PutReply(), None)
    async with asyncio.TaskGroup() as group:
        start = group.create_task(simulation.start())
        for _ in range(10):
            await asyncio.sleep(0)
        assert not start.done()
        await simulation.learn_of_store(v1.StoreRequest(data=b"meanwhile"), v1.StoreReply(), None)
        await simulation.learn_of_store(v1.StoreRequest(data=BLOCKS[0]), v1.StoreReply(), None)
    learned = {hashlib.sha1(data).digest(): hashlib.sha256(data).digest() for data in (b"before", b"meanwhile")}
    assert simulation.names.digests == NAMES | learned
    await simulation.stop()


async def test_every_way_that_a_block_comes_to_a_node_reaches_its_simulations_index(start_ring: StartRing) -> None:
    """So neither the transform nor a restart has anything to hash: Put and Store, of both versions, on both."""
    ring = await start_ring()
    for member in ring.members.values():
        await member.install()
    upgraded = ring.in_order()[::2]
    for node in upgraded:
        await ring.members[node].upgrade()
    blocks = []
    for version in (1, 2):
        for node in ring.members:
            new = ring.block_for_each_window(f"version {version} through {node}")
            for data in new:
                await ring.client(version, node).put(data)
            blocks += new
    for node, member in ring.members.items():
        (simulation,) = (link.instance for link in member.links if link.role != "current")
        held = {hashlib.sha1(data).digest() for data in blocks if node in ring.replicas(data)}
        assert held
        assert held <= set(simulation.names.digests), (node, member.version)


async def test_a_node_restarted_in_mixed_mode_answers_as_before(start_ring: StartRing) -> None:
    """Its objects are made anew on the folders of others that were never stopped."""
    ring = await start_ring()
    for member in ring.members.values():
        await member.install()
    for node in ring.in_order()[:3]:
        await ring.members[node].upgrade()
    blocks = ring.block_for_each_window("put before the restart")
    for number, data in enumerate(blocks):
        await ring.client(1 + number % 2).put(data)
    before = [link.instance for member in ring.members.values() for link in member.links]
    for member in ring.members.values():
        await member.start()
    for version in (1, 2):
        for node in ring.members:
            client = ring.client(version, node)
            assert [await client.get(client.key_of(data)) for data in blocks] == blocks
    for instance in before:
        await instance.stop()


async def test_a_block_that_is_not_known_is_not_looked_for(
    make_node: MakeNode, upgrade: ModuleType, delegates: dict[int, Counting], tmp_path: Path, v1: ModuleType
) -> None:
    """To list and read all that is here would take long, and callers ask for blocks that nobody has."""
    simulation = upgrade.Version1(make_node(tmp_path / "simulation", 1), delegates[2])
    await simulation.start()
    delegates[2].listed = 0
    reply = await simulation.Fetch(v1.FetchRequest(key=hashlib.sha1(b"nowhere").hexdigest()), None)
    assert not reply.found
    assert delegates[2].listed == 0
    await simulation.stop()


async def test_what_version_3_puts_reaches_the_index_too(start_ring: StartRing) -> None:
    """On nodes of each version: each simulation tells the next of what it knows. Of private blocks there is no word."""
    ring = await start_ring(4)
    for node, version in zip(ring.in_order(), (1, 2, 3, 3), strict=True):
        member = ring.members[node]
        while member.version < version:
            await member.upgrade()
        while member.links[-1].version < 3:
            await member.install()
    public, private = [], []
    for node in ring.members:
        client = ring.client(3, node)
        for data in ring.block_for_each_window(f"through {node}"):
            await client.put(data)
            await client.as_user("ann").put_private(data + b" private", ["ben"])
            public.append(data)
            private.append(data + b" private")
    for node, member in ring.members.items():
        known = set(member.link(1 if member.version > 1 else 2).names.digests)
        held = {hashlib.sha1(data).digest() for data in public if node in ring.replicas(data)}
        assert held
        assert held <= known, (node, member.version)
        assert not known & {hashlib.sha1(data).digest() for data in private}
