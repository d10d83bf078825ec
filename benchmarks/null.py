"""Objects that do next to nothing, and simulations of their older and newer versions: what is left is what calls cost.

All versions have the same messages, `BytesValue`, and register as generated code does. A simulation makes a
message of its own of each that it gets, as a real one does, whose messages are of two versions.
"""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from google.protobuf.wrappers_pb2 import BytesValue

import segue

_SERVICE = "bench.Null"
CALL = f"/{_SERVICE}/Call"
STREAM = f"/{_SERVICE}/Stream"
#: How many replies `Stream` has.
MESSAGES = 1000


class Null:
    """An object whose methods give back what they got."""

    async def Call(self, request: BytesValue, _context: object) -> BytesValue:
        """Give back the request."""
        return request

    async def Stream(self, request: BytesValue, _context: object) -> AsyncIterator[BytesValue]:
        """Give back the request many times."""
        for _ in range(MESSAGES):
            yield BytesValue(value=request.value)

    def register(self, server: grpc.aio.Server) -> None:
        """Register as generated code does."""
        kinds = {"Call": grpc.unary_unary_rpc_method_handler, "Stream": grpc.unary_stream_rpc_method_handler}
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            name: make(
                getattr(self, name),
                request_deserializer=BytesValue.FromString,
                response_serializer=BytesValue.SerializeToString,
            )
            for name, make in kinds.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE, handlers),))
        server.add_registered_method_handlers(_SERVICE, handlers)


class Onward:
    """The methods of a version that is answered by the version next to it."""

    delegate: Any

    async def Call(self, request: BytesValue, context: object) -> BytesValue:
        """Have the delegate give back the request."""
        reply = await self.delegate.Call(BytesValue(value=request.value), context)
        return BytesValue(value=reply.value)

    async def Stream(self, request: BytesValue, context: object) -> AsyncIterator[BytesValue]:
        """Have the delegate give back the request many times."""
        async for reply in self.delegate.Stream(BytesValue(value=request.value), context):
            yield BytesValue(value=reply.value)


class ByHand(Onward, Null):
    """A version over another as one would write it without the layer: a servicer that calls the object."""

    def __init__(self) -> None:
        self.delegate = Null()


class Past(segue.PastSimulation, Onward, Null):
    """The version before the delegate's."""


class Observing(segue.FutureSimulation, Onward, Null):
    """The version after the delegate's, which is told of the delegate's calls."""

    @segue.observes("Call")
    async def saw(self, request: BytesValue, reply: BytesValue, context: object) -> None:
        """Hear of a call."""
