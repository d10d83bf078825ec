"""The past simulation: version 2's calls on a node that runs version 3."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
from previous.blockstore import blockstore_pb2 as v2
from previous.blockstore import blockstore_pb2_grpc as v2_services
from previous.blockstore import node as v2_node

import segue

from .. import blockstore_pb2 as v3
from ..block import content_of, text_of
from ..replicas import Context
from .keys import disallowed, key_in_v2, key_in_v3


class Version2(segue.PastSimulation, v2_services.BlockStoreServicer):
    """Version 2's calls on a node that runs version 3: public blocks only, put and read by nobody in particular."""

    def register(self, server: Any) -> None:
        """Have `server` answer version 2's calls with this."""
        v2_services.add_BlockStoreServicer_to_server(self, server)

    # What version 3's callers store here. This has no use for it, but version 1's simulation keeps an index.

    @segue.observes("Put")
    async def tell_of_put(self, request: v3.PutRequest, reply: v3.PutReply, context: Context) -> None:
        """Say that a client put a public block."""
        if not request.HasField("access"):
            put = v2.PutRequest(content=request.content), v2.PutReply(key=key_in_v2(reply.key))
            await self.tell("Put", *put, context)

    @segue.observes("Store")
    async def tell_of_store(self, request: v3.StoreRequest, reply: v3.StoreReply, context: Context) -> None:  # noqa: ARG002
        """Say that another node stored a public block here."""
        if not request.HasField("grant"):
            stored = v2.StoreRequest(key=key_in_v2(request.key), compressed=request.compressed)
            await self.tell("Store", stored, v2.StoreReply(), context)

    # For clients.

    async def Put(self, request: v2.PutRequest, context: Context) -> v2.PutReply:
        """Store a block on all its nodes."""
        reply = await self.delegate.Put(v3.PutRequest(content=request.content), context)
        return v2.PutReply(key=key_in_v2(reply.key))

    async def Get(self, request: v2.GetRequest, context: Context) -> v2.GetReply:
        """Return a block from this node, else from one of the block's."""
        await v2_node.refuse_malformed(request.key, context)
        key = key_in_v3(request.key)
        block = await self.delegate.Fetch(v3.FetchRequest(key=key), context)
        if block.kind == v3.PUBLIC:
            return v2.GetReply(content=await asyncio.to_thread(content_of, key, block.compressed))
        if not await self._exists(key, context):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no node has block {text_of(key)}")
        # From here on it is read in vain only if its nodes lost it: what is public stays so.
        return v2.GetReply(content=(await self.delegate.Get(v3.GetRequest(key=key), context)).content)

    async def Exists(self, request: v2.ExistsRequest, context: Context) -> v2.ExistsReply:
        """Say whether a block is on any of its nodes."""
        await v2_node.refuse_malformed(request.key, context)
        return v2.ExistsReply(exists=await self._exists(key_in_v3(request.key), context))

    async def _exists(self, key: v3.Key, context: Context) -> bool:
        """Say whether there is such a public block.

        It asks in a way that is never refused, as a refusal of the delegate would have ended the call.

        Raises:
            Disallowed: there is a private one.
        """
        kind = (await self.delegate.GetAccess(v3.GetAccessRequest(key=key), context)).kind
        if kind == v3.PRIVATE:
            raise disallowed(key)
        return bool(kind == v3.PUBLIC)

    # For clients and nodes. Private blocks are none of theirs.

    async def Holds(self, request: v2.HoldsRequest, context: Context) -> v2.HoldsReply:
        """Say whether a block is on this node."""
        await v2_node.refuse_malformed(request.key, context)
        return v2.HoldsReply(holds=await self._holds(key_in_v3(request.key), context))

    async def Stat(self, request: v2.StatRequest, context: Context) -> v2.StatReply:
        """Return the sizes and the age of a block on this node."""
        await v2_node.refuse_malformed(request.key, context)
        key = key_in_v3(request.key)
        if not await self._holds(key, context):
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no block {text_of(key)} on this node")
        stat = await self.delegate.Stat(v3.StatRequest(key=key), context)
        return segue.convert(stat, v2.StatReply)

    async def Scan(self, request: v2.ScanRequest, context: Context) -> AsyncIterator[v2.ScanReply]:  # noqa: ARG002
        """Yield the key of each block on this node."""
        async for listed in self.delegate.Scan(v3.ScanRequest(), context):
            yield v2.ScanReply(key=key_in_v2(listed.key))

    async def _holds(self, key: v3.Key, context: Context) -> bool:
        block = await self.delegate.Fetch(v3.FetchRequest(key=key, without_content=True), context)
        return bool(block.kind == v3.PUBLIC)

    # Between nodes.

    async def Store(self, request: v2.StoreRequest, context: Context) -> v2.StoreReply:
        """Keep a block on this node."""
        stored = v3.StoreRequest(key=key_in_v3(request.key), compressed=request.compressed)
        await self.delegate.Store(stored, context)
        return v2.StoreReply()

    async def Fetch(self, request: v2.FetchRequest, context: Context) -> v2.FetchReply:
        """Return a block from this node, or that it is not here."""
        await v2_node.refuse_malformed(request.key, context)
        block = await self.delegate.Fetch(v3.FetchRequest(key=key_in_v3(request.key)), context)
        return v2.FetchReply(compressed=block.compressed) if block.kind == v3.PUBLIC else v2.FetchReply()
