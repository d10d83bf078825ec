"""Methods that stream replies, as generators: what gRPC's interceptors know.

gRPC lets such a method be a coroutine that writes to its context, or a generator. Interceptors in front of a server,
OpenTelemetry's for one, iterate over what they have wrapped, and a coroutine cannot be iterated over: each stream, and
each call that waits in a pause, would fail under them.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc

from segue.layer.grpc_collector import MethodHandler, behaviour_of

_Serve: TypeAlias = Callable[[Any, Any], Awaitable[Any]]

_MAKERS: dict[bool, Callable[..., MethodHandler]] = {
    True: grpc.stream_stream_rpc_method_handler,
    False: grpc.unary_stream_rpc_method_handler,
}


def as_generator(handler: MethodHandler) -> MethodHandler:
    """Return a handler that does the same, and whose method is a generator if it streams replies."""
    behaviour = behaviour_of(handler)
    if not handler.response_streaming or not inspect.iscoroutinefunction(behaviour):
        return handler
    make = _MAKERS[handler.request_streaming]
    return make(_generating(behaviour), handler.request_deserializer, handler.response_serializer)


def _generating(serve: _Serve) -> Callable[[Any, Any], AsyncIterator[Any]]:
    async def generate(request: Any, context: Any) -> AsyncIterator[Any]:
        await serve(request, context)
        written: tuple[Any, ...] = ()  # all were written to the context; that there is a `yield` makes it a generator
        for reply in written:
            yield reply

    return generate
