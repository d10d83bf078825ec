"""From version 1 to version 2: the only module that knows both.

A block has a name in each version, its SHA-1 and its SHA-256, and neither follows from the other
without the content. So each simulation keeps an index of both names of every block that it has seen,
and the transform, which has both at hand for all, writes the one for the past simulation.

Blocks have at most 1 MiB: to hash one takes a millisecond, on the event loop; zlib goes to a thread.
"""

import asyncio
import hashlib
import os
import re
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
from previous.blockstore import blocks as v1_blocks
from previous.blockstore import blockstore_pb2 as v1
from previous.blockstore import blockstore_pb2_grpc as v1_services
from previous.blockstore import node as v1_node
from previous.blockstore import replicas as v1_replicas

import segue

from . import blockstore_pb2 as v2
from . import blockstore_pb2_grpc as v2_services
from .block import DamagedError, compress, content_of, text_of
from .blocks import Blocks
from .node import refuse_malformed
from .replicas import Context, Replicas
from .ring import position_of

NAMES = "names"


def known_names(folder: Path) -> dict[bytes, bytes]:
    """Return the index in a simulation's folder, `{SHA-1: SHA-256}`; a line that a crash cut short is left out."""
    path = folder / NAMES
    lines = path.read_text("ascii").splitlines() if path.exists() else []
    whole = (re.fullmatch("([0-9a-f]{40}) ([0-9a-f]{64})", line) for line in lines)
    return {bytes.fromhex(names[1]): bytes.fromhex(names[2]) for names in whole if names}


class Names:
    """Both names of blocks, in memory both ways and on disk as one file that only grows.

    An entry says that the names are one block's, not that the block is here.

    Args:
        folder: where the file is, or will be.

    Attributes:
        digests: `{SHA-1: SHA-256}`.
        sha1s: `{SHA-256: SHA-1}`.
    """

    def __init__(self, folder: Path) -> None:
        self.digests = known_names(folder)
        self.sha1s = {digest: sha1 for sha1, digest in self.digests.items()}
        self._file = (folder / NAMES).open("a", encoding="ascii", buffering=1)
        self._file.write("\n")  # ends a line that a crash cut short

    def add(self, sha1: bytes, digest: bytes) -> None:
        """Keep both names of a block; they survive the end of the process."""
        if sha1 not in self.digests:
            self._file.write(f"{sha1.hex()} {digest.hex()}\n")
            self.digests[sha1] = digest
            self.sha1s[digest] = sha1

    def learn(self, content: bytes) -> tuple[bytes, bytes]:
        """Keep and return both names of the block with this content: SHA-1, SHA-256."""
        sha1, digest = hashlib.sha1(content).digest(), hashlib.sha256(content).digest()
        self.add(sha1, digest)
        return sha1, digest

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def key_in_v2(sha1: bytes, digest: bytes) -> v2.Key:
    """Return version 2's key of the block with these names."""
    return v2.Key(digest=digest, position=position_of(sha1))


def transform(old: Path, new: Path, context: segue.TransformContext) -> None:
    """Check, name anew and compress each block; keep both names for the past simulation.

    Args:
        old: version 1's state, which is left as it is.
        new: an empty folder, which becomes version 2's state.
        context: `simulation` tells the SHA-256 of blocks, so that these need not be hashed again.

    Raises:
        DamagedError: the content of a block does not match its name.
    """
    known = known_names(context.simulation) if context.simulation else {}
    blocks_before, blocks = v1_blocks.Blocks(old), Blocks(new)
    blocks.open()
    with closing(Names(context.past)) as past:
        for name in blocks_before:
            before = blocks_before.path(name)
            content = before.read_bytes()
            sha1 = hashlib.sha1(content).digest()
            if sha1.hex() != name:
                raise DamagedError(
                    f"{before} is damaged, the SHA-1 of its content is {sha1.hex()}: "
                    "put another node's copy in its place, or remove it, and upgrade again"
                )
            digest = known.get(sha1) or hashlib.sha256(content).digest()
            after = blocks.path(key_in_v2(sha1, digest))
            after.parent.mkdir(exist_ok=True)
            after.write_bytes(compress(content))
            stored_unix_ns = blocks_before.stored_unix_ns(name)
            os.utime(after, ns=(stored_unix_ns, stored_unix_ns))
            past.add(sha1, digest)


