"""A block is on the next three nodes of the ring, in every version, and any node answers for all of it."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.release.modules import LoadedRelease

StartRing = Callable[..., Awaitable[Any]]
Releases = dict[int, LoadedRelease]
EACH = pytest.mark.parametrize("version", [1, 2, 3])


def files_of(ring: Any, node: str, version: int) -> list[Path]:
    folder = ring.members[node].folder / str(version) / "object" / ("blocks" if version == 1 else "ring")
    return [path for path in folder.rglob("*") if path.is_file()]


@EACH
async def test_a_block_is_stored_on_its_three_nodes_and_no_other(start_ring: StartRing, version: int) -> None:
    ring = await start_ring(version=version)
    data = b"anything"
    outsider = next(node for node in ring.members if node not in ring.replicas(data))
    await ring.client(version, outsider).put(data)
    assert {node for node in ring.members if files_of(ring, node, version)} == set(ring.replicas(data))


@EACH
async def test_with_fewer_than_three_nodes_a_block_is_on_all(start_ring: StartRing, version: int) -> None:
    ring = await start_ring(2, version=version)
    client = ring.client(version)
    key = await client.put(b"anything")
    assert [len(files_of(ring, node, version)) for node in ring.members] == [1, 1]
    assert await client.get(key) == b"anything"


@given(members=st.sets(st.text(min_size=1), min_size=1, max_size=9), position=st.integers(0, 2**64 - 1))
def test_all_versions_agree_on_a_blocks_nodes(members: set[str], position: int, releases: Releases) -> None:
    """Else blocks would have to move between nodes in mixed mode."""
    one, *others = (releases[version].load("blockstore.ring").Ring(members).replicas(position) for version in releases)
    assert others == [one, one]
    assert len(set(one)) == min(3, len(members))


@EACH
async def test_a_block_that_one_node_lost_comes_from_another(start_ring: StartRing, version: int) -> None:
    """And a damaged one counts as lost: nobody is given content that does not match its key."""
    ring = await start_ring(version=version)
    client = ring.client(version, ring.replicas(b"anything")[0])
    key = await client.put(b"anything")
    for node in ring.replicas(b"anything")[:2]:
        (file,) = files_of(ring, node, version)
        file.write_bytes(b"something else")
    assert await client.get(key) == b"anything"
    await client.put(b"anything")
    last = ring.replicas(b"anything")[2]
    files_of(ring, last, version)[0].unlink()
    assert await ring.client(version, last).get(key) == b"anything"


@EACH
async def test_what_is_nowhere_is_not_found(start_ring: StartRing, version: int) -> None:
    ring = await start_ring(3, version=version)
    client = ring.client(version)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await client.get(client.key_of(b"never put"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert client.key_of(b"never put") in str(caught.value.details())


@EACH
async def test_a_node_that_is_gone_is_named_and_is_no_proof_that_a_block_is_nowhere(
    start_ring: StartRing, version: int
) -> None:
    ring = await start_ring(3, version=version)
    client = ring.client(version, "n1", "n2")
    key = await client.put(b"put while all were there")
    await ring.members["n3"].server.stop(None)
    assert await client.get(key) == b"put while all were there"
    for call in (client.put(b"more"), client.get(client.key_of(b"never put"))):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "n3" in str(caught.value.details())


@pytest.mark.parametrize("speaks", [1, 2, 3])
@EACH
async def test_a_block_beyond_1_mib_is_refused(start_ring: StartRing, version: int, speaks: int) -> None:
    ring = await start_ring(3, version=version)
    for member in ring.members.values():
        for _ in range(version, 3):
            await member.install()
    client = ring.client(speaks)
    largest = bytes(range(256)) * 4096
    assert await client.get(await client.put(largest)) == largest
    with pytest.raises(grpc.aio.AioRpcError, match="1048577 bytes: a block has at most 1048576") as caught:
        await client.put(largest + b"!")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


@EACH
async def test_what_is_no_key_is_refused(
    start_ring: StartRing, version: int, v1: ModuleType, v2: ModuleType, v3: ModuleType
) -> None:
    """By objects and simulations alike; a key that is a path leads nowhere."""
    ring = await start_ring(1, version=version)
    for _ in range(version, 3):
        await ring.members["n1"].install()
    one, two, three = (ring.stub(speaks, "n1") for speaks in (1, 2, 3))
    secret = ring.members["n1"].folder / "secret"
    secret.write_bytes(b"secret")
    bad, worse = v2.Key(digest=b"short", position=7), v3.Key(digest=b"short", position=7)
    for call in (
        one.Get(v1.GetRequest(key=str(secret))),
        one.Has(v1.HasRequest(key="../secret")),
        one.Fetch(v1.FetchRequest(key="A" * 40)),
        one.Store(v1.StoreRequest(key="0" * 40, data=b"not that")),
        two.Get(v2.GetRequest(key=bad)),
        two.Exists(v2.ExistsRequest(key=bad)),
        two.Holds(v2.HoldsRequest(key=bad)),
        two.Stat(v2.StatRequest(key=bad)),
        two.Fetch(v2.FetchRequest(key=bad)),
        two.Store(v2.StoreRequest(key=v2.Key(digest=b"0" * 32), compressed=b"not zlib")),
        three.Get(v3.GetRequest(key=worse, user="ann")),
        three.Exists(v3.ExistsRequest(key=worse)),
        three.GetAccess(v3.GetAccessRequest(key=worse)),
        three.SetAccess(v3.SetAccessRequest(key=worse, user="ann")),
        three.Holds(v3.HoldsRequest(key=worse)),
        three.Stat(v3.StatRequest(key=worse)),
        three.Fetch(v3.FetchRequest(key=worse)),
        three.Store(v3.StoreRequest(key=v3.Key(digest=b"0" * 32), compressed=b"not zlib")),
        three.Store(v3.StoreRequest(key=v3.Key(digest=b"0" * 32))),
        three.Put(v3.PutRequest(content=b"x", access=v3.Access(readers=["ben"]))),
        three.Put(v3.PutRequest(content=b"x", user="ann", access=v3.Access(readers=["ben", ""]))),
        three.Put(v3.PutRequest(content=b"x", user="ann", access=v3.Access(readers=["ben"] * 1001))),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT, call


@EACH
def test_a_node_that_is_no_member_is_told_what_to_configure(
    make_node: Callable[..., Any], releases: Releases, tmp_path: Path, version: int
) -> None:
    node = make_node(tmp_path, version, node_id="n9", members={"n1": "127.0.0.1:1"})
    with pytest.raises(ValueError, match=r"node n9 is not among the members \['n1'\]: give each node .*\[members\]"):
        releases[version].resolve("blockstore.node:BlockNode")(node)
