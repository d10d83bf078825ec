"""A private block is for its owner and readers, on every node, whatever it runs; versions 1 and 2 never get it."""

import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import ModuleType
from typing import Any

import grpc
import grpc.aio
import pytest

import segue
from segue.author import TransformContext
from segue.model.ids import Version

StartRing = Callable[..., Awaitable[Any]]

pytestmark = pytest.mark.timeout(60)  # hundreds of calls

#: `{name: the version that each node runs, clockwise}`; a node that is not yet at 3 has the future simulations.
MIXTURES = {"1": (1, 1, 1, 1), "2": (2, 2, 2, 2), "3": (3, 3, 3, 3), "mixed": (1, 2, 3, 2)}


async def bring(ring: Any, versions: tuple[int, ...]) -> None:
    """Have each node run its version, with what it simulates on either side up to version 3."""
    for node, version in zip(ring.in_order(), versions, strict=True):
        member = ring.members[node]
        while member.version < version:
            await member.upgrade()
        while member.links[-1].version < 3:
            await member.install()


@pytest.fixture(params=MIXTURES)
async def ring(request: pytest.FixtureRequest, start_ring: StartRing) -> Any:
    started = await start_ring(4)
    await bring(started, MIXTURES[request.param])
    return started


class Store:
    """Version 3's calls by their names, through one node."""

    def __init__(self, ring: Any, node: str, v3: ModuleType) -> None:
        self.stub, self.v3 = ring.stub(3, node), v3
        self._client = ring.client(3, node)

    def key(self, data: bytes) -> Any:
        return self._client._key(self._client.key_of(data))

    async def put(self, data: bytes, user: str = "", readers: tuple[str, ...] | None = None) -> Any:
        access = None if readers is None else self.v3.Access(readers=readers)
        return (await self.stub.Put(self.v3.PutRequest(content=data, user=user, access=access))).key

    async def get(self, data: bytes, user: str = "") -> bytes:
        return bytes((await self.stub.Get(self.v3.GetRequest(key=self.key(data), user=user))).content)

    async def exists(self, data: bytes, user: str = "") -> bool:
        return bool((await self.stub.Exists(self.v3.ExistsRequest(key=self.key(data), user=user))).exists)

    async def set_access(self, data: bytes, user: str, *readers: str) -> None:
        access = self.v3.Access(readers=readers)
        await self.stub.SetAccess(self.v3.SetAccessRequest(key=self.key(data), user=user, access=access))

    async def access(self, data: bytes, user: str = "") -> tuple[str, dict[str, list[str]]]:
        reply = await self.stub.GetAccess(self.v3.GetAccessRequest(key=self.key(data), user=user))
        return self.v3.Kind.Name(reply.kind), {grant.owner: list(grant.access.readers) for grant in reply.grants}

    async def scan(self, user: str = "") -> list[bytes]:
        return sorted([reply.key.digest async for reply in self.stub.Scan(self.v3.ScanRequest(user=user))])


Through = Callable[[Any], Mapping[str, Store]]


@pytest.fixture
def through(v3: ModuleType) -> Through:
    """Return `{node: version 3's calls through it}`."""
    return lambda ring: {node: Store(ring, node, v3) for node in ring.members}


