"""The object that a node hosts: it keeps its own blocks, and answers clients for the whole ring."""

from collections.abc import AsyncIterator
from typing import Any

import grpc

import segue

from . import blockstore_pb2 as messages
from . import blockstore_pb2_grpc as services
from .blocks import MAX_BLOCK_BYTES, Blocks, is_key, key_of
from .replicas import Context, Replicas


async def refuse_malformed(key: str, context: Context) -> None:
    """End the call INVALID_ARGUMENT unless `key` has the form of a key."""
    if not is_key(key):
        await context.abort(
            grpc.StatusCode.INVALID_ARGUMENT, f"key {key!r}: give the 40 hexadecimal digits that Put returned"
        )


class BlockNode(services.BlockStoreServicer):
    """A node of the store, in version 1.

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

    async def stop(self) -> None:
        """Close what is open; no call comes after this."""
        await self.replicas.close()

    # For clients.

    async def Put(self, request: messages.PutRequest, context: Context) -> messages.PutReply:
        """Store a block on all its nodes."""
        if len(request.data) > MAX_BLOCK_BYTES:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"{len(request.data)} bytes: a block has at most {MAX_BLOCK_BYTES}, so put it in pieces",
            )
        key = key_of(request.data)
        if self.replicas.include_me(key):
            self.blocks.write(key, request.data)
        await self.replicas.store(key, request.data, context)
        return messages.PutReply(key=key)

    async def Get(self, request: messages.GetRequest, context: Context) -> messages.GetReply:
        """Return a block from this node, else from one of the block's."""
        await refuse_malformed(request.key, context)
        data = self.blocks.read(request.key)
        if data is None:
            data = await self.replicas.fetch(request.key, context)
        return messages.GetReply(data=data)

    async def Has(self, request: messages.HasRequest, context: Context) -> messages.HasReply:
        """Say whether a block is on this node or, unless only that was asked, on another of its nodes."""
        await refuse_malformed(request.key, context)
        found = self.blocks.read(request.key) is not None
        if not found and not request.here:
            found = await self.replicas.have(request.key, context)
        return messages.HasReply(found=found)

    async def ListKeys(
        self,
        request: messages.ListKeysRequest,  # noqa: ARG002 - it has no fields
        context: Context,  # noqa: ARG002 - as gRPC calls it
    ) -> AsyncIterator[messages.ListKeysReply]:
        """Yield the key of each block on this node."""
        for key in self.blocks:
            yield messages.ListKeysReply(key=key)

    # Between nodes.

    async def Store(self, request: messages.StoreRequest, context: Context) -> messages.StoreReply:
        """Keep a block on this node."""
        if key_of(request.data) != request.key:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, f"key {request.key!r}: what came with it is another block"
            )
        self.blocks.write(request.key, request.data)
        return messages.StoreReply()

    async def Fetch(self, request: messages.FetchRequest, context: Context) -> messages.FetchReply:
        """Return a block from this node, or that it is not here."""
        await refuse_malformed(request.key, context)
        data = self.blocks.read(request.key)
        if data is None:
            return messages.FetchReply(found=False)
        return messages.FetchReply(found=True, data=data, stored_unix_ns=self.blocks.stored_unix_ns(request.key))
