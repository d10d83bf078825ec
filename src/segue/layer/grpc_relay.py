"""Passes a call on to another process as bytes, and brings back all that comes of it."""

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Never

import grpc
import grpc.aio

from segue.layer.grpc_context import AuthorContext, Context
from segue.layer.label import IDENTITY_KEY, PEER_KEY

#: What is written here, whatever a client has written there.
_OURS = frozenset({PEER_KEY, IDENTITY_KEY})
#: gRPC writes the first itself, on each connection anew.
_DROPPED = frozenset({"user-agent", *_OURS})
#: How gRPC says that a connection shows nothing of its ends; so is the one between two processes of a node.
_TRANSPORT, _INSECURE = "transport_security_type", [b"insecure"]
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
    """Return the metadata to pass on, with where the call came from, and who its caller has shown to be."""
    given: Any = context.invocation_metadata()
    metadata = tuple((key, value) for key, value in given or () if key not in _DROPPED)
    identity = _written_identity(context)
    ours = () if identity is None else ((IDENTITY_KEY, identity),)
    return (*metadata, (PEER_KEY, context.peer()), *ours)


def _written_identity(context: Context) -> bytes | None:
    """Return what is known of the caller's end of the connection, as bytes; None if it was not asked who it is."""
    shown = {key: list(values) for key, values in context.auth_context().items()}
    if shown.get(_TRANSPORT, _INSECURE) == _INSECURE:
        return None
    as_text = {key: [value.decode("latin-1") for value in values] for key, values in shown.items()}
    return json.dumps([context.peer_identity_key(), as_text]).encode()


def _read_identity(identity: bytes) -> "tuple[str | None, dict[str, list[bytes]]]":
    key, shown = json.loads(identity)
    return key, {name: [value.encode("latin-1") for value in values] for name, values in shown.items()}


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
    """The context of a call that another process relays here: its caller is that one's, who also compresses.

    Args:
        below: gRPC's own, of a call on the socket that only a process of the same node can open.
    """

    def __init__(self, below: Context) -> None:
        super().__init__(below)
        self._compression: grpc.Compression | None = None
        self._has_begun = False
        given: Any = below.invocation_metadata()
        written = {key: value for key, value in given or () if key in _OURS}
        self._metadata = tuple(pair for pair in given or () if pair[0] not in _OURS)
        self._peer: str | None = written.get(PEER_KEY)
        self._identity: bytes | None = written.get(IDENTITY_KEY)

    def invocation_metadata(self) -> Any:
        """Return what the caller sent, the label included."""
        return self._metadata

    def peer(self) -> str:
        """Return the address of the caller of the process that relays."""
        return self._below.peer() if self._peer is None else self._peer

    def peer_identities(self) -> Iterable[bytes] | None:
        """Return who the caller has shown to be, to the process that relays."""
        key = self.peer_identity_key()
        return None if key is None else self.auth_context().get(key)

    def peer_identity_key(self) -> str | None:
        """Return by which property the caller has shown who it is."""
        return self._below.peer_identity_key() if self._identity is None else _read_identity(self._identity)[0]

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Return what is known of the ends of the caller's connection."""
        return self._below.auth_context() if self._identity is None else _read_identity(self._identity)[1]

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