async def status_of(call: Awaitable[Any]) -> str:
    """Return how a call ended: Segue's reason if it gave one, else the gRPC status."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        refusal = segue.refusal_of(error)
        return refusal.reason if refusal else error.code().name
    return "OK"


async def test_its_owner_and_readers_get_it_and_others_do_not(ring: Any, through: Through) -> None:
    """Through whichever node it is put and asked for; its kind and its lists are told likewise."""
    nodes = through(ring)
    for putter in nodes:
        for data in ring.block_for_each_window(f"private through {putter}"):
            assert await nodes[putter].put(data, "ann", ("ben", "cleo")) == nodes[putter].key(data)
            for node in nodes.values():
                for user in ("ann", "ben", "cleo"):
                    assert await node.get(data, user) == data
                for user in ("", "dan", "an"):
                    assert await status_of(node.get(data, user)) == "PERMISSION_DENIED"
                    assert await status_of(node.exists(data, user)) == "PERMISSION_DENIED"
                    assert await node.access(data, user) == ("PRIVATE", {})
                assert await node.exists(data, "ben")
                assert await node.access(data, "ben") == ("PRIVATE", {"ann": ["ben", "cleo"]})


async def test_what_is_on_a_node_is_told_to_those_who_may_know(ring: Any, through: Through, v3: ModuleType) -> None:
    """By Holds, Stat and Scan."""
    nodes = through(ring)
    data, stored = b"private " * 100, len(zlib.compress(b"private " * 100, 1))
    await nodes["n1"].put(data, "ann", ("ben",))
    for name, node in nodes.items():
        key, here = node.key(data), name in ring.replicas(data)
        for user in ("ann", "ben"):
            assert (await node.stub.Holds(v3.HoldsRequest(key=key, user=user))).holds == here
            assert await node.scan(user) == [key.digest] * here
        refused = "PERMISSION_DENIED" if here else "OK"
        assert await status_of(node.stub.Holds(v3.HoldsRequest(key=key, user="dan"))) == refused
        assert await node.scan("dan") == await node.scan() == []
        stat = v3.StatRequest(key=key, user="ben")
        if here:
            reply = await node.stub.Stat(stat)
            assert (reply.size_bytes, reply.stored_bytes) == (800, stored)
            assert await status_of(node.stub.Stat(v3.StatRequest(key=key))) == "PERMISSION_DENIED"
        else:
            assert await status_of(node.stub.Stat(stat)) == "NOT_FOUND"


async def test_the_owner_changes_the_list_through_any_node(ring: Any, through: Through) -> None:
    """Each change holds at once everywhere, and to put it again is to change it; nobody else can."""
    nodes = through(ring)
    data = b"shared with one after the other"
    await nodes["n1"].put(data, "ann", ())
    for number, node in enumerate(nodes.values()):
        change = node.put(data, "ann", (f"reader {number}",)) if number % 2 else None
        await (change or node.set_access(data, "ann", f"reader {number}"))
        assert await status_of(node.set_access(data, "dan", "dan")) == "PERMISSION_DENIED"
        assert await status_of(node.set_access(data, f"reader {number}", "dan")) == "PERMISSION_DENIED"
        for asked in nodes.values():
            assert [await status_of(asked.get(data, f"reader {other}")) for other in range(number + 1)] == [
                *["PERMISSION_DENIED"] * number,
                "OK",
            ]
            assert await asked.access(data, "ann") == ("PRIVATE", {"ann": [f"reader {number}"]})
    assert await status_of(nodes["n1"].set_access(b"nowhere", "ann")) == "NOT_FOUND"
    assert await status_of(nodes["n1"].set_access(data, "")) == "INVALID_ARGUMENT"


async def test_several_may_own_one_content(ring: Any, through: Through) -> None:
    """Each with a list of their own, which the others do not see."""
    nodes = through(ring)
    data = b"found by two"
    await nodes["n1"].put(data, "ann", ("ben",))
    await nodes["n2"].put(data, "cleo", ("ben", "dan"))
    await nodes["n3"].set_access(data, "ann")
    for node in nodes.values():
        assert await node.access(data, "ann") == ("PRIVATE", {"ann": []})
        assert await node.access(data, "ben") == ("PRIVATE", {"cleo": ["ben", "dan"]})
        assert [await status_of(node.get(data, user)) for user in ("ann", "ben", "cleo", "dan", "eve")] == [
            *["OK"] * 4,
            "PERMISSION_DENIED",
        ]


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("first", ["public", "private"])
async def test_what_is_public_is_public(ring: Any, through: Through, version: int, first: str) -> None:
    """Whoever makes it so, in whichever version, before or after it was put privately."""
    nodes = through(ring)
    for number, (node, store) in enumerate(nodes.items()):
        data = f"put both ways through {node}".encode()
        if first == "public":
            await ring.client(version, node).put(data)
        await store.put(data, "ann", ("ben",))
        if first == "private":
            await ring.client(version, node).put(data)
        for asked in nodes:
            for speaks in (1, 2, 3):
                client = ring.client(speaks, asked)
                assert await client.get(client.key_of(data)) == data, (number, asked, speaks)
            assert await nodes[asked].access(data, "ann") == ("PUBLIC", {})
            assert await status_of(nodes[asked].set_access(data, "ann", "dan")) == "FAILED_PRECONDITION"
        holder = ring.replicas(data)[0]
        assert (await nodes[holder].scan("ann")).count(store.key(data).digest) == 1


async def everything_that_version_1_sees(ring: Any, node: str, data: bytes, v1: ModuleType) -> AsyncIterator[Any]:
    stub, name = ring.stub(1, node), ring.client(1).key_of(data)
    yield await status_of(stub.Get(v1.GetRequest(key=name)))
    yield (await stub.Has(v1.HasRequest(key=name))).found
    yield (await stub.Has(v1.HasRequest(key=name, here=True))).found
    yield (await stub.Fetch(v1.FetchRequest(key=name))).found
    yield [reply.key async for reply in stub.ListKeys(v1.ListKeysRequest())]


async def everything_that_version_2_sees(ring: Any, node: str, data: bytes, v2: ModuleType) -> AsyncIterator[Any]:
    stub, client = ring.stub(2, node), ring.client(2)
    position, digest = client.key_of(data).split("-")
    key = v2.Key(position=int(position, 16), digest=bytes.fromhex(digest))
    yield (await stub.Holds(v2.HoldsRequest(key=key))).holds
    yield await status_of(stub.Stat(v2.StatRequest(key=key)))
    yield (await stub.Fetch(v2.FetchRequest(key=key))).HasField("compressed")
    yield [reply.key.digest async for reply in stub.Scan(v2.ScanRequest())]


async def test_versions_1_and_2_see_nothing_of_it(ring: Any, through: Through, v1: ModuleType, v2: ModuleType) -> None:
    """Not even with metadata that names its owner: version 1 has no name for it, nodes of version 2 do not hold it."""
    store = through(ring)["n1"]
    for data in ring.block_for_each_window("private"):
        await store.put(data, "ann", ("ben",))
        for node in ring.members:
            seen = [one async for one in everything_that_version_1_sees(ring, node, data, v1)]
            assert seen == ["NOT_FOUND", False, False, False, []]
            seen = [one async for one in everything_that_version_2_sees(ring, node, data, v2)]
            assert seen == [False, "NOT_FOUND", False, []]
            assert await status_of(ring.client(1, node).get(ring.client(1).key_of(data))) == "NOT_FOUND"


async def test_version_2_is_told_that_it_is_private(ring: Any, through: Through, v2: ModuleType) -> None:
    """Get and Exists are Disallowed, for whoever cannot say who asks can be told nothing else that is true."""
    data = b"private"
    await through(ring)["n1"].put(data, "ann", ("ben",))
    for node in ring.members:
        client = ring.client(2, node)
        with pytest.raises(grpc.aio.AioRpcError, match="is private: ask in version 3") as caught:
            await client.get(client.key_of(data))
        refusal = segue.refusal_of(caught.value)
        assert refusal is not None
        assert refusal.reason == segue.RefusalReason.DISALLOWED == client.private_ends
        exists = ring.stub(2, node).Exists(v2.ExistsRequest(key=client._key(client.key_of(data))))
        assert await status_of(exists) == "DISALLOWED"


async def test_the_future_simulation_stands_in_front_of_version_2(ring: Any, through: Through, v2: ModuleType) -> None:
    """Of private blocks alone: all else, what is malformed too, is the delegate's to answer."""
    await through(ring)["n1"].put(b"private", "ann", ("ben",))
    await through(ring)["n1"].put(b"public")

    async def proceed(request: Any) -> str:
        return f"answered {request.key.digest.hex()[:8]}"

    for node, member in ring.members.items():
        if member.version == 3:
            continue
        simulation, client = member.link(3), ring.client(2, node)
        for guard, request in (
            (simulation.refuse_get, v2.GetRequest),
            (simulation.refuse_exists, v2.ExistsRequest),
        ):
            for data in (b"public", b"nowhere"):
                key = client._key(client.key_of(data))
                assert await guard(request(key=key), None, proceed) == f"answered {key.digest.hex()[:8]}"
            assert await guard(request(key=v2.Key(digest=b"no")), None, proceed) == "answered 6e6f"
            with pytest.raises(segue.Disallowed, match="is private"):
                await guard(request(key=client._key(client.key_of(b"private"))), None, proceed)


