"""What gRPC gives a method besides its request, and the names of the statuses that callers get."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import AsyncGeneratorType
from typing import Any, Never, TypeAlias

import grpc.aio

from segue.layer.grpc_abort import AbortError, status_of
from segue.layer.stay import Stay

_log = logging.getLogger(__name__)

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


class Scope:
    """What a call has open besides itself, to be closed when it is over.

    Attributes:
        workers: how many threads are at work for the call.
    """

    def __init__(self) -> None:
        self.workers = 0
        self._open: list[AsyncGeneratorType[Any, Any]] = []
        self._look_at = _MANY

    def keep(self, replies: AsyncGeneratorType[Any, Any]) -> None:
        """Remember replies that may be left before their end."""
        self._open.append(replies)
        if len(self._open) >= self._look_at:  # a call that lives long does not keep what has ended
            self._open = [kept for kept in self._open if kept.ag_frame is not None]
            self._look_at = len(self._open) + _MANY

    async def finish(self) -> None:
        """Close what is still open, the latest first; what fails to close is logged.

        Raises:
            asyncio.CancelledError: it came meanwhile; all is closed nevertheless.
        """
        cancelled: asyncio.CancelledError | None = None
        while self._open:
            replies = self._open.pop()
            try:
                await replies.aclose()
            except asyncio.CancelledError as error:
                cancelled = error
            except Exception:
                _log.exception("%r, which a call left before its end, failed to close", replies)
        if cancelled is not None:
            raise cancelled


#: How many iterators a call opens before it is looked which have ended. Larger costs memory, smaller time.
_MANY = 32


class AuthorContext(grpc.aio.ServicerContext[Any, Any]):
    """A context for an author's method: to abort raises, and sends nothing yet.

    All else is the context's below.

    Args:
        below: gRPC's own context, or another of these.
    """

    def __init__(self, below: Context) -> None:
        self._below = below
        self._scope: Scope | None = None

    @property
    def scope(self) -> Scope:
        """What the call has open, the same for all contexts of a call."""
        if self._scope is None:
            below = self._below
            self._scope = below.scope if isinstance(below, AuthorContext) else Scope()
        return self._scope

    async def finish(self) -> None:
        """Close what the call left open; to be awaited once the call's method has returned or failed."""
        if self._scope is not None:
            await self._scope.finish()

    async def read(self) -> Any:
        """Return the caller's next message, or `grpc.aio.EOF`."""
        return await self._below.read()

    async def write(self, message: Any) -> None:
        """Send one message to the caller."""
        await self._below.write(message)

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Send the initial metadata now."""
        await self._below.send_initial_metadata(initial_metadata)

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> Never:
        """End the call with a status that is not OK, unless a simulation catches this and answers otherwise.

        Raises:
            AbortError: always.
        """
        raise AbortError(code, details or self.details() or "", trailing_metadata)

    async def abort_with_status(self, status: grpc.Status) -> Never:
        """End the call with a status that is not OK, unless a simulation catches this and answers otherwise.

        Raises:
            AbortError: always.
        """
        raise AbortError(status.code, status.details or "", status.trailing_metadata)

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Have `callback` called with this context when the call has ended."""
        ended: Any = partial(_call_with, callback, self)
        self._below.add_done_callback(ended)

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Set what is sent with the status."""
        self._below.set_trailing_metadata(trailing_metadata)

    def invocation_metadata(self) -> Any:
        """Return what the caller sent, the label included."""
        return self._below.invocation_metadata()

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the status that is sent at the end."""
        self._below.set_code(code)

    def set_details(self, details: str) -> None:
        """Set the text that is sent with the status."""
        self._below.set_details(details)

    def set_compression(self, compression: grpc.Compression) -> None:
        """Compress what is sent."""
        self._below.set_compression(compression)

    def disable_next_message_compression(self) -> None:
        """Send the next message as it is."""
        self._below.disable_next_message_compression()

    def peer(self) -> str:
        """Return the caller's address."""
        return self._below.peer()

    def peer_identities(self) -> Iterable[bytes] | None:
        """Return who the caller has shown to be."""
        return self._below.peer_identities()

    def peer_identity_key(self) -> str | None:
        """Return by which property the caller has shown who it is."""
        return self._below.peer_identity_key()

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Return what is known of the connection's ends."""
        return self._below.auth_context()

    def time_remaining(self) -> float:
        """Return seconds until the caller's deadline, None without one."""
        return self._below.time_remaining()

    def trailing_metadata(self) -> Any:
        """Return what will be sent with the status."""
        return self._below.trailing_metadata()

    def code(self) -> Any:
        """Return the status that was set, None if none was."""
        code: Any = self._below.code()
        return None if code is None else status_of(code)

    def details(self) -> str:
        """Return the text that will be sent with the status."""
        return self._below.details()

    def cancelled(self) -> bool:
        """Return whether the call was cancelled."""
        return self._below.cancelled()

    def done(self) -> bool:
        """Return whether the call has ended."""
        return self._below.done()


class PassingContext(AuthorContext):
    """A context over gRPC's own for those who serve a call, not for an author: to abort sends the status.

    Args:
        below: gRPC's own context, or another of these.
    """

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


def _call_with(callback: Callable[[Any], None], context: AuthorContext, _below: object) -> None:
    callback(context)


class TypedContext(AuthorContext):
    """A context that reads and writes an author's messages over one that reads and writes bytes.

    Args:
        raw: gRPC's own context, of a handler without serializers.
        deserialize: from bytes to a request.
        serialize: from a reply to bytes.
    """

    def __init__(self, raw: Context, deserialize: Deserializer, serialize: Serializer) -> None:
        super().__init__(raw)
        self._deserialize = deserialize
        self._serialize = serialize

    async def read(self) -> Any:
        """Return the caller's next message, or `grpc.aio.EOF`."""
        message = await self._below.read()
        return message if message is grpc.aio.EOF else self._deserialize(message)

    async def write(self, message: Any) -> None:
        """Send one message to the caller."""
        await self._below.write(self._serialize(message))


class StreamContext(TypedContext):
    """The context of a streaming call, which may be ended.

    gRPC takes no status any more for a call whose initial metadata were on their way when it was cancelled: it
    would send them again. So it is not cancelled just then.

    Args:
        raw: gRPC's own context, of a handler without serializers.
        deserialize: from bytes to a request.
        serialize: from a reply to bytes.
        stay: the call's.
    """

    def __init__(self, raw: Context, deserialize: Deserializer, serialize: Serializer, stay: Stay) -> None:
        super().__init__(raw, deserialize, serialize)
        self._stay = stay
        self._has_begun = False

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Send the initial metadata now."""
        self._stay.hold()
        try:
            await self._below.send_initial_metadata(initial_metadata)
        finally:
            self._stay.release()
        self._has_begun = True

    async def write(self, message: Any) -> None:
        """Send one message to the caller."""
        raw = self._serialize(message)
        if self._has_begun:
            await self._below.write(raw)
            return
        self._stay.hold()
        try:
            await self._below.write(raw)
        finally:
            self._stay.release()
        self._has_begun = True


class Requests:
    """The caller's messages, to be iterated over; they are also to be had from the context's `read`."""

    def __init__(self, context: AuthorContext) -> None:
        self._context = context

    def __aiter__(self) -> "Requests":
        return self

    async def __anext__(self) -> Any:
        message = await self._context.read()
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        return message
