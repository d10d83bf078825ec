"""Iterators that pass from the event loop to threads and back, over a call's bridge."""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from typing import Any

from segue.layer.threads.grpc_bridge import Bridge, CallOverError, Outcome, log_after_end, result_of

#: How many replies are made before they are asked for. Larger costs memory, smaller switches of threads.
AHEAD = 4

_END = object()


async def from_thread(bridge: Bridge, make: Callable[[], Iterable[Any]], ahead: int) -> AsyncGenerator[Any, None]:
    """Yield what a plain iterator gives, which is made, driven and closed in one thread.

    Args:
        bridge: of the call, open.
        make: returns the iterable.
        ahead: how many items are made before they are asked for.
    """
    feed = _Feed(bridge, make, ahead)
    bridge.on_end(feed.leave)
    bridge.submit(feed.run, feed.ended)
    try:
        while True:
            item = await feed.get()
            if item is _END:
                return
            yield item
    finally:
        feed.leave()
        bridge.forget(feed.leave)


class _Feed:
    """Items on their way from a thread to the loop."""

    def __init__(self, bridge: Bridge, make: Callable[[], Iterable[Any]], ahead: int) -> None:
        self._bridge = bridge
        self._make = make
        self._ahead = ahead
        self._items: deque[Any] = deque()
        self._room = threading.Semaphore(ahead)
        self._left = False
        self._outcome: Outcome | None = None
        self._waiter: asyncio.Future[None] | None = None

    def run(self) -> None:
        """In the thread: make items as there is room for them."""
        self._room.acquire()
        if self._left:
            return
        iterator = iter(self._make())
        try:
            for item in iterator:
                self._items.append(item)
                # First the item, then the look whether the loop waits; there it is the other way round.
                if self._waiter is not None:
                    self._bridge.tell(self._wake)
                self._room.acquire()
                if self._left:
                    self._bridge.told()
                    return
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()

    def ended(self, outcome: Outcome) -> None:
        self._outcome = outcome
        if self._left:
            log_after_end(outcome[1])
        self._wake()

    async def get(self) -> Any:
        """In the loop: return the next item."""
        if not self._ahead:
            self._room.release()
        while not self._items:
            if self._outcome is not None:
                result_of(self._outcome)
                return _END
            self._waiter = self._bridge.loop.create_future()
            try:
                if not self._items:
                    await self._waiter
            finally:
                self._waiter = None
        if self._ahead:
            self._room.release()
        return self._items.popleft()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def leave(self) -> None:
        """In the loop: have the thread close the iterator as soon as it can."""
        self._left = True
        self._room.release()


class Blocking(Iterator[Any]):
    """A plain iterator, for threads, over what an asynchronous one gives, driven in one task of the loop.

    Args:
        bridge: of the call.
        make: returns the asynchronous iterator; called in the loop.
        ahead: how many items are taken before they are asked for.
        owned: whether the asynchronous iterator is closed with this one.
    """

    def __init__(self, bridge: Bridge, make: Callable[[], AsyncIterator[Any]], *, ahead: int, owned: bool) -> None:
        self._bridge = bridge
        self._make = make
        self._owned = owned
        self._started = False
        self._over = False
        self._left = False
        self._items: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(ahead)
        self._task: asyncio.Task[Any] | None = None

    def __next__(self) -> Any:
        if self._over:
            raise StopIteration
        if not self._owned and self._bridge.is_over and self._items.empty():
            self._over = True  # a caller that is gone sends nothing more
            self._bridge.told()
            raise CallOverError("the call is over")
        if not self._started:
            self._bridge.check()
            self._started = True
            self._bridge.start(self._pump, self._ended)
        self._bridge.tell(self._room.release)
        outcome = self._items.get()
        self._over = outcome[0] is _END or outcome[1] is not None
        if outcome[0] is _END:
            raise StopIteration
        return self._bridge.heard(outcome)

    async def _pump(self) -> Any:
        self._task = asyncio.current_task()
        items = self._make()
        try:
            while True:
                await self._room.acquire()
                item = await anext(items, _END)
                if item is _END or self._left:
                    return _END
                self._items.put((item, None))
        finally:
            close = getattr(items, "aclose", None)
            if self._owned and close is not None:
                await close()

    def _ended(self, outcome: Outcome) -> None:
        if self._bridge.is_closed:
            log_after_end(outcome[1])  # no thread will come for it
        self._items.put(outcome)

    def close(self) -> None:
        """From a thread: want no more items, and return once the asynchronous iterator is closed."""
        if self._over or not self._started:
            self._over = True
            return
        self._over = True
        self._left = True
        self._bridge.tell(self._cancel)
        while (outcome := self._items.get())[0] is not _END and outcome[1] is None:
            pass

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._room.release()

    def __repr__(self) -> str:
        return f"Blocking({self._make!r}, {'over' if self._over else 'open'})"