async def test_it_goes_through_every_upgrade_with_its_node(start_ring: StartRing, through: Through) -> None:
    """From the state of a simulation into the object's, while its list changes."""
    ring = await start_ring(4)
    await bring(ring, MIXTURES["1"])
    nodes = through(ring)
    blocks = ring.block_for_each_window("private since version 1")
    for data in blocks:
        await nodes["n1"].put(data, "ann", ("ben",))
    changes = 0
    for _ in range(2):
        for name in ring.in_order():
            await ring.members[name].upgrade()
            await nodes[name].set_access(blocks[0], "ann", f"change {(changes := changes + 1)}")
            for node in nodes.values():
                assert [await node.get(data, "ann") for data in blocks] == blocks
                assert await status_of(node.get(blocks[0], f"change {changes}")) == "OK"
                assert await status_of(node.get(blocks[0], f"change {changes - 1}")) == "PERMISSION_DENIED"
                assert await status_of(node.get(blocks[1], "dan")) == "PERMISSION_DENIED"
    assert {member.version for member in ring.members.values()} == {3}


async def test_a_restart_forgets_nothing(ring: Any, through: Through) -> None:
    nodes = through(ring)
    await nodes["n1"].put(b"private", "ann", ("ben",))
    before = [link.instance for member in ring.members.values() for link in member.links]
    for member in ring.members.values():
        await member.start()
    for node in nodes.values():
        assert await node.get(b"private", "ben") == b"private"
        assert await status_of(node.get(b"private", "dan")) == "PERMISSION_DENIED"
    for instance in before:
        await instance.stop()


