"""No client of v1alpha can tell grpcio-reflection's own server from a v1 object with the past simulation over it."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import grpc.aio
from grpc_reflection.v1alpha import reflection as grpcio
from grpc_reflection.v1alpha import reflection_pb2 as v1alpha
from grpc_reflection.v1alpha import reflection_pb2_grpc as v1alpha_services
from hypothesis import given, settings
from hypothesis import strategies as st
from reflection.enable import enable_reflection
from reflection.node import Reflection
from reflection.upgrade import V1ALPHA_SERVICE
from shop import shop_pb2

from segue.layer.chain import Chain, Link
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest
from segue.layer.usage import Usage
from segue.model.ids import Version

Prepare = Callable[[grpc.aio.Server], object]
Served = Callable[[Prepare], AbstractAsyncContextManager[str]]

SHOP = shop_pb2.DESCRIPTOR.services_by_name["Shop"].full_name
KNOWN = [SHOP, "shop.Item", "shop.Shop.Price", "shop.origin", "shop/shop.proto", "shop/items.proto", V1ALPHA_SERVICE]
NAMES = st.sampled_from(KNOWN) | st.text(max_size=5)
REQUESTS = st.one_of(
    st.builds(v1alpha.ServerReflectionRequest, host=st.text(max_size=3), file_by_filename=NAMES),
    st.builds(v1alpha.ServerReflectionRequest, host=st.text(max_size=3)),
    st.builds(v1alpha.ServerReflectionRequest, list_services=st.text(max_size=3)),
    st.builds(v1alpha.ServerReflectionRequest, file_containing_symbol=NAMES),
    st.builds(v1alpha.ServerReflectionRequest, all_extension_numbers_of_type=NAMES),
    st.builds(
        v1alpha.ServerReflectionRequest,
        file_containing_extension=st.builds(
            v1alpha.ExtensionRequest,
            containing_type=NAMES,
            extension_number=st.sampled_from([100, 120, 150]) | st.integers(0, 2**29 - 1),
        ),
    ),
)


async def answers(address: str, requests: list[v1alpha.ServerReflectionRequest]) -> list[bytes]:
    async def all_requests() -> AsyncIterator[v1alpha.ServerReflectionRequest]:
        for request in requests:
            yield request

    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = v1alpha_services.ServerReflectionStub(channel)
        return [
            reply.SerializeToString(deterministic=True) async for reply in stub.ServerReflectionInfo(all_requests())
        ]


@settings(max_examples=40, deadline=None)
@given(requests=st.lists(REQUESTS, max_size=6))
async def test_answers_are_the_same(served: Served, requests: list[v1alpha.ServerReflectionRequest]) -> None:
    """Byte for byte, whatever is asked."""
    async with (
        served(lambda server: grpcio.enable_server_reflection([SHOP, V1ALPHA_SERVICE], server)) as before,
        served(lambda server: enable_reflection(server, [SHOP])) as after,
    ):
        assert await answers(after, requests) == await answers(before, requests)


class Before(grpcio.aio.ReflectionServicer):
    """Version 1's object: grpcio-reflection's own servicer."""

    def register(self, server: Any) -> None:
        v1alpha_services.add_ServerReflectionServicer_to_server(self, server)


async def test_a_stream_stays_where_it_began(
    serve: Callable[[Prepare], Awaitable[str]],
    connect: Callable[[str], Any],
    chain: Callable[[object], Chain],
) -> None:
    """A stream that was open when the object changed goes on, as one does that began afterwards, with equal answers."""
    usage = Usage()
    dispatch = Dispatch(usage=usage, newest=Newest(Version(1)), on_newer=lambda version: None)
    before: Any = Before
    dispatch.show(Chain((Link(version=Version(1), role="current", instance=before([SHOP])),)))
    stub: Any = v1alpha_services.ServerReflectionStub(
        connect(await serve(lambda server: server.add_generic_rpc_handlers((dispatch,))))
    )
    request = v1alpha.ServerReflectionRequest(file_containing_symbol=SHOP)

    async def ask(stream: Any) -> Any:
        await stream.write(request)
        return await stream.read()

    old = stub.ServerReflectionInfo()
    first = await ask(old)

    dispatch.show(chain(Reflection([SHOP])))
    new = stub.ServerReflectionInfo()
    assert await ask(new) == await ask(old) == first
    for stream in (old, new):
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
    assert {(key.answered_by, count) for key, count in usage.counts().items()} == {("current", 1), ("past", 1)}
