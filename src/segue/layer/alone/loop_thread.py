"""An event loop in a thread of its own, for processes whose other threads have none."""

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

Result = TypeVar("Result")


class LoopOverError(Exception):
    """The loop takes nothing more."""


class LoopThread:
    """An event loop in a daemon thread; its methods are for other threads.

    Args:
        name: the thread's.

    Attributes:
        is_ending: whether the loop takes nothing more.
    """

    def __init__(self, name: str) -> None:
        self.is_ending = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._group = asyncio.TaskGroup()
        self._tasks: set[asyncio.Task[None]] = set()
        self._runs = threading.Event()
        self._ending = asyncio.Event()
        self._last: Callable[[], Awaitable[None]] = _nothing
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Have the loop run, and return once it takes what is spawned."""
        self._thread.start()
        self._runs.wait()

    def spawn(self, make: Callable[[], Awaitable[None]], dropped: Callable[[], None]) -> None:
        """Have what `make` returns awaited, with this thread's contextvars.

        Args:
            make: is called in the loop; nothing but a cancellation may come out of what it returns.
            dropped: is called instead if the loop ends before.

        Raises:
            LoopOverError: the loop takes nothing more.
        """
        context = contextvars.copy_context()
        with self._lock:  # so that whatever is taken comes to the loop before its end does
            if self.is_ending:
                raise LoopOverError("the loop takes nothing more")
            self._loop.call_soon_threadsafe(self._begin, make, dropped, context)

    def run(self, make: Callable[[], Awaitable[Result]]) -> Result:
        """Return what the awaitable gives that `make` returns in the loop.

        Raises:
            LoopOverError: the loop takes nothing more.
            Exception: what was raised there.
        """
        future: Future[Result] = Future()
        self.spawn(partial(_into, future, make), partial(future.set_exception, LoopOverError("the loop has ended")))
        return future.result()

    def tell(self, function: Callable[..., object], *arguments: Any) -> None:
        """Have the loop call `function`; of no effect once it has ended, as nobody waits there."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def stop(self, last: Callable[[], Awaitable[None]], timeout_s: float) -> bool:
        """Cancel what is at work, let it end, await what `last` returns, and end the thread. Safe to repeat.

        Args:
            last: is called in the loop when nothing else is left in it.
            timeout_s: seconds to wait.

        Returns:
            Whether the thread has ended in time.

        Raises:
            Exception: what `last` raised; the thread has ended.
        """
        with self._lock:
            if not self.is_ending:
                self.is_ending = True
                self._last = last
                self._loop.call_soon_threadsafe(self._end)
        self._thread.join(timeout_s)
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        return not self._thread.is_alive()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._live())

    async def _live(self) -> None:
        async with self._group:
            self._runs.set()
            await self._ending.wait()
        try:
            await self._last()
        except Exception as error:
            self._failure = error

    def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._ending.set()

    def _begin(
        self, make: Callable[[], Awaitable[None]], dropped: Callable[[], None], context: contextvars.Context
    ) -> None:
        begun = False

        async def work() -> None:
            nonlocal begun
            begun = True
            await make()

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            if not begun:  # a task that is cancelled before its first step never runs
                dropped()

        task = self._group.create_task(work(), context=context)
        self._tasks.add(task)
        task.add_done_callback(ended)

    def __repr__(self) -> str:
        return f"LoopThread({self._thread.name}, {len(self._tasks)} at work{', ending' * self.is_ending})"


async def _into(future: "Future[Result]", make: Callable[[], Awaitable[Result]]) -> None:
    try:
        future.set_result(await make())
    except asyncio.CancelledError:
        future.set_exception(LoopOverError("the loop has ended"))
        raise
    except BaseException as error:
        future.set_exception(error)


async def _nothing() -> None:
    pass
