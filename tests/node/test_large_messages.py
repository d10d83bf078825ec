"""A node's objects hear from other nodes what these may hear from it: messages up to one limit."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc.aio
import pytest

from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest
from segue.layer.usage import Usage
from segue.model.ids import Version
from segue.node.objects import Objects
from segue.node.plan import HostPlan, ReleasePlan, Stage

#: An object that asks another node as it starts, and says how much it got.
ASKING = """
import grpc

class Asking:
    def __init__(self, node):
        self.node = node

    def register(self, server):
        handlers = {"None": grpc.unary_unary_rpc_method_handler(self.none)}
        server.add_registered_method_handlers("asking.Asking", handlers)

    async def none(self, request, context):
        return request

    async def start(self):
        async with self.node.channel(self.node.config["other"]) as channel:
            self.node.report(got=len(await channel.unary_unary("/other.Node/Ask")(b"")))
"""

REPLY = bytes(8 << 20)


class Other(grpc.GenericRpcHandler):
    """Answers every call with 8 MiB."""

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        async def answer(request: bytes, context: object) -> bytes:
            return REPLY

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture
async def asking(plan: HostPlan, tmp_path: Path) -> AsyncIterator[HostPlan]:
    """The plan of a process whose object asks another node, which is there."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "asking.py").write_text(ASKING)
    release = ReleasePlan(version=Version(1), folder=str(tmp_path / "code"), object="asking:Asking")
    other = grpc.aio.server()
    other.add_generic_rpc_handlers((Other(),))
    address = f"127.0.0.1:{other.add_insecure_port('127.0.0.1:0')}"
    await other.start()
    yield replace(plan, releases=(release,), config={"other": address})
    await other.stop(None)


async def start(plan: HostPlan, stage: Stage) -> Objects:
    newest = Newest(Version(1))
    objects = Objects(plan, Dispatch(usage=Usage(), newest=newest, on_newer=lambda _: None), newest)
    objects.load()
    await objects.start(stage)
    await objects.close()
    return objects


async def test_what_the_operator_allowed(asking: HostPlan, stage: Stage) -> None:
    """An object's channel takes as much as the node's port."""
    objects = await start(replace(asking, max_message_bytes=9 << 20), stage)
    assert objects.facts == {"got": len(REPLY)}


async def test_more_than_the_operator_allowed(asking: HostPlan, stage: Stage) -> None:
    """Without a word of the operator it is what gRPC allows."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await start(asking, stage)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
