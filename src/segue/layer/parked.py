"""Calls that wait to go in: how many there may be, and how many bytes of requests they may hold.

What a parked call's caller sends is buffered by gRPC whether anybody reads it or not, up to the window that it
gives the connection, which grows to megabytes on a fast one. So requests are read as they come, and counted.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ParkLimits:
    """How much may wait.

    Attributes:
        wait_s: seconds that a call waits for a version that is not answered yet, if its deadline allows. 0 where
            nobody installs versions: such a call is refused at once. For a gate, calls wait as long as their callers.
        calls: how many calls may wait at once.
        request_bytes: how many bytes of requests they may hold, all together. Of a call that sends several requests,
            the first is held.
    """

    wait_s: float = 30.0
    calls: int = 10_000
    request_bytes: int = 64 << 20


class TooManyParkedError(Exception):
    """A call may not wait here, as too many do already, or hold too much."""


class Waiting:
    """What one call holds while it waits, now or later.

    Attributes:
        size_bytes: of the requests that were read and are held.
    """

    __slots__ = ("_parked", "on_full", "size_bytes", "waiter")

    def __init__(self, parked: "Parked", size_bytes: int = 0) -> None:
        self._parked = parked
        self.size_bytes = size_bytes
        self.waiter: asyncio.Future[None] | None = None
        #: Called if it holds more than there is room for.
        self.on_full: Callable[[], None] = self._fail

    def hold(self, size_bytes: int) -> None:
        """Take note that a request has come, before the call has gone where it goes."""
        self.size_bytes += size_bytes
        if self in self._parked.waiting:
            self._parked.request_bytes += size_bytes
            if self._parked.request_bytes > self._parked.limits.request_bytes:
                self.on_full()

    def reset(self) -> None:
        """Have a call that holds too much fail where it waits."""
        self.on_full = self._fail

    def _fail(self) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(TooManyParkedError())


class Parked:
    """The calls that wait, of one process.

    Attributes:
        waiting: they themselves.
        request_bytes: what they hold.
    """

    def __init__(self, limits: ParkLimits) -> None:
        self.limits = limits
        self.waiting: set[Waiting] = set()
        self.request_bytes = 0

    def check(self) -> None:
        """Make sure that there is room for one more call, and for one more byte.

        Raises:
            TooManyParkedError: there is not.
        """
        if len(self.waiting) >= self.limits.calls or self.request_bytes >= self.limits.request_bytes:
            raise TooManyParkedError

    def enter(self, waiting: Waiting) -> None:
        """Count a call that waits from now on; whoever counts it calls `leave`.

        Raises:
            TooManyParkedError: it may not; it is not counted.
        """
        self.check()
        if self.request_bytes + waiting.size_bytes > self.limits.request_bytes:
            raise TooManyParkedError
        self.waiting.add(waiting)
        self.request_bytes += waiting.size_bytes

    def leave(self, waiting: Waiting) -> None:
        """Do not count a call any more."""
        self.waiting.remove(waiting)
        self.request_bytes -= waiting.size_bytes

    async def wait(self, waiting: Waiting, until: float | None) -> bool:
        """Wait until things are not as they were; return False if it is `until` first, in the loop's time.

        Raises:
            TooManyParkedError: the call may not wait, or its request, which came meanwhile, is too much.
        """
        self.enter(waiting)
        waiting.waiter = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout_at(until):
                await waiting.waiter
        except TimeoutError:
            return False
        finally:
            waiting.waiter = None
            self.leave(waiting)
        return True

    def wake(self) -> None:
        """Have all that wait look again."""
        for waiting in self.waiting:
            if waiting.waiter is not None and not waiting.waiter.done():
                waiting.waiter.set_result(None)

    def __repr__(self) -> str:
        return f"Parked({len(self.waiting)} calls, {self.request_bytes} bytes of requests)"
