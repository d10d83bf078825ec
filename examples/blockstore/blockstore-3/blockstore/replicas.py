"""The other nodes that a block belongs on, as one node reaches them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Any, TypeAlias, TypeVar

import grpc

import segue

from . import blockstore_pb2 as messages
from . import blockstore_pb2_grpc as services
from .access import Found, found_in
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

    async def store(self, request: messages.StoreRequest, context: Context) -> None:
        """Store a block, or a list, on its other nodes; end the call UNAVAILABLE unless all of them have it."""
        async with asyncio.TaskGroup() as group:
            stores = [
                group.create_task(self._ask(peer, self._stub(peer).Store(request, timeout=PEER_TIMEOUT_S)))
                for peer in self._others(request.key)
            ]
        failures = [result for store in stores if isinstance(result := store.result(), str)]
        if failures:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"not on all its nodes, put it again: {failures}")

    async def ask(self, key: messages.Key, *, without_content: bool) -> AsyncIterator[Found | str]:
        """Ask the block's other nodes one after the other; yield what each knows, or why it did not say."""
        for peer in self._others(key):
            yield await self._fetch(peer, key, without_content=without_content)

    async def ask_all(self, key: messages.Key, context: Context) -> Found:
        """Return what all other nodes know, without the content; end the call UNAVAILABLE unless all of them say."""
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(self._fetch(peer, key, without_content=True)) for peer in self._others(key)]
        known, failures = Found(), []
        for task in asked:
            result = task.result()
            if isinstance(result, str):
                failures.append(result)
            else:
                known = known.joined(result)
        if failures:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"not all its nodes answer, try again: {failures}")
        return known

    async def _fetch(self, peer: str, key: messages.Key, *, without_content: bool) -> Found | str:
        request = messages.FetchRequest(key=key, without_content=without_content)
        reply = await self._ask(peer, self._stub(peer).Fetch(request, timeout=PEER_TIMEOUT_S))
        return reply if isinstance(reply, str) else found_in(reply)

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
