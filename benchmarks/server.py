"""One null server in a process of its own: `python -m benchmarks.server VARIANT`. It says its port and serves."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from segue.author import PastSimulation
from segue.layer.chain import Chain, Link
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest
from segue.layer.usage import Usage
from segue.model.ids import Version

METHOD = "/bench.Null/Call"


class Null:
    """An object whose one method gives back what it got."""

    async def call(self, request: bytes, _context: object) -> bytes:
        """Give back the request."""
        return request

    def register(self, server: grpc.aio.Server) -> None:
        """Register as generated code does."""
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Call": grpc.unary_unary_rpc_method_handler(self.call)
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Null", handlers),))
        server.add_registered_method_handlers("bench.Null", handlers)


class NullBefore(PastSimulation, Null):
    """Version 1 over a version 2 object: the call is delegated."""

    def __init__(self, delegate: Null) -> None:
        self.delegate: Null = delegate

    async def call(self, request: bytes, context: object) -> bytes:
        """Have the delegate give back the request."""
        return await self.delegate.call(request, context)


class Bare(grpc.GenericRpcHandler):
    """What one would write by hand without the layer."""

    def __init__(self) -> None:
        self._handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            METHOD: grpc.unary_unary_rpc_method_handler(Null().call)
        }

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[Any, Any] | None":
        """Say who answers."""
        return self._handlers.get(handler_call_details.method)


def _layer(chain: Chain) -> Dispatch:
    dispatch = Dispatch(usage=Usage(), newest=Newest(chain.current.version), on_newer=lambda _: None)
    dispatch.show(chain)
    return dispatch


def _same_version() -> grpc.GenericRpcHandler:
    return _layer(Chain((Link(version=Version(1), role="current", instance=Null()),)))


def _one_simulation() -> grpc.GenericRpcHandler:
    current = Null()
    past = Link(version=Version(1), role="past", instance=NullBefore(current))
    return _layer(Chain((past, Link(version=Version(2), role="current", instance=current))))


VARIANTS: dict[str, Callable[[], grpc.GenericRpcHandler]] = {
    "bare": Bare,
    "same_version": _same_version,
    "one_simulation": _one_simulation,
}


async def _serve(variant: str) -> None:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((VARIANTS[variant](),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    # The parent's end of the pipe closes when it ends, however it ends.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
