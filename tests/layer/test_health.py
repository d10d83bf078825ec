"""The health service tells a node that upgrades from one that is down, and never waits."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from segue.layer.chain import Chain
from segue.layer.grpc_health import Health
from segue.layer.grpc_refusal import RefusalReason, refusal_of
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest
from segue.layer.usage import Usage
from segue.model.ids import Version

Serve = Callable[[Dispatch], Awaitable[str]]
Connect = Callable[..., grpc.aio.Channel]
MakeChain = Callable[..., Chain]
Until = Callable[[Callable[[], bool]], Awaitable[None]]

SERVING, NOT_SERVING, UNKNOWN = 1, 2, 3


@pytest.fixture
def health(dispatch: Dispatch) -> Health:
    return Health(dispatch)


@pytest.fixture
async def stub(dispatch: Dispatch, health: Health, serve: Serve, connect: Connect) -> Any:
    return health_pb2_grpc.HealthStub(connect(await serve(dispatch)))


async def check(stub: Any, service: str = "") -> tuple[int, dict[str, str]]:
    call = stub.Check(health_pb2.HealthCheckRequest(service=service))
    status: int = (await call).status
    return status, dict(await call.trailing_metadata())


async def test_a_pause_is_not_down(stub: Any, dispatch: Dispatch, health: Health, chain: MakeChain, kinds: Any) -> None:
    """The node and its services serve all through it; `segue.ready` says that calls wait, and each answer why."""
    assert await check(stub) == (NOT_SERVING, {"segue-phase": "starting"})
    dispatch.show(chain(kinds("v1"), kinds("v2"), current=2))
    for service in ("", "toy.Kinds", "segue.ready"):
        assert await check(stub, service) == (SERVING, {"segue-phase": "serving", "segue-version": "2"})
    await dispatch.quiesce(10)
    for service, status in {"": SERVING, "toy.Kinds": SERVING, "segue.ready": NOT_SERVING}.items():
        assert await check(stub, service) == (status, {"segue-phase": "upgrading", "segue-version": "2"})
    assert dispatch.in_flight.parked == 0
    dispatch.resume()
    assert await check(stub, "segue.ready") == (SERVING, {"segue-phase": "serving", "segue-version": "2"})
    health.stop()
    for service in ("", "toy.Kinds", "segue.ready"):
        assert await check(stub, service) == (NOT_SERVING, {"segue-phase": "stopping", "segue-version": "2"})


async def test_a_call_while_streams_end(
    stub: Any, dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """From then on the node upgrades."""
    dispatch.show(chain(kinds("v1"), current=1))
    channel: Any = connect(await serve(dispatch), 1)
    stream = channel.unary_stream("/toy.Kinds/Down")(b"hang")
    assert await stream.read() == b"v1:h"
    async with asyncio.TaskGroup() as group:
        quiet = group.create_task(dispatch.quiesce(5, streams_s=20))
        await asyncio.sleep(0)
        assert (await check(stub, "segue.ready"))[0] == NOT_SERVING
        assert not quiet.done()
        stream.cancel()


async def test_a_node_on_stand_by_is_ready(stub: Any, dispatch: Dispatch, chain: MakeChain, kinds: Any) -> None:
    """It lets the first call in; that somebody asks how it is, is not a call."""
    told: list[bool] = []
    dispatch.show(chain(kinds("v1"), current=1))
    dispatch.stand_by(lambda: told.append(True))
    assert (await check(stub, "segue.ready"))[0] == SERVING
    assert not told


async def test_an_unknown_service(stub: Any, dispatch: Dispatch, chain: MakeChain, kinds: Any) -> None:
    """It is said to be none, in a pause, too."""
    dispatch.show(chain(kinds("v1"), current=1))
    for _ in range(2):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await check(stub, "toy.Other")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        await dispatch.quiesce(10)


async def test_a_list(stub: Any, dispatch: Dispatch, chain: MakeChain, kinds: Any) -> None:
    """It has all that can be asked for."""
    dispatch.show(chain(kinds("v1"), current=1))
    await dispatch.quiesce(10)
    listed = await stub.List(health_pb2.HealthListRequest())
    assert {name: one.status for name, one in listed.statuses.items()} == {
        "": SERVING,
        "toy.Kinds": SERVING,
        "segue.ready": NOT_SERVING,
    }


async def hear_out(watch: Any) -> None:
    """Hear that the node is down, until the call ends: gRPC leaves that out where the end follows at once."""
    while True:
        assert (await watch.read()).status == NOT_SERVING


async def test_whoever_watches_is_told_of_changes(
    stub: Any, dispatch: Dispatch, health: Health, chain: MakeChain, kinds: Any
) -> None:
    """And of nothing else; it does not keep the node from going quiet."""
    dispatch.show(chain(kinds("v1"), current=1))
    ready = stub.Watch(health_pb2.HealthCheckRequest(service="segue.ready"))
    other = stub.Watch(health_pb2.HealthCheckRequest(service="toy.Other"))
    whole = stub.Watch(health_pb2.HealthCheckRequest())
    assert [(await watch.read()).status for watch in (ready, other, whole)] == [SERVING, UNKNOWN, SERVING]
    await dispatch.quiesce(10)
    assert (await ready.read()).status == NOT_SERVING
    dispatch.resume()
    assert (await ready.read()).status == SERVING
    health.stop()
    for watch in (ready, whole):
        with pytest.raises(grpc.aio.AioRpcError, match="stops: watch again"):
            await hear_out(watch)


async def test_a_process_that_was_replaced(
    stub: Any, dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """Whoever watches it is sent to the new one, which answers; while that cannot be reached, the old one does."""
    new = Dispatch(usage=Usage(), newest=Newest(Version(1)), on_newer=lambda _: None)
    Health(new)
    new.show(chain(kinds("v1"), kinds("v2"), current=2))
    dispatch.show(chain(kinds("v1"), current=1))
    watch = stub.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == SERVING
    await dispatch.quiesce(10)
    dispatch.forward(connect("127.0.0.1:1"))
    assert await check(stub) == (SERVING, {"segue-phase": "leaving", "segue-version": "1"})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await watch.read()
    refusal = refusal_of(caught.value)
    assert refusal is not None
    assert refusal.reason is RefusalReason.NODE_UPGRADING
    channel = connect(await serve(new))
    dispatch.forward(channel)
    await channel.channel_ready()
    assert await check(stub, "segue.ready") == (SERVING, {"segue-phase": "serving", "segue-version": "2"})
    watch = stub.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == SERVING
    assert dispatch.in_flight.forwarded == 1
    watch.cancel()


class OwnHealth(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # generated without types
    """A health service of the author's."""

    def register(self, server: Any) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(self, server)

    async def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)


async def test_an_authors_health_service_answers(stub: Any, dispatch: Dispatch, chain: MakeChain, until: Until) -> None:
    """It is a service as any, and waits in a pause."""
    dispatch.show(chain(OwnHealth(), current=1))
    assert (await check(stub))[0] == UNKNOWN
    await dispatch.quiesce(10)
    call = stub.Check(health_pb2.HealthCheckRequest())
    await until(lambda: dispatch.in_flight.parked == 1)
    dispatch.resume()
    assert (await call).status == UNKNOWN
