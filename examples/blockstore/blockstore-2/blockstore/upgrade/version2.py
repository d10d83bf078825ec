"""The future simulation: version 2's calls on a node that runs version 1."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from previous.blockstore import blocks as v1_blocks
from previous.blockstore import blockstore_pb2 as v1

import segue

from .. import blockstore_pb2 as v2
from .. import blockstore_pb2_grpc as v2_services
from ..block import DamagedError, compress, content_of, text_of
from ..node import refuse_malformed
from ..replicas import Context, Replicas
from ..ring import position_of
from .names import Names, key_in_v2


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
