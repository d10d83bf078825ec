"""A node goes quiet: calls inside end, calls that come wait, and two nodes never wait for each other."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
import pytest

from segue.layer.chain import Chain
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest
from segue.layer.usage import Usage
from segue.model.ids import Version

Serve = Callable[[Dispatch], Awaitable[str]]
Connect = Callable[..., grpc.aio.Channel]
MakeChain = Callable[..., Chain]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


async def test_a_quiet_node_has_no_call_inside(
    dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """Clients' calls end first, then nodes' calls, which are answered as long as a client's call is inside."""
    current = kinds("v1")
    dispatch.show(chain(current, current=1))
    address = await serve(dispatch)
    client: Any = connect(address, 1).unary_unary("/toy.Kinds/Unary")
    node: Any = connect(address, 1, node="n2").unary_unary("/toy.Kinds/Unary")
    inside = client(b"hang")
    await until(lambda: dispatch.in_flight.clients == 1)
    async with asyncio.TaskGroup() as group:
        quiet = group.create_task(dispatch.quiesce(5))
        await asyncio.sleep(0)
        later = client(b"later")
        await until(lambda: dispatch.in_flight.parked == 1)
        assert await node(b"x") == b"v1:x"
        assert not quiet.done()
        current.release.set()
    assert await inside == b"v1:hang"
    assert (dispatch.in_flight.clients, dispatch.in_flight.nodes) == (0, 0)
    from_node = node(b"y")
    await until(lambda: dispatch.in_flight.parked == 2)
    dispatch.resume()
    assert [await later, await from_node] == [b"v1:later", b"v1:y"]


async def test_a_node_does_not_get_quiet_in_time(
    dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """It says how many are inside; the gates stay closed until calls resume; a second try may succeed."""
    current = kinds("v1")
    dispatch.show(chain(current, current=1))
    client: Any = connect(await serve(dispatch), 1).unary_unary("/toy.Kinds/Unary")
    await client(b"before")
    inside = client(b"hang")
    await until(lambda: dispatch.in_flight.clients == 1)
    with pytest.raises(TimeoutError, match="1 calls of clients and 0 of nodes are still inside"):
        await dispatch.quiesce(0.02)
    later = client(b"later")
    await until(lambda: dispatch.in_flight.parked == 1)
    current.release.set()
    assert await inside == b"v1:hang"
    await dispatch.quiesce(1)
    await dispatch.quiesce(1)
    assert dispatch.in_flight.parked == 1
    dispatch.resume()
    assert await later == b"v1:later"


class Calling:
    """An object whose `Ask` asks the other node's `Tell`, once `go` is set; no `Tell` ends before both nodes tell."""

    def __init__(self, both_tell: asyncio.Barrier) -> None:
        self.go = asyncio.Event()
        self.other: Any = None
        self.both_tell = both_tell

    def register(self, server: grpc.aio.Server) -> None:
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Ask": grpc.unary_unary_rpc_method_handler(self.ask),
            "Tell": grpc.unary_unary_rpc_method_handler(self.tell),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("toy.Calling", handlers),))

    async def ask(self, request: bytes, context: Any) -> bytes:
        await self.go.wait()
        reply: bytes = await self.other.unary_unary("/toy.Calling/Tell")(request)
        return reply

    async def tell(self, request: bytes, context: Any) -> bytes:
        await self.both_tell.wait()
        return request


async def test_two_nodes_that_call_each_other_get_quiet(
    serve: Serve, connect: Connect, chain: MakeChain, until: Until
) -> None:
    """Each has a client's call inside that needs the other; both go quiet at once, and both finish."""
    both_tell = asyncio.Barrier(2)
    objects = [Calling(both_tell), Calling(both_tell)]
    nodes = [Dispatch(usage=Usage(), newest=Newest(Version(1)), on_newer=lambda _: None) for _ in objects]
    addresses = []
    for node, instance in zip(nodes, objects, strict=True):
        node.show(chain(instance, current=1))
        addresses.append(await serve(node))
    for mine, other in ((0, 1), (1, 0)):
        objects[mine].other = connect(addresses[other], 1, node=f"n{mine}")
    clients: list[Any] = [connect(address, 1) for address in addresses]
    asking = [client.unary_unary("/toy.Calling/Ask")(b"x") for client in clients]
    await until(lambda: all(node.in_flight.clients == 1 for node in nodes))
    async with asyncio.TaskGroup() as group:
        for node in nodes:
            group.create_task(node.quiesce(5))
        await asyncio.sleep(0)
        for instance in objects:
            instance.go.set()
    assert [await call for call in asking] == [b"x", b"x"]
    assert all(node.in_flight.clients == node.in_flight.nodes == 0 for node in nodes)
