"""What gRPC gives a method besides its request, and the names of the statuses that callers get."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Never, TypeAlias

import grpc.aio

#: A servicer's context as gRPC gives it; what it reads and writes is the author's.
Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]
Deserializer: TypeAlias = Callable[[bytes], Any]
Serializer: TypeAlias = Callable[[Any], bytes]

#: gRPC takes a status as its enumeration's member or as its number; none set means OK.
_NAMES: dict[object, str] = {None: "OK"}
_NAMES.update({code: code.name for code in grpc.StatusCode})
_NAMES.update({code.value[0]: code.name for code in grpc.StatusCode})

#: A caller's deadline passes at the caller a little before it does here, and gRPC rounds it up on the way.
#: Larger, and a call cancelled just before its deadline is counted as late; smaller, and late ones count as cancelled.
_DEADLINE_SLACK_S = 0.1


class UnreadableRequestError(Exception):
    """The bytes of a request are not a message of the method's type."""


def outcome_of(context: Context) -> str:
    """Return the name of the status that stands in the context: `OK` if none was set."""
    return _NAMES.get(context.code(), "UNKNOWN")


def outcome_when_cancelled(context: Context) -> str:
    """Return the name of the status that a caller has who does not wait any more."""
    remaining_s: float | None = context.time_remaining()
    late = remaining_s is not None and remaining_s <= _DEADLINE_SLACK_S
    return "DEADLINE_EXCEEDED" if late else "CANCELLED"


def reading(deserializer: Deserializer | None) -> Deserializer:
    """Return the deserializer, with one kind of error for whatever it raises; None reads bytes as they are."""
    if deserializer is None:
        return bytes

    def read(raw: bytes) -> Any:
        try:
            return deserializer(raw)
        except Exception as error:
            raise UnreadableRequestError(str(error)) from error

    return read


def writing(serializer: Serializer | None) -> Serializer:
    """Return the serializer; None takes bytes as they are, and nothing else."""
    return _only_bytes if serializer is None else serializer


def _only_bytes(message: Any) -> bytes:
    if not isinstance(message, bytes):
        raise TypeError(f"a reply of {type(message).__qualname__}, but the method has no serializer: return bytes")
    return message


class TypedContext(grpc.aio.ServicerContext[Any, Any]):
    """A context that reads and writes an author's messages over one that reads and writes bytes.

    All else is the context's below.

    Args:
        raw: gRPC's own context, of a handler without serializers.
        deserialize: from bytes to a request.
        serialize: from a reply to bytes.
    """

    def __init__(self, raw: Context, deserialize: Deserializer, serialize: Serializer) -> None:
        self._raw = raw
        self._deserialize = deserialize
        self._serialize = serialize

    async def read(self) -> Any:
        """Return the caller's next message, or `grpc.aio.EOF`."""
        message = await self._raw.read()
        return message if message is grpc.aio.EOF else self._deserialize(message)

    async def write(self, message: Any) -> None:
        """Send one message to the caller."""
        await self._raw.write(self._serialize(message))

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Send the initial metadata now."""
        await self._raw.send_initial_metadata(initial_metadata)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> Never:
        """End the call with a status that is not OK."""
        await self._raw.abort(code, details, trailing_metadata)

    async def abort_with_status(self, status: grpc.Status) -> Never:
        """End the call with a status that is not OK."""
        await self._raw.abort_with_status(status)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Have `callback` called with this context when the call has ended."""
        ended: Any = partial(_call_with, callback, self)
        self._raw.add_done_callback(ended)

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Set what is sent with the status."""
        self._raw.set_trailing_metadata(trailing_metadata)

    def invocation_metadata(self) -> Any:
        """Return what the caller sent, the label included."""
        return self._raw.invocation_metadata()

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the status that is sent at the end."""
        self._raw.set_code(code)

    def set_details(self, details: str) -> None:
        """Set the text that is sent with the status."""
        self._raw.set_details(details)

    def set_compression(self, compression: grpc.Compression) -> None:
        """Compress what is sent."""
        self._raw.set_compression(compression)

    def disable_next_message_compression(self) -> None:
        """Send the next message as it is."""
        self._raw.disable_next_message_compression()

    def peer(self) -> str:
        """Return the caller's address."""
        return self._raw.peer()

    def peer_identities(self) -> Iterable[bytes] | None:
        """Return who the caller has shown to be."""
        return self._raw.peer_identities()

    def peer_identity_key(self) -> str | None:
        """Return by which property the caller has shown who it is."""
        return self._raw.peer_identity_key()

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Return what is known of the connection's ends."""
        return self._raw.auth_context()

    def time_remaining(self) -> float:
        """Return seconds until the caller's deadline, None without one."""
        return self._raw.time_remaining()

    def trailing_metadata(self) -> Any:
        """Return what will be sent with the status."""
        return self._raw.trailing_metadata()

    def code(self) -> grpc.StatusCode:
        """Return the status that was set, None if none was."""
        return self._raw.code()

    def details(self) -> str:
        """Return the text that will be sent with the status."""
        return self._raw.details()

    def cancelled(self) -> bool:
        """Return whether the call was cancelled."""
        return self._raw.cancelled()

    def done(self) -> bool:
        """Return whether the call has ended."""
        return self._raw.done()


def _call_with(callback: Callable[[Any], None], context: TypedContext, _raw: object) -> None:
    callback(context)


class Requests:
    """The caller's messages, to be iterated over; they are also to be had from the context's `read`."""

    def __init__(self, context: TypedContext) -> None:
        self._context = context

    def __aiter__(self) -> "Requests":
        return self

    async def __anext__(self) -> Any:
        message = await self._context.read()
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        return message
