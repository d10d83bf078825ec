"""Passes a call on to another process as bytes, and brings back all that comes of it."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from segue.layer.grpc_context import Context

#: gRPC writes these itself, on each connection anew.
_HOP_BY_HOP = frozenset({"user-agent"})


async def relay(
    channel: grpc.aio.Channel, method: str, request: bytes | None, context: Context, *, unary_reply: bool
) -> bytes | None:
    """Have a call answered at the other end of `channel`, as if the caller had made it there.

    Metadata of both directions, the deadline, the status and a cancellation pass through.

    Args:
        channel: to the process that answers.
        method: the method's path.
        request: the one request if it was read already; None to read requests from `context`.
        context: of the caller's call, which reads and writes bytes.
        unary_reply: True to return the reply, False to write replies to `context`.

    Returns:
        The reply's bytes if `unary_reply`, else None.
    """
    # On the wire all four kinds are streams of bytes, so one kind serves them all.
    make_call: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
    call = make_call(_requests(request, context), timeout=context.time_remaining(), metadata=_onward(context))
    try:
        reply = await _replies(call, context, unary_reply)
        await _status(call, context)
        return reply
    finally:
        call.cancel()  # of no effect on a call that has ended


async def _requests(request: bytes | None, context: Context) -> AsyncIterator[bytes]:
    if request is not None:
        yield request
        return
    try:
        while (message := await context.read()) is not grpc.aio.EOF:
            yield message
    except grpc.aio.BaseError:
        return  # the caller's call has ended; nobody waits for more


def _onward(context: Context) -> tuple[tuple[str, Any], ...]:
    metadata: Any = context.invocation_metadata()
    return tuple((key, value) for key, value in metadata or () if key not in _HOP_BY_HOP)


async def _replies(call: grpc.aio.StreamStreamCall[bytes, bytes], context: Context, unary_reply: bool) -> bytes | None:
    reply: Any = None
    try:
        await context.send_initial_metadata(tuple(await call.initial_metadata()))
        while (message := await call.read()) is not grpc.aio.EOF:
            if unary_reply:
                reply = message
            else:
                await context.write(message)
    except grpc.aio.AioRpcError:
        return None  # its status is passed on next
    return reply  # type: ignore[no-any-return]


async def _status(call: grpc.aio.StreamStreamCall[bytes, bytes], context: Context) -> None:
    trailing = tuple(await call.trailing_metadata() or ())
    code, details = await call.code(), await call.details()
    if code is not grpc.StatusCode.OK:
        await context.abort(code, details or "", trailing)
    context.set_trailing_metadata(trailing)
    context.set_details(details or "")