async def test_a_node_that_lost_the_content_asks_the_others(ring: Any, through: Through) -> None:
    """And a damaged one counts as lost; the list that is here still holds."""
    nodes, data = through(ring), b"private"
    await nodes["n1"].put(data, "ann", ("ben",))
    for holder in ring.replicas(data)[:2]:
        file = ring.members[holder].link(3).private.files.path(nodes["n1"].key(data))
        file.write_bytes(b"something else")
    for node in nodes.values():
        assert await node.get(data, "ben") == data
        assert await status_of(node.get(data, "dan")) == "PERMISSION_DENIED"


async def test_a_list_is_changed_on_all_nodes_or_the_owner_is_told(ring: Any, through: Through) -> None:
    nodes, data = through(ring), b"private"
    await nodes["n1"].put(data, "ann", ("ben",))
    gone, asked = ring.replicas(data)[1], ring.replicas(data)[0]
    await ring.members[gone].server.stop(None)
    assert await status_of(nodes[asked].set_access(data, "ann", "dan")) == "UNAVAILABLE"
    assert await status_of(nodes[asked].put(data, "ann", ("dan",))) == "UNAVAILABLE"
    assert await nodes[asked].get(data, "ben") == data


def test_the_transform_hands_on_files_as_they_are(releases: Mapping[int, Any], tmp_path: Any) -> None:
    """Public blocks of the object, private ones of the future simulation; none is read, none of the old is changed."""
    old, new, simulation, past = (tmp_path / name for name in ("old", "new", "simulation", "past"))
    files = {old / "ring" / "1f" / "1f-aa.z": b"public", simulation / "private" / "2e" / "2e-bb.z": b"private"}
    files[simulation / "private" / "2e" / "2e-bb.access"] = b"list"
    files[simulation / "private-incoming" / "torn"] = b"half"
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for folder in (new, past):
        folder.mkdir()
    context = TransformContext(from_version=Version(2), to_version=Version(3), simulation=simulation, past=past)
    releases[3].resolve("blockstore.upgrade:transform")(old, new, context)
    assert {str(path.relative_to(new)): path.read_bytes() for path in new.rglob("*") if path.is_file()} == {
        "ring/1f/1f-aa.z": b"public",
        "private/2e/2e-bb.z": b"private",
        "private/2e/2e-bb.access": b"list",
    }
    assert {path: path.read_bytes() for path in files} == files
    assert list(past.iterdir()) == []
