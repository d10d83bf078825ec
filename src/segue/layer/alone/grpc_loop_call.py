"""Calls of gRPC's threaded server that are answered in an event loop; bytes go in and come out."""

import asyncio
import logging
import queue
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from typing import Any, Never, TypeAlias

import grpc
import grpc.aio

from segue.layer.alone.loop_thread import LoopOverError, LoopThread
from segue.layer.grpc_abort import status_of
from segue.layer.grpc_collector import MethodHandler
from segue.layer.grpc_context import Context
from segue.layer.grpc_refusal import refuse_plainly, stopped
from segue.layer.threads.grpc_iterators import AHEAD
from segue.layer.threads.workers import WORKERS

_log = logging.getLogger(__name__)

#: Awaited with (the request's bytes if there is exactly one, the call's context); returns the reply's bytes if
#: there is exactly one.
Behaviour: TypeAlias = Callable[[Any, Context], Awaitable[bytes | None]]

#: A threaded server says that a call without a deadline has far more seconds left than this.
_NO_DEADLINE_S = 1e9

#: How soon a threaded server knows of a caller that has gone, once it has said that requests have ended. Smaller, and
#: more calls that were cancelled look complete; larger, and calls with streams of requests take that much longer.
_GONE_S = 0.002

_END = object()

_MAKERS: dict[tuple[bool, bool], Callable[..., MethodHandler]] = {
    (True, True): grpc.unary_unary_rpc_method_handler,
    (True, False): grpc.unary_stream_rpc_method_handler,
    (False, True): grpc.stream_unary_rpc_method_handler,
    (False, False): grpc.stream_stream_rpc_method_handler,
}


def in_loop(loop: LoopThread, behaviour: Behaviour, *, unary_request: bool, unary_reply: bool) -> MethodHandler:
    """Return a handler for a threaded server, whose calls are answered in `loop`.

    Args:
        loop: where `behaviour` is awaited.
        behaviour: what answers, as `grpc.aio` would call it.
        unary_request: whether the caller sends exactly one message.
        unary_reply: whether the caller gets exactly one message.
    """

    def begin(request: Any, native: grpc.ServicerContext) -> LoopContext:
        context = LoopContext(loop, native, None if unary_request else request)
        context.begin(partial(behaviour, request if unary_request else None))
        return context

    def one(request: Any, native: grpc.ServicerContext) -> bytes | None:
        return begin(request, native).reply()

    def many(request: Any, native: grpc.ServicerContext) -> Iterator[bytes]:
        return iter(begin(request, native).replies, None)

    return _MAKERS[unary_request, unary_reply](one if unary_reply else many)


