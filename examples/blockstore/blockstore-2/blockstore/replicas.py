"""The other nodes that a block belongs on, as one node reaches them."""

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, TypeAlias, TypeVar

import grpc

import segue

from . import blockstore_pb2 as messages
from . import blockstore_pb2_grpc as services
from .block import DamagedError, content_of, text_of
from .ring import Ring

#: How long to wait for a node that is there but does not answer: far longer than one is away to upgrade.
PEER_TIMEOUT_S = 60

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Reply = TypeVar("Reply")


class Replicas:
    """Asks a block's other nodes, over one channel to each that is kept until `close`.

    Args:
        node: the node that asks; `config["members"]` are all nodes, `{"n1": "127.0.0.1:9001", ...}`.

    Raises:
        ValueError: the configuration has no members, or this node is not one of them.
    """

    def __init__(self, node: segue.Node) -> None:
        members: Mapping[str, str] = node.config.get("members", {})
        if node.id not in members:
            raise ValueError(
                f"node {node.id} is not among the members {sorted(members)}: "
                f'give each node the same table, [members] with a line {node.id} = "{node.address}"'
            )
        self._node = node
        self._members = members
        self._ring = Ring(members)
        self._channels: dict[str, grpc.aio.Channel] = {}

    async def close(self) -> None:
        """Close the channels."""
        while self._channels:
            _, channel = self._channels.popitem()
            await channel.close()

    def include_me(self, key: messages.Key) -> bool:
        """Say whether the block belongs on the node that asks."""
        return self._node.id in self._ring.replicas(key.position)

    async def store(self, key: messages.Key, compressed: bytes, context: Context) -> None:
        """Store a block on its other nodes; end the call UNAVAILABLE unless all of them have it."""
        request = messages.StoreRequest(key=key, compressed=compressed)
        async with asyncio.TaskGroup() as group:
            stores = [
                group.create_task(self._ask(peer, self._stub(peer).Store(request, timeout=PEER_TIMEOUT_S)))
                for peer in self._others(key)
            ]
        failures = [result for store in stores if isinstance(result := store.result(), str)]
        if failures:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"not on all its nodes, put it again: {failures}")

    async def fetch(self, key: messages.Key, context: Context) -> bytes:
        """Return a block's content from one of its other nodes; end the call NOT_FOUND if none has it."""
        failures = []
        for peer in self._others(key):
            request = messages.FetchRequest(key=key)
            reply = await self._ask(peer, self._stub(peer).Fetch(request, timeout=PEER_TIMEOUT_S))
            if isinstance(reply, str):
                failures.append(reply)
            elif reply.HasField("compressed"):
                try:
                    return await asyncio.to_thread(content_of, key, reply.compressed)
                except DamagedError as error:
                    failures.append(f"{peer}: {error}")
        if failures:
            return await context.abort(grpc.StatusCode.UNAVAILABLE, f"cannot reach block {text_of(key)}: {failures}")
        return await context.abort(grpc.StatusCode.NOT_FOUND, f"no node has block {text_of(key)}")

    async def have(self, key: messages.Key, context: Context) -> bool:
        """Say whether one of the block's other nodes has it."""
        failures = []
        for peer in self._others(key):
            request = messages.HoldsRequest(key=key)
            reply = await self._ask(peer, self._stub(peer).Holds(request, timeout=PEER_TIMEOUT_S))
            if isinstance(reply, str):
                failures.append(reply)
            elif reply.holds:
                return True
        if failures:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"cannot reach block {text_of(key)}: {failures}")
        return False

    def _others(self, key: messages.Key) -> list[str]:
        return [member for member in self._ring.replicas(key.position) if member != self._node.id]

    def _stub(self, peer: str) -> Any:
        if peer not in self._channels:
            self._channels[peer] = self._node.channel(self._members[peer])
        return services.BlockStoreStub(self._channels[peer])

    async def _ask(self, peer: str, call: Awaitable[Reply]) -> Reply | str:
        """Return the peer's reply; if it gave none, why."""
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            return f"{peer}: {error.code().name}, {error.details()}"
