"""The bridge between the event loop and the threads in which a call's plain functions run.

Both sides hand values over without holding each other up: the loop never waits for a lock, and what a
thread waits for ends when the call does.
"""

import asyncio
import contextvars
import logging
import queue
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeAlias

import grpc

from segue.layer.threads.workers import Workers

_log = logging.getLogger(__name__)

#: What came of something: (result, what it raised instead).
Outcome: TypeAlias = tuple[Any, BaseException | None]


class CallOverError(grpc.RpcError):
    """What a thread waited for does not come any more, as its call is over."""


def result_of(outcome: Outcome) -> Any:
    """Return the result, or raise what was raised instead."""
    result, error = outcome
    try:
        if error is not None:
            raise error
        return result
    finally:
        del outcome, error  # or the error would hold its traceback, which holds the error


class Bridge:
    """One call of a plain function that runs in threads.

    `open` and `close` are awaited by whoever makes the call, in one task.

    Attributes:
        loop: where the call comes from, and where all that is asynchronous runs.
        is_over: whether nobody waits for the call any more.
        is_closed: whether all its threads have left it.
    """

    def __init__(self, workers: Workers) -> None:
        self.loop = asyncio.get_running_loop()
        self.is_over = False
        self._workers = workers
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.is_closed = False
        #: Whether the thread has been told that the call is over: once, as a task is told of its cancellation.
        self._told = False
        self._jobs = 0
        self._idle: asyncio.Future[None] | None = None
        self._wakers: list[Callable[[], None]] = []
        self._callbacks: list[Callable[[], None]] = []

    async def open(self) -> None:
        """Get ready for `submit`."""
        # Entered and left by hand: none of its tasks raises, so it does nothing but wait for them.
        await self._group.__aenter__()

    async def close(self) -> None:
        """End what waits, and return once all threads have left the call.

        Raises:
            asyncio.CancelledError: it came meanwhile.
        """
        cancelled: asyncio.CancelledError | None = None
        if self._jobs:
            self.end()
        while self._jobs:
            try:
                await self._left()
            except asyncio.CancelledError as error:
                cancelled = error
        self.is_closed = True
        for task in self._tasks:
            task.cancel()
        await self._group.__aexit__(None, None, None)
        if cancelled is not None:
            raise cancelled

    async def _left(self) -> None:
        """Wait until no job is at work."""
        self._idle = self.loop.create_future()
        try:
            await self._idle
        finally:
            self._idle = None

    def end(self) -> None:
        """Have what waits in threads end: nobody waits for the call any more. Safe to repeat."""
        if self.is_over:
            return
        self.is_over = True
        for task in tuple(self._tasks):
            task.cancel()
        for wake in self._wakers:
            wake()
        self.call_back()

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Have `callback` called in a thread when the call is over; return False if it is."""
        if self.is_over:
            return False
        self._callbacks.append(callback)
        return True

    def call_back(self) -> None:
        """Have the callbacks called, each once."""
        callbacks, self._callbacks = self._callbacks, []
        if callbacks:
            self._workers.submit(lambda: _call_each(callbacks))

    def told(self) -> None:
        """Take note that the thread has learned that the call is over."""
        self._told = True

    # --- the loop's side ---

    def submit(self, function: Callable[[], Any], finished: Callable[[Outcome], None]) -> None:
        """Run `function` in a thread with the contextvars of here, then `finished` in the loop."""
        context = contextvars.copy_context()
        self._jobs += 1

        def job() -> None:
            outcome: Outcome
            try:
                outcome = (context.run(function), None)
            except Exception as error:
                outcome = (None, error)
            except BaseException as error:  # of `sys.exit` in a thread the thread ends, and not the process
                outcome = (None, _failure(error))
            self.tell(self._finish, finished, outcome)

        self._workers.submit(job)

    def _finish(self, finished: Callable[[Outcome], None], outcome: Outcome) -> None:
        self._jobs -= 1
        finished(outcome)
        if not self._jobs and self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    async def run(self, function: Callable[[], Any]) -> Any:
        """Return what `function` returns in a thread; a cancellation lets it end first."""
        outcome: Outcome | None = None
        cancelled: asyncio.CancelledError | None = None
        waiter: asyncio.Future[None] = self.loop.create_future()

        def finished(what: Outcome) -> None:
            nonlocal outcome
            outcome = what
            if not waiter.done():
                waiter.set_result(None)

        self.submit(function, finished)
        while outcome is None:
            try:
                await waiter
            except asyncio.CancelledError as error:
                cancelled = error
                self.end()
                waiter = self.loop.create_future()
        if cancelled is not None:
            log_after_end(outcome[1])
            raise cancelled
        return result_of(outcome)

    # --- the threads' side ---

    def tell(self, function: Callable[..., None], *arguments: Any) -> None:
        """Have the loop call `function`; of no effect once the loop is closed, as nobody waits there."""
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(function, *arguments)

    def start(self, make: Callable[[], Awaitable[Any]], ended: Callable[[Outcome], None]) -> None:
        """From a thread: await what `make` returns in a task with the thread's contextvars, then call `ended`."""
        self.tell(self._start, make, ended, contextvars.copy_context())

    def _start(
        self, make: Callable[[], Awaitable[Any]], ended: Callable[[Outcome], None], context: contextvars.Context
    ) -> None:
        if self.is_closed:
            ended((None, CallOverError("the call is over")))
            return
        task = self._group.create_task(outcome_of_call(make), context=context)
        self._tasks.add(task)

        def done(task: asyncio.Task[Outcome]) -> None:
            self._tasks.discard(task)
            # A task that was cancelled before its first step never ran: so what it leaves is told here.
            ended((None, CallOverError("the call is over")) if task.cancelled() else task.result())

        task.add_done_callback(done)

    def wait(self, make: Callable[[], Awaitable[Any]]) -> Any:
        """From a thread: return what the awaitable gives that `make` returns in the loop.

        Raises:
            CallOverError: the call is over; once: what cleans up after it may wait again.
        """
        self.check()
        reply: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self.start(make, reply.put)
        return self.heard(reply.get())

    def heard(self, outcome: Outcome) -> Any:
        """From a thread: return what was waited for, or raise what was raised instead."""
        if isinstance(outcome[1], CallOverError):
            self._told = True
        return result_of(outcome)

    def check(self) -> None:
        """From a thread: learn whether the call is over.

        Raises:
            CallOverError: it is, and the thread has not been told yet, or has left the call.
        """
        if self.is_closed or (self.is_over and not self._told):
            self._told = True
            raise CallOverError("the call is over")

    def on_end(self, wake: Callable[[], None]) -> None:
        """Have `wake` called in the loop when the call is over."""
        self._wakers.append(wake)

    def forget(self, wake: Callable[[], None]) -> None:
        """Do not call `wake` any more."""
        self._wakers.remove(wake)


async def outcome_of_call(make: Callable[[], Awaitable[Any]]) -> Outcome:
    """Await what `make` returns, and return what comes of it."""
    try:
        return await make(), None
    except Exception as error:
        return None, error


def log_after_end(error: BaseException | None) -> None:
    """Log what nobody hears of any more, as the call was over before it was raised."""
    if error is not None and not isinstance(error, CallOverError):
        _log.warning("a method failed after its call was over", exc_info=error)


def _failure(error: BaseException) -> RuntimeError:
    failure = RuntimeError(f"a plain function raised {error!r}")
    failure.__cause__ = error
    return failure


def _call_each(callbacks: list[Callable[[], None]]) -> None:
    for callback in callbacks:
        try:
            callback()
        except Exception:
            _log.exception("a callback of a call failed")
