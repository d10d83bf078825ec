"""Passes a call on to another process as bytes, and brings back all that comes of it."""

import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from segue.layer.grpc_context import Context, PassingContext
from segue.layer.grpc_read_ahead import ReadAhead
from segue.layer.label import IDENTITY_KEY, PEER_KEY
from segue.layer.parked import Waiting
from segue.layer.stay import Stay

#: What is written here, whatever a client has written there.
_OURS = frozenset({PEER_KEY, IDENTITY_KEY})
#: gRPC writes the first itself, on each connection anew.
_DROPPED = frozenset({"user-agent", *_OURS})
#: How gRPC says that a connection shows nothing of its ends; so is the one between two processes of a node.
_TRANSPORT, _INSECURE = "transport_security_type", [b"insecure"]
#: By which a process tells the one that relays its replies how their caller is to get them.
_COMPRESSION_KEY = "segue-compression"
_COMPRESSIONS = {compression.name: compression for compression in grpc.Compression}


@dataclass(frozen=True, slots=True, kw_only=True)
class Onward:
    """A call that is to be relayed.

    Attributes:
        method: its path.
        request: the one request if gRPC has read it; None to read requests from `ahead`.
        ahead: over the context of the caller's call, of which nothing but the first request was read. That may be
            begun with; it is only taken once it was sent.
        unary_reply: whether the reply is returned, and not written.
        waiting: what it holds as long as it cannot be sent.
        is_reached: whether the other process can be reached now, as far as is known.
    """

    method: str
    request: bytes | None
    ahead: ReadAhead
    unary_reply: bool
    waiting: Waiting
    is_reached: bool


async def relay(channel: grpc.aio.Channel, given: Onward, stay: Stay, sent: Callable[[], None]) -> bytes | None:
    """Have a call answered at the other end of `channel`, as if the caller had made it there.

    Metadata of both directions, compression, the deadline, the status and a cancellation pass through; the other
    end is told where the call came from. As long as the other end cannot be reached, the call waits.

    Args:
        channel: to the process that answers.
        given: the call.
        stay: the call's here.
        sent: called once the other end gets the call, or will never.

    Returns:
        The reply's bytes if the call has one reply, else None.
    """
    context = given.ahead
    # On the wire all four kinds are streams of bytes, so one kind serves them all.
    make_call: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(given.method)
    call = make_call(
        _requests(given.request, context),
        timeout=context.time_remaining(),
        metadata=_onward(context),
        wait_for_ready=True,
    )
    try:
        # Also where the other end can be reached: it may have gone, and nobody has noticed yet.
        with suppress(grpc.aio.AioRpcError):  # its status is passed on as any other
            await call.wait_for_connection()
        sent()
        reply = await _replies(call, context, given.unary_reply, stay)
        await _status(call, context)
        return reply
    finally:
        call.cancel()  # of no effect on a call that has ended


def is_connected(channel: grpc.aio.Channel) -> bool:
    """Say whether a call on `channel` would be sent at once."""
    return channel.get_state() is grpc.ChannelConnectivity.READY


async def _requests(request: bytes | None, ahead: ReadAhead) -> AsyncIterator[bytes]:
    if request is not None:
        yield request
        return
    try:
        # The sooner the first is on its way the better: where a status comes before, clients of grpc.aio may get
        # INTERNAL instead (grpc/grpc#36066). Once it is, `read` takes it out.
        while (message := await ahead.peek()) is not grpc.aio.EOF:
            yield message
            await ahead.read()
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


async def _replies(
    call: grpc.aio.StreamStreamCall[bytes, bytes], context: Context, unary_reply: bool, stay: Stay
) -> bytes | None:
    reply: Any = None
    try:
        initial = tuple(await call.initial_metadata())
        stay.hold()  # see `StreamContext`
        try:
            await _begin(initial, context)
        finally:
            stay.release()
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


class RelayedContext(PassingContext):
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
