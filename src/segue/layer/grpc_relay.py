"""Passes a call on to another process as bytes, and brings back all that comes of it."""

from collections.abc import AsyncIterator
from typing import Any, Never

import grpc
import grpc.aio

from segue.layer.grpc_context import AuthorContext, Context
from segue.layer.label import PEER_KEY

#: gRPC writes the first itself, on each connection anew; the second is written here.
_DROPPED = frozenset({"user-agent", PEER_KEY})
#: How gRPC writes peers that only a process of this machine can be: of them, only one that relays writes `PEER_KEY`.
_LOCAL = "unix:"
#: By which a process tells the one that relays its replies how their caller is to get them.
_COMPRESSION_KEY = "segue-compression"
_COMPRESSIONS = {compression.name: compression for compression in grpc.Compression}


async def relay(
    channel: grpc.aio.Channel, method: str, request: bytes | None, context: Context, *, unary_reply: bool
) -> bytes | None:
    """Have a call answered at the other end of `channel`, as if the caller had made it there.

    Metadata of both directions, compression, the deadline, the status and a cancellation pass through; the other
    end is told where the call came from.

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
    """Return the metadata to pass on, with where the call came from."""
    given: Any = context.invocation_metadata()
    metadata = tuple((key, value) for key, value in given or () if key not in _DROPPED)
    return (*metadata, (PEER_KEY, relayed_peer(context) or context.peer()))


def relayed_peer(context: Context) -> str | None:
    """Return where a call came from that another process has relayed here; None if none has."""
    if not context.peer().startswith(_LOCAL):
        return None  # anybody can write anything
    metadata: Any = context.invocation_metadata()
    return next((str(value) for key, value in metadata or () if key == PEER_KEY), None)


async def _begin(initial: tuple[tuple[str, Any], ...], context: Context) -> None:
    """Send the initial metadata, and have what follows compressed as the other end wants it."""
    for key, value in initial:
        if key == _COMPRESSION_KEY and value in _COMPRESSIONS:
            context.set_compression(_COMPRESSIONS[value])
    await context.send_initial_metadata(tuple(pair for pair in initial if pair[0] != _COMPRESSION_KEY))


async def _replies(call: grpc.aio.StreamStreamCall[bytes, bytes], context: Context, unary_reply: bool) -> bytes | None:
    reply: Any = None
    try:
        await _begin(tuple(await call.initial_metadata()), context)
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


class RelayedContext(AuthorContext):
    """gRPC's own context of a call that another process relays here: that one compresses, as only it meets the caller.

    Args:
        below: gRPC's own, of a call that `relayed_peer` knows.
    """

    def __init__(self, below: Context) -> None:
        super().__init__(below)
        self._compression: grpc.Compression | None = None
        self._has_begun = False

    def set_compression(self, compression: grpc.Compression) -> None:
        """Have what is sent to the caller compressed."""
        if self._has_begun:
            raise grpc.aio.UsageError("compression is set before the first reply and the initial metadata are sent")
        self._compression = compression

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Send the initial metadata now."""
        self._has_begun = True
        ours = () if self._compression is None else ((_COMPRESSION_KEY, self._compression.name),)
        await self._below.send_initial_metadata((*initial_metadata, *ours))

    async def write(self, message: Any) -> None:
        """Send one message to the caller."""
        if self._compression is not None and not self._has_begun:
            await self.send_initial_metadata(())
        self._has_begun = True
        await self._below.write(message)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> Never:
        """End the call with a status that is not OK, now.

        Raises:
            grpc.aio.AbortError: always.
        """
        await self._below.abort(code, details, trailing_metadata)

    async def abort_with_status(self, status: grpc.Status) -> Never:
        """End the call with a status that is not OK, now.

        Raises:
            grpc.aio.AbortError: always.
        """
        await self._below.abort_with_status(status)