class Version2(segue.FutureSimulation, v2_services.BlockStoreServicer):
    """Version 2's calls on a node that runs version 1."""

    def __init__(self, node: segue.Node, delegate: Any) -> None:
        super().__init__(node, delegate)
        self.names = Names(self.state)
        self.replicas = Replicas(node)  # speaks version 2 to them, as this simulation's channels do

    def register(self, server: Any) -> None:
        """Have `server` answer version 2's calls with this."""
        v2_services.add_BlockStoreServicer_to_server(self, server)

    async def start(self) -> None:
        """Learn the names of the blocks that are here already."""
        async for _ in self._keys():
            pass

    async def stop(self) -> None:
        """Close what is open."""
        await self.replicas.close()
        self.names.close()

    # What version 1's callers store here meanwhile.

    @segue.observes("Put")
    async def learn_of_put(self, request: v1.PutRequest, reply: v1.PutReply, context: Context) -> None:  # noqa: ARG002
        """Learn the names of a block that a client put."""
        self.names.learn(request.data)

    @segue.observes("Store")
    async def learn_of_store(self, request: v1.StoreRequest, reply: v1.StoreReply, context: Context) -> None:  # noqa: ARG002
        """Learn the names of a block that another node stored here."""
        self.names.learn(request.data)

    # For clients. A block whose names are not known here is not here: its other nodes know.

    async def Put(self, request: v2.PutRequest, context: Context) -> v2.PutReply:
        """Store a block on all its nodes."""
        await self.delegate.Put(v1.PutRequest(data=request.content), context)
        return v2.PutReply(key=key_in_v2(*self.names.learn(request.content)))

    async def Get(self, request: v2.GetRequest, context: Context) -> v2.GetReply:
        """Return a block from this node, else from one of the block's."""
        await refuse_malformed(request.key, context)
        name = self._name(request.key)
        if name is None:
            return v2.GetReply(content=await self.replicas.fetch(request.key, context))
        reply = await self.delegate.Get(v1.GetRequest(key=name), context)
        return v2.GetReply(content=reply.data)

    async def Exists(self, request: v2.ExistsRequest, context: Context) -> v2.ExistsReply:
        """Say whether a block is on any of its nodes."""
        await refuse_malformed(request.key, context)
        name = self._name(request.key)
        if name is None:
            return v2.ExistsReply(exists=await self.replicas.have(request.key, context))
        reply = await self.delegate.Has(v1.HasRequest(key=name), context)
        return v2.ExistsReply(exists=reply.found)

    # For clients and nodes.

    async def Holds(self, request: v2.HoldsRequest, context: Context) -> v2.HoldsReply:
        """Say whether a block is on this node."""
        await refuse_malformed(request.key, context)
        return v2.HoldsReply(holds=(await self._fetch(request.key, context)).found)

    async def Stat(self, request: v2.StatRequest, context: Context) -> v2.StatReply:
        """Return the sizes and the age of a block on this node; compressed, as it will be after the upgrade."""
        await refuse_malformed(request.key, context)
        block = await self._fetch(request.key, context)
        if not block.found:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no block {text_of(request.key)} on this node")
        compressed = await asyncio.to_thread(compress, block.data)
        reply = v2.StatReply(size_bytes=len(block.data), stored_bytes=len(compressed))
        reply.stored_at.FromNanoseconds(block.stored_unix_ns)
        return reply

    async def Scan(self, request: v2.ScanRequest, context: Context) -> AsyncIterator[v2.ScanReply]:  # noqa: ARG002
        """Yield the key of each block on this node."""
        async for key in self._keys():
            yield v2.ScanReply(key=key)

    # Between nodes.

    async def Store(self, request: v2.StoreRequest, context: Context) -> v2.StoreReply:
        """Keep a block on this node."""
        try:
            content = await asyncio.to_thread(content_of, request.key, request.compressed)
        except DamagedError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        name = v1_blocks.key_of(content)
        await self.delegate.Store(v1.StoreRequest(key=name, data=content), context)
        self.names.learn(content)
        return v2.StoreReply()

    async def Fetch(self, request: v2.FetchRequest, context: Context) -> v2.FetchReply:
        """Return a block from this node, or that it is not here."""
        await refuse_malformed(request.key, context)
        block = await self._fetch(request.key, context)
        if not block.found:
            return v2.FetchReply()
        return v2.FetchReply(compressed=await asyncio.to_thread(compress, block.data))

    def _name(self, key: v2.Key) -> str | None:
        """Return version 1's name of a block; None if it is not known here."""
        sha1 = self.names.sha1s.get(key.digest)
        return sha1.hex() if sha1 and position_of(sha1) == key.position else None

    async def _fetch(self, key: v2.Key, context: Context) -> v1.FetchReply:
        """Return a block from this node, or that it is not here."""
        name = self._name(key)
        if name is None:
            return v1.FetchReply(found=False)
        block: v1.FetchReply = await self.delegate.Fetch(v1.FetchRequest(key=name), context)
        return block

    async def _keys(self) -> AsyncIterator[v2.Key]:
        """Yield the key of each block on this node; one whose names are not known is read and learned."""
        async for listed in self.delegate.ListKeys(v1.ListKeysRequest(), None):
            sha1 = bytes.fromhex(listed.key)
            if sha1 not in self.names.digests:
                block = await self.delegate.Fetch(v1.FetchRequest(key=listed.key), None)
                if not block.found:
                    continue  # damaged: version 1 does not answer with it either
                self.names.learn(block.data)
                await asyncio.sleep(0)  # other calls have their turn
            yield key_in_v2(sha1, self.names.digests[sha1])