class LoopContext(grpc.aio.ServicerContext[Any, Any]):
    """A call of a threaded server, as what answers it in the event loop sees it: as a call of `grpc.aio`'s.

    The server's thread waits in `reply` or `replies`. All else is for the loop.

    Args:
        loop: where the call is answered.
        native: gRPC's own context.
        requests: what the caller sends; None if it was read.
    """

    def __init__(self, loop: LoopThread, native: grpc.ServicerContext, requests: Iterator[bytes] | None) -> None:
        self._loop = loop
        self._native: Any = native
        self._requests = requests
        self._reading: asyncio.Future[Any] | None = None
        #: What was written, each with whether it goes uncompressed; at last _END with the reply, or what was raised.
        self._written: queue.SimpleQueue[tuple[Any, Any]] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(AHEAD)
        self._taken = False
        self._task: asyncio.Task[Any] | None = None
        #: Whether the caller has gone, or the status has been sent.
        self._is_over = False
        self._is_answered = False
        self._is_aborted = False
        self._code: Any = None
        self._details = ""
        self._trailing: tuple[Any, ...] = ()
        self._uncompressed = False
        self._callbacks: list[Callable[[Any], None]] = []

    # --- the server's thread ---

    def begin(self, behaviour: Callable[[Context], Awaitable[bytes | None]]) -> None:
        """Have the call answered; its end, if it comes before the answer, cancels that."""
        if not self._native.add_callback(partial(self._loop.tell, self._ended)):
            self._dropped()
            return
        try:
            self._loop.spawn(partial(self._answer, behaviour), self._dropped)
        except LoopOverError:
            self._dropped()

    def _dropped(self) -> None:
        self._written.put((_END, asyncio.CancelledError()))

    def reply(self) -> bytes | None:
        """Wait for the answer, set the call's status, and return the one reply."""
        return self._conclude(self._written.get()[1])

    def replies(self) -> bytes | None:
        """Wait for the next reply and return it; None once the status is set, after the last."""
        if self._taken:
            self._loop.tell(self._room.release)
        message, more = self._written.get()
        if message is _END:
            self._conclude(more)
            return None
        self._taken = True
        if more:
            self._native.disable_next_message_compression()
        return message  # type: ignore[no-any-return]

    def _conclude(self, outcome: Any) -> bytes | None:
        if self._trailing:
            self._native.set_trailing_metadata(self._trailing)
        code, details = grpc.StatusCode.OK if self._code is None else status_of(self._code), self._details
        if isinstance(outcome, BaseException) and not self._is_aborted:
            code, details = self._fault(outcome)
        if code is not grpc.StatusCode.OK:
            self._native.abort(code, details)
        if details:
            self._native.set_details(details)
        if self._uncompressed:
            self._native.disable_next_message_compression()
        return None if isinstance(outcome, BaseException) else outcome

    def _fault(self, error: BaseException) -> tuple[grpc.StatusCode, str]:
        """Say what the caller is told of what came out of the loop and is no status."""
        if not isinstance(error, asyncio.CancelledError):
            _log.error("a call failed", exc_info=error)
            return grpc.StatusCode.INTERNAL, "segue: the call failed; its server's log says why"
        if self._loop.is_ending:
            refuse_plainly(stopped(), self._native)
        return grpc.StatusCode.CANCELLED, "cancelled by the server"

    # --- the loop ---

    async def _answer(self, behaviour: Callable[[Context], Awaitable[bytes | None]]) -> None:
        self._task = asyncio.current_task()
        outcome: Any = asyncio.CancelledError()
        try:
            if not self._is_over:  # gRPC may be quicker than the loop
                outcome = await behaviour(self)
        except BaseException as error:
            outcome = error
            if isinstance(error, asyncio.CancelledError):
                raise
        finally:
            self._is_answered = True
            self._written.put((_END, outcome))
            del outcome

    def _ended(self) -> None:
        """Take note that the call is over for gRPC."""
        self._is_over = True
        if self._task is not None and not self._is_answered:
            self._task.cancel()
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    async def read(self) -> Any:
        """Return the caller's next message, or `grpc.aio.EOF`."""
        if self._requests is None:
            raise grpc.aio.UsageError("this method has one request: there is nothing to read")
        if self._reading is None:
            self._reading = asyncio.get_running_loop().create_future()
            WORKERS.submit(partial(self._take, self._requests))
        # Whoever gives up reading leaves the message to the next who reads.
        message = await asyncio.shield(self._reading)
        if message is not grpc.aio.EOF:
            self._reading = None
        return message

    def _take(self, requests: Iterator[bytes]) -> None:
        """In a thread: wait for the caller's next message."""
        try:
            message: Any = next(requests, grpc.aio.EOF)
        except grpc.RpcError:
            return  # the call is over, which the task hears of
        if message is grpc.aio.EOF:
            # gRPC's server says the same first of a caller that has gone: it must not pass for one that is done.
            time.sleep(_GONE_S)
            if not self._native.is_active():
                return
        self._loop.tell(self._read, message)

    def _read(self, message: Any) -> None:
        if self._reading is not None and not self._reading.done():
            self._reading.set_result(message)

    async def write(self, message: Any) -> None:
        """Send one message to the caller, as soon as those before it leave room."""
        await self._room.acquire()
        self._written.put((message, self._uncompressed))
        self._uncompressed = False

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Send the initial metadata now."""
        try:
            self._native.send_initial_metadata(tuple(initial_metadata))
        except grpc.RpcError as error:
            raise grpc.aio.InternalError("the caller has gone") from error

    async def abort(self, code: Any, details: str = "", trailing_metadata: Any = ()) -> Never:
        """End the call with a status that is not OK.

        Raises:
            grpc.aio.AbortError: always.
        """
        if self._is_aborted:
            raise grpc.aio.UsageError("the call was aborted already")
        self._is_aborted = True
        status = status_of(code)
        self._code = grpc.StatusCode.UNKNOWN if status is grpc.StatusCode.OK else status
        self._details = details or self._details
        self._trailing = tuple(trailing_metadata or self._trailing)
        raise grpc.aio.AbortError("aborted by the method")

    async def abort_with_status(self, status: grpc.Status) -> Never:
        """End the call with a status that is not OK.

        Raises:
            grpc.aio.AbortError: always.
        """
        await self.abort(status.code, status.details or "", status.trailing_metadata or ())

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Have `callback` called with this context when the call has ended."""
        self._callbacks.append(callback)

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Set what is sent with the status."""
        self._trailing = tuple(trailing_metadata)

    def trailing_metadata(self) -> Any:
        """Return what will be sent with the status."""
        return self._trailing

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the status that is sent at the end."""
        self._code = code

    def code(self) -> Any:
        """Return the status that was set, None if none was."""
        return self._code

    def set_details(self, details: str) -> None:
        """Set the text that is sent with the status."""
        self._details = details

    def details(self) -> str:
        """Return the text that will be sent with the status."""
        return self._details

    def set_compression(self, compression: grpc.Compression) -> None:
        """Compress what is sent."""
        self._native.set_compression(compression)

    def disable_next_message_compression(self) -> None:
        """Send the next message as it is."""
        self._uncompressed = True

    def invocation_metadata(self) -> Any:
        """Return what the caller sent, the label included."""
        return self._native.invocation_metadata()

    def peer(self) -> str:
        """Return the caller's address."""
        peer: str = self._native.peer()
        return peer

    def peer_identities(self) -> Any:
        """Return who the caller has shown to be."""
        return self._native.peer_identities()

    def peer_identity_key(self) -> Any:
        """Return by which property the caller has shown who it is."""
        return self._native.peer_identity_key()

    def auth_context(self) -> Mapping[str, Any]:
        """Return what is known of the connection's ends."""
        known: Mapping[str, Any] = self._native.auth_context()
        return known

    def time_remaining(self) -> Any:
        """Return seconds until the caller's deadline, None without one."""
        left_s: float = self._native.time_remaining()
        return None if left_s > _NO_DEADLINE_S else left_s

    def cancelled(self) -> bool:
        """Return whether the call ended before it was answered."""
        return self._is_over and not self._is_answered

    def done(self) -> bool:
        """Return whether the call has ended."""
        return self._is_over or self._is_aborted
