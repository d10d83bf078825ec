"""The object that a node hosts: it keeps its own blocks, and answers clients for the whole ring.

Work on blocks (files, zlib, hashes) goes to a thread: to compress the largest takes 10 ms, for which
no other call should wait.
"""

import asyncio
from collections.abc import AsyncIterator
from itertools import islice
from typing import Any

import grpc

import segue

from . import blockstore_pb2 as messages
from . import blockstore_pb2_grpc as services
from .block import MAX_BLOCK_BYTES, DamagedError, compress, content_of, key_of, text_of
from .blocks import Blocks
from .replicas import Context, Replicas

#: Blocks that a node reads back before it serves.
SELF_TEST_BLOCKS = 10


async def refuse_malformed(key: messages.Key, context: Context) -> None:
    """End the call INVALID_ARGUMENT unless `key` has the form of a key."""
    if len(key.digest) != 32:
        await context.abort(
            grpc.StatusCode.INVALID_ARGUMENT,
            f"key with a digest of {len(key.digest)} bytes: give the key that Put returned, its digest has 32",
        )


class BlockNode(services.BlockStoreServicer):
    """A node of the store, in version 2.

    Args:
        node: the node that hosts this; `config["members"]` are all nodes of the ring.
    """

    def __init__(self, node: segue.Node) -> None:
        self.blocks = Blocks(node.state)
        self.replicas = Replicas(node)

    def register(self, server: Any) -> None:
        """Have `server` answer the store's calls with this."""
        services.add_BlockStoreServicer_to_server(self, server)

    async def start(self) -> None:
        """Get ready to answer."""
        self.blocks.open()

    async def self_test(self) -> None:
        """Read some blocks back.

        Raises:
            DamagedError: one of them is not what its key says.
        """
        for key in islice(self.blocks, SELF_TEST_BLOCKS):
            if await asyncio.to_thread(self.blocks.read, key) is None:
                raise DamagedError(f"{self.blocks.path(key)} does not hold the block that it names")

    async def stop(self) -> None:
        """Close what is open; no call comes after this."""
        await self.replicas.close()

    # For clients.

    async def Put(self, request: messages.PutRequest, context: Context) -> messages.PutReply:
        """Store a block on all its nodes."""
        if len(request.content) > MAX_BLOCK_BYTES:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"{len(request.content)} bytes: a block has at most {MAX_BLOCK_BYTES}, so put it in pieces",
            )
        key = key_of(request.content)
        compressed = await asyncio.to_thread(compress, request.content)
        if self.replicas.include_me(key):
            await asyncio.to_thread(self.blocks.write, key, compressed)
        await self.replicas.store(key, compressed, context)
        return messages.PutReply(key=key)

    async def Get(self, request: messages.GetRequest, context: Context) -> messages.GetReply:
        """Return a block from this node, else from one of the block's."""
        await refuse_malformed(request.key, context)
        block = await asyncio.to_thread(self.blocks.read, request.key)
        if block is None:
            return messages.GetReply(content=await self.replicas.fetch(request.key, context))
        content, _ = block
        return messages.GetReply(content=content)

    async def Exists(self, request: messages.ExistsRequest, context: Context) -> messages.ExistsReply:
        """Say whether a block is on any of its nodes."""
        await refuse_malformed(request.key, context)
        here = await asyncio.to_thread(self.blocks.read, request.key) is not None
        return messages.ExistsReply(exists=here or await self.replicas.have(request.key, context))

    # For clients and nodes.

    async def Holds(self, request: messages.HoldsRequest, context: Context) -> messages.HoldsReply:
        """Say whether a block is on this node."""
        await refuse_malformed(request.key, context)
        return messages.HoldsReply(holds=await asyncio.to_thread(self.blocks.read, request.key) is not None)

    async def Stat(self, request: messages.StatRequest, context: Context) -> messages.StatReply:
        """Return the sizes and the age of a block on this node."""
        await refuse_malformed(request.key, context)
        block = await asyncio.to_thread(self.blocks.read, request.key)
        if block is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no block {text_of(request.key)} on this node")
        content, compressed = block
        reply = messages.StatReply(size_bytes=len(content), stored_bytes=len(compressed))
        reply.stored_at.FromNanoseconds(self.blocks.stored_unix_ns(request.key))
        return reply

    async def Scan(
        self,
        request: messages.ScanRequest,  # noqa: ARG002 - it has no fields
        context: Context,  # noqa: ARG002 - as gRPC calls it
    ) -> AsyncIterator[messages.ScanReply]:
        """Yield the key of each block on this node."""
        for key in self.blocks:
            yield messages.ScanReply(key=key)

    # Between nodes.

    async def Store(self, request: messages.StoreRequest, context: Context) -> messages.StoreReply:
        """Keep a block on this node."""
        try:
            await asyncio.to_thread(content_of, request.key, request.compressed)
        except DamagedError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        await asyncio.to_thread(self.blocks.write, request.key, request.compressed)
        return messages.StoreReply()

    async def Fetch(self, request: messages.FetchRequest, context: Context) -> messages.FetchReply:
        """Return a block from this node, or that it is not here."""
        await refuse_malformed(request.key, context)
        block = await asyncio.to_thread(self.blocks.read, request.key)
        if block is None:
            return messages.FetchReply()
        _, compressed = block
        return messages.FetchReply(compressed=compressed)