class Version1(segue.PastSimulation, v1_services.BlockStoreServicer):
    """Version 1's calls on a node that runs version 2."""

    def __init__(self, node: segue.Node, delegate: Any) -> None:
        super().__init__(node, delegate)
        self.names = Names(self.state)
        self.replicas = v1_replicas.Replicas(node)  # speaks version 1 to them, as this simulation's channels do

    def register(self, server: Any) -> None:
        """Have `server` answer version 1's calls with this."""
        v1_services.add_BlockStoreServicer_to_server(self, server)

    async def start(self) -> None:
        """Learn the names that a crash kept out of the index; the transform wrote the others."""
        async for _ in self._names():
            pass

    async def stop(self) -> None:
        """Close what is open."""
        await self.replicas.close()
        self.names.close()

    # What version 2's callers store here.

    @segue.observes("Put")
    async def learn_of_put(self, request: v2.PutRequest, reply: v2.PutReply, context: Context) -> None:  # noqa: ARG002
        """Learn the names of a block that a client put."""
        self.names.learn(request.content)

    @segue.observes("Store")
    async def learn_of_store(self, request: v2.StoreRequest, reply: v2.StoreReply, context: Context) -> None:  # noqa: ARG002
        """Learn the names of a block that another node stored here."""
        self.names.learn(await asyncio.to_thread(content_of, request.key, request.compressed))

    # For clients. A block whose names are not known here is not here: its other nodes know.

    async def Put(self, request: v1.PutRequest, context: Context) -> v1.PutReply:
        """Store a block on all its nodes."""
        await self.delegate.Put(v2.PutRequest(content=request.data), context)
        sha1, _ = self.names.learn(request.data)
        return v1.PutReply(key=sha1.hex())

    async def Get(self, request: v1.GetRequest, context: Context) -> v1.GetReply:
        """Return a block from this node, else from one of the block's."""
        await v1_node.refuse_malformed(request.key, context)
        key = self._key(request.key)
        if key is None:
            return v1.GetReply(data=await self.replicas.fetch(request.key, context))
        reply = await self.delegate.Get(v2.GetRequest(key=key), context)
        return v1.GetReply(data=reply.content)

    async def Has(self, request: v1.HasRequest, context: Context) -> v1.HasReply:
        """Say whether a block is on this node or, unless only that was asked, on another of its nodes."""
        await v1_node.refuse_malformed(request.key, context)
        key = self._key(request.key)
        if key is None:
            return v1.HasReply(found=not request.here and await self.replicas.have(request.key, context))
        if request.here:
            return v1.HasReply(found=(await self.delegate.Holds(v2.HoldsRequest(key=key), context)).holds)
        return v1.HasReply(found=(await self.delegate.Exists(v2.ExistsRequest(key=key), context)).exists)

    async def ListKeys(self, request: v1.ListKeysRequest, context: Context) -> AsyncIterator[v1.ListKeysReply]:  # noqa: ARG002
        """Yield the key of each block on this node."""
        async for name in self._names():
            yield v1.ListKeysReply(key=name)

    # Between nodes.

    async def Store(self, request: v1.StoreRequest, context: Context) -> v1.StoreReply:
        """Keep a block on this node."""
        if v1_blocks.key_of(request.data) != request.key:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"key {request.key!r}: what came with it is another block"
            )
        key = key_in_v2(*self.names.learn(request.data))
        compressed = await asyncio.to_thread(compress, request.data)
        await self.delegate.Store(v2.StoreRequest(key=key, compressed=compressed), context)
        return v1.StoreReply()

    async def Fetch(self, request: v1.FetchRequest, context: Context) -> v1.FetchReply:
        """Return a block from this node, or that it is not here."""
        await v1_node.refuse_malformed(request.key, context)
        key = self._key(request.key)
        if key is None:
            return v1.FetchReply(found=False)
        block = await self.delegate.Fetch(v2.FetchRequest(key=key), context)
        if not block.HasField("compressed"):
            return v1.FetchReply(found=False)
        data = await asyncio.to_thread(content_of, key, block.compressed)
        stat = await self.delegate.Stat(v2.StatRequest(key=key), context)
        return v1.FetchReply(found=True, data=data, stored_unix_ns=stat.stored_at.ToNanoseconds())

    def _key(self, name: str) -> v2.Key | None:
        """Return version 2's key of a block; None if it is not known here."""
        sha1 = bytes.fromhex(name)
        digest = self.names.digests.get(sha1)
        return key_in_v2(sha1, digest) if digest else None

    async def _names(self) -> AsyncIterator[str]:
        """Yield version 1's name of each block on this node; one that is not known is read and learned."""
        async for listed in self.delegate.Scan(v2.ScanRequest(), None):
            sha1 = self.names.sha1s.get(listed.key.digest)
            if sha1 is None:
                block = await self.delegate.Fetch(v2.FetchRequest(key=listed.key), None)
                if not block.HasField("compressed"):
                    continue  # damaged: version 2 does not answer with it either
                sha1, _ = self.names.learn(await asyncio.to_thread(content_of, listed.key, block.compressed))
            yield sha1.hex()
