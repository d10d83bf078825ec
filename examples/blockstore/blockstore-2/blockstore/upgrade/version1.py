"""The past simulation: version 1's calls on a node that runs version 2."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from previous.blockstore import blocks as v1_blocks
from previous.blockstore import blockstore_pb2 as v1
from previous.blockstore import blockstore_pb2_grpc as v1_services
from previous.blockstore import node as v1_node
from previous.blockstore import replicas as v1_replicas

import segue

from .. import blockstore_pb2 as v2
from ..block import compress, content_of
from ..replicas import Context
from .names import Names, key_in_v2


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
