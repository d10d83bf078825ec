"""Nodes whose observed calls call each other do not wait for each other for ever."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import grpc
import grpc.aio

from segue.author import FutureSimulation, observes
from segue.layer.chain import Chain, Link
from segue.layer.grpc_delegate import Delegate
from segue.layer.grpc_node_channel import node_channel
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest, label_source
from segue.layer.usage import Usage
from segue.model.ids import NodeId, Version

Serve = Callable[[Dispatch], Awaitable[str]]
Connect = Callable[..., grpc.aio.Channel]

CALLS = 40


class Replica:
    """Puts a text here and at the other node, which both take by `Store`."""

    def __init__(self) -> None:
        self.stored: list[bytes] = []
        self.other: Any = None

    def register(self, server: Any) -> None:
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Put": grpc.unary_unary_rpc_method_handler(self.Put),
            "Store": grpc.unary_unary_rpc_method_handler(self.Store),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("toy.Replica", handlers),))

    async def Put(self, request: bytes, context: Any) -> bytes:  # noqa: N802
        self.stored.append(request)
        reply: bytes = await self.other(request)
        return reply

    async def Store(self, request: bytes, context: Any) -> bytes:  # noqa: N802
        self.stored.append(request)
        return b"stored"


class Following(FutureSimulation):
    """Version 2: keeps account of what version 1's callers and nodes store."""

    def __init__(self, delegate: Any) -> None:
        self.delegate = delegate
        self.told: list[bytes] = []

    def register(self, server: Any) -> None:
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "New": grpc.unary_unary_rpc_method_handler(self.New),
            "Store": grpc.unary_unary_rpc_method_handler(self.Store),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("toy.Replica", handlers),))

    @observes("Put")
    async def put(self, request: bytes, reply: bytes, context: Any) -> None:
        self.told.append(request)

    @observes("Store")
    async def store(self, request: bytes, reply: bytes, context: Any) -> None:
        self.told.append(request)

    async def New(self, request: bytes, context: Any) -> bytes:  # noqa: N802
        reply: bytes = await self.delegate.Put(request, context)
        self.told.append(request)
        return reply

    async def Store(self, request: bytes, context: Any) -> bytes:  # noqa: N802
        reply: bytes = await self.delegate.Store(request, context)
        self.told.append(request)
        return reply


def dispatch_of(replica: Replica) -> tuple[Dispatch, Following]:
    """Make a node of version 1 that simulates version 2."""
    view = Delegate(replica)
    following = Following(view)
    dispatch = Dispatch(usage=Usage(), newest=Newest(Version(2)), on_newer=lambda _: None)
    dispatch.show(
        Chain(
            (
                Link(version=Version(1), role="current", instance=replica),
                Link(version=Version(2), role="future", instance=following, delegate=view),
            )
        )
    )
    return dispatch, following


async def test_two_nodes_that_store_at_each_other(serve: Serve, connect: Connect) -> None:
    """Each observed Put at one node waits for an observed Store at the other, both ways at once."""
    replicas = Replica(), Replica()
    nodes = [dispatch_of(replica) for replica in replicas]
    addresses = [await serve(dispatch) for dispatch, _ in nodes]
    label = partial(label_source, Version(1), Newest(Version(2)))
    channels = [node_channel(address, label(NodeId(f"n{number}"))) for number, address in enumerate(addresses)]
    for replica, channel in zip(replicas, reversed(channels), strict=True):
        replica.other = channel.unary_unary("/toy.Replica/Store")
    try:
        async with asyncio.timeout(15), asyncio.TaskGroup() as group:
            for number in range(CALLS):
                version, method = ((1, "Put"), (2, "New"))[number // 2 % 2]
                client: Any = connect(addresses[number % 2], version).unary_unary(f"/toy.Replica/{method}")
                group.create_task(_done(client(str(number).encode())))
    finally:
        for channel in channels:
            await channel.close()
    everything = sorted(str(number).encode() for number in range(CALLS))
    for replica, (_, following) in zip(replicas, nodes, strict=True):
        assert sorted(replica.stored) == everything
        assert sorted(following.told) == everything


async def _done(call: Any) -> None:
    assert await call == b"stored"
