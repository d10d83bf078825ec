"""Whichever versions the client, the node it calls and the block's nodes are of, every block can be put and got."""

from collections.abc import Awaitable, Callable
from itertools import product
from types import ModuleType
from typing import Any

import pytest

StartRing = Callable[..., Awaitable[Any]]

pytestmark = pytest.mark.timeout(60)  # thousands of calls


async def put_on_all(ring: Any, text: str, versions: tuple[int, ...] = (1, 2)) -> list[bytes]:
    """Put a block for each three neighbours, by a client of each version, through each node."""
    put = []
    for version, node in product(versions, ring.members):
        client = ring.client(version, node)
        for data in ring.block_for_each_window(f"{text}, version {version} through {node}"):
            assert await client.put(data) == client.key_of(data)
            put.append(data)
    return put


async def check_all(ring: Any, blocks: list[bytes], versions: tuple[int, ...] = (1, 2)) -> None:
    """Get every block by a client of each version through each node."""
    for version, node in product(versions, ring.members):
        client = ring.client(version, node)
        for data in blocks:
            assert await client.get(client.key_of(data)) == data, (version, node, data[:60])


async def test_every_block_is_there_for_everybody_at_every_stage(start_ring: StartRing) -> None:
    """Blocks put before, while future simulations are installed, while half the nodes are upgraded, and after.

    The upgraded nodes are neighbours, so that a block's three nodes are of every mixture of versions.
    """
    ring = await start_ring()
    first, second = ring.in_order()[:3], ring.in_order()[3:]
    blocks = await put_on_all(ring, "all of version 1", versions=(1,))
    await check_all(ring, blocks[::15], versions=(1,))

    for member in ring.members.values():
        await member.install()
    blocks += await put_on_all(ring, "future simulations")
    await check_all(ring, blocks[::15])

    for node in first:
        await ring.members[node].upgrade()
    blocks += (mixed := await put_on_all(ring, "mixed"))
    mixtures = {tuple(ring.members[node].version for node in ring.replicas(data)) for data in mixed}
    assert mixtures == {(2, 2, 2), (2, 2, 1), (2, 1, 1), (1, 1, 1), (1, 1, 2), (1, 2, 2)}
    await check_all(ring, mixed)
    await check_all(ring, blocks[::15])

    for node in second:
        await ring.members[node].upgrade()
    blocks += await put_on_all(ring, "all of version 2")
    await check_all(ring, blocks[::15])


async def test_simulations_answer_nodes_of_the_other_version(start_ring: StartRing) -> None:
    """Otherwise mixed mode would have been no more than clients that happen to call their own kind."""
    ring = await start_ring()
    for member in ring.members.values():
        await member.install()
    for node in ring.in_order()[:3]:
        await ring.members[node].upgrade()
    await check_all(ring, await put_on_all(ring, "mixed"))
    answered = {
        (key.answered_by, key.from_node, key.method.rpartition("/")[2])
        for member in ring.members.values()
        for key in member.usage.counts()
        if key.outcome == "OK"
    }
    assert answered >= set(product(("past", "future"), (True,), ("Store", "Fetch")))
    assert answered >= set(product(("past", "future"), (False,), ("Put", "Get")))


async def test_what_version_1_puts_meanwhile_is_readable_by_version_2_on_every_node(start_ring: StartRing) -> None:
    """Also on nodes that neither took the Put nor hold the block, and so do not know its other name."""
    ring = await start_ring()
    for member in ring.members.values():
        await member.install()
    data = b"put by version 1 after the future simulation indexed all there was"
    others = [node for node in ring.members if node not in ring.replicas(data)]
    await ring.client(1, others[0]).put(data)
    for node in ring.members:
        client = ring.client(2, node)
        assert await client.get(client.key_of(data)) == data


async def test_what_is_on_a_node_is_the_same_to_both_versions_before_and_after(
    start_ring: StartRing, v1: ModuleType, v2: ModuleType
) -> None:
    """Has, ListKeys, Exists, Holds, Scan and Stat of one node do not tell whether it has upgraded."""
    ring = await start_ring()
    blocks = await put_on_all(ring, "some", versions=(1,))
    for member in ring.members.values():
        await member.install()
    speakers = {version: ring.client(version) for version in (1, 2)}

    def key(data: bytes) -> Any:
        position, digest = speakers[2].key_of(data).split("-")
        return v2.Key(position=int(position, 16), digest=bytes.fromhex(digest))

    async def seen(node: str) -> dict[str, Any]:
        one, two = ring.stub(1, node), ring.stub(2, node)
        name = speakers[1].key_of
        stats = [await two.Stat(v2.StatRequest(key=key(data))) for data in blocks if node in ring.replicas(data)]
        return {
            "ListKeys": sorted([reply.key async for reply in one.ListKeys(v1.ListKeysRequest())]),
            "Scan": sorted([reply.key.digest async for reply in two.Scan(v2.ScanRequest())]),
            "Has here": [(await one.Has(v1.HasRequest(key=name(data), here=True))).found for data in blocks],
            "Has": [(await one.Has(v1.HasRequest(key=name(data)))).found for data in [*blocks, b"not there"]],
            "Holds": [(await two.Holds(v2.HoldsRequest(key=key(data)))).holds for data in blocks],
            "Exists": [(await two.Exists(v2.ExistsRequest(key=key(data)))).exists for data in [*blocks, b"not there"]],
            "Stat": [stat.SerializeToString(deterministic=True) for stat in stats],
            "Fetch": [
                (await one.Fetch(v1.FetchRequest(key=name(data)))).stored_unix_ns
                for data in blocks
                if node in ring.replicas(data)
            ],
        }

    node = ring.in_order()[0]
    before = await seen(node)
    await ring.members[node].upgrade()
    assert await seen(node) == before
    held = [node in ring.replicas(data) for data in blocks]
    assert before["Has here"] == before["Holds"] == held
    assert before["Has"] == before["Exists"] == [True] * len(blocks) + [False]
    assert before["ListKeys"] == sorted(
        speakers[1].key_of(data) for data, here in zip(blocks, held, strict=True) if here
    )
    assert len(before["Stat"]) == len(before["Scan"]) == sum(held)


async def test_three_versions_at_once(start_ring: StartRing) -> None:
    """Chains of three releases on every node: two future simulations, one of each, two past ones.

    Blocks put by each version at each stage are there for all others, at that stage and after.
    """
    ring = await start_ring(4)
    stages = ring.in_order()
    blocks = await put_on_all(ring, "all of version 1", versions=(1,))
    for member in ring.members.values():
        await member.install()
        await member.install()
    for steps in ((), stages[:1], stages[:2], stages[1:], stages[2:]):
        for node in steps:
            await ring.members[node].upgrade()
        mixture = "-".join(str(ring.members[node].version) for node in stages)
        blocks += (mixed := await put_on_all(ring, f"nodes at {mixture}", versions=(1, 2, 3)))
        await check_all(ring, mixed, versions=(1, 2, 3))
    assert mixture == "3-3-3-3"
    await check_all(ring, blocks[::7], versions=(1, 2, 3))
