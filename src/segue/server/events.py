"""A stream of what happens to a system, for watchers: server-sent events, as the HTML standard has them.

Each watcher reads the history from where it is, a page at a time, and the next page when its connection has taken the
last: so a slow one costs a page of memory, misses nothing, and is in nobody's way. As the history is the database's,
all servers of one database give the same stream, and a watcher that comes back goes on at any of them.
"""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from datetime import datetime
from typing import Any, Protocol

from starlette.concurrency import run_in_threadpool

from segue.errors import PeerError
from segue.model.ids import NodeId, SystemName, Version

logger = logging.getLogger(__name__)

#: What is read at once, and all of it that a watcher holds in memory. An event is about 300 bytes.
PAGE = 100
#: How soon what another server wrote is seen.
POLL_S = 1.0
#: What this server writes is seen at once, but not more often than so.
GAP_S = 0.1
#: Proxies close connections on which nothing comes for a minute, some sooner.
KEEP_ALIVE_S = 15.0
#: How soon a watcher comes back whose connection ended, in milliseconds.
RETRY_MS = 2000
#: Each watcher has a connection and a page: beyond so many, a server would rather grant permits.
WATCHERS_LIMIT = 1000
#: The event that says: what you know is not of this history, so look at the status again.
RESET = "reset"


class Change(Protocol):
    """One thing that happened."""

    @property
    def number(self) -> int:
        """Its place in the system's history: later ones have greater numbers."""
        ...

    @property
    def at(self) -> datetime:
        """When: aware, UTC."""
        ...

    @property
    def kind(self) -> str:
        """What, in a word of the history's."""
        ...

    @property
    def node(self) -> NodeId | None:
        """The node that it is about."""
        ...

    @property
    def version(self) -> Version | None:
        """The release that it is about."""
        ...

    @property
    def who(self) -> str:
        """The operator who did it; empty if none did."""
        ...

    @property
    def text(self) -> str:
        """The same in words, or why."""
        ...

    @property
    def details(self) -> Mapping[str, Any]:
        """What else there is, as JSON has it."""
        ...


class Changes(Protocol):
    """The history of systems. It is read in threads, and may raise `PeerError`."""

    def history(self, system: SystemName, *, after: int = 0, limit: int = PAGE) -> Sequence[Change]:
        """Return what has greater numbers than `after`, the oldest first, `limit` of it at most.

        What is seen comes in the order of its numbers: nothing with a smaller one comes later. Old changes may go.
        """
        ...


def last_number(changes: Changes, system: SystemName) -> int:
    """Return the number of the last change, 0 if there is none: by some dozens of quick looks, for any length."""

    def is_beyond(number: int) -> bool:
        return not changes.history(system, after=number, limit=1)

    if is_beyond(0):
        return 0
    step = 1
    while not is_beyond(step):
        step *= 2
    low, high = step // 2, step  # something is after `low`, nothing after `high`
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_beyond(middle) else (middle, high)
    return high


class Events:
    """The streams of one server; it lives in one event loop.

    Args:
        changes: the history.
        count: is told of each stream that begins (1) and ends (-1).
        poll_s: seconds between two looks at the history, for what other servers wrote.
        gap_s: seconds between two looks at least, however much this server writes.
        keep_alive_s: seconds in which something is sent, so that nobody takes the connection for dead.
        watchers_limit: streams at once.
    """

    def __init__(
        self,
        changes: Changes,
        *,
        count: Callable[[int], object] = lambda _: None,
        poll_s: float = POLL_S,
        gap_s: float = GAP_S,
        keep_alive_s: float = KEEP_ALIVE_S,
        watchers_limit: int = WATCHERS_LIMIT,
    ) -> None:
        self._changes = changes
        self._count = count
        self._poll_s = poll_s
        self._gap_s = gap_s
        self._keep_alive_s = keep_alive_s
        self._limit = watchers_limit
        self._open = 0
        self._has_ended = False
        self._rung = asyncio.Event()
        self._rings = 0
        self._tails: dict[SystemName, _Tail] = {}

    def ring(self) -> None:
        """Have watchers look: this server may have written something."""
        self._rings += 1
        self._rung.set()
        self._rung = asyncio.Event()

    def end(self) -> None:
        """End all streams, as the server stops; their watchers come back, here or at another server."""
        self._has_ended = True
        self.ring()

    async def watch(self, system: SystemName, after: int | None) -> AsyncGenerator[bytes, None]:
        """Begin a stream, and return what it sends.

        Args:
            system: which.
            after: the number of the last event that the watcher has; None for those from now on.

        Raises:
            PeerError: there are too many, or the history cannot be read now.
        """
        if self._open >= self._limit:
            raise PeerError(f"{self._open} watchers have a stream of events here: try again later", retry_after_s=10)
        last = await run_in_threadpool(last_number, self._changes, system)
        return self._stream(system, last, last if after is None else after)

    async def _stream(self, system: SystemName, last: int, after: int) -> AsyncGenerator[bytes, None]:
        self._open += 1
        self._count(1)
        try:
            yield _opening(min(after, last))
            if after > last:
                yield _frame(last, RESET, {"system": system, "asked_after": after, "last": last})
                after = last
            async with aclosing(self._follow(system, after)) as pages:
                async for page in pages:
                    yield page
        finally:
            self._open -= 1
            self._count(-1)
            if not self._open:
                self._tails.clear()

    async def _follow(self, system: SystemName, after: int) -> AsyncGenerator[bytes, None]:
        """Send pages as they come, for ever; something is sent now and then."""
        loop = asyncio.get_running_loop()
        tail = self._tails.setdefault(system, _Tail())
        sent_at = loop.time()
        while not self._has_ended:
            rung, looked_at = self._rung, loop.time()
            page = await self._page(system, after, tail, self._rings)
            if page:
                yield b"".join(_frame(one.number, str(one.kind), _data(system, one)) for one in page)
                after, sent_at = page[-1].number, loop.time()
                continue
            if loop.time() - sent_at >= self._keep_alive_s:
                yield b": still here\n\n"
                sent_at = loop.time()
            await self._wait(rung, looked_at)

    async def _page(self, system: SystemName, after: int, tail: "_Tail", rings: int) -> Sequence[Change]:
        """Return what comes next: read once for all who are at the same place, as nearly all are.

        Args:
            system: whose history.
            after: where the watcher is.
            tail: what was last read.
            rings: what was written here until the last of so many rings must be seen.
        """
        async with tail.one_reads:
            now, rings_now = asyncio.get_running_loop().time(), self._rings
            is_fresh = tail.rings >= rings and now - tail.read_at < self._poll_s / 2
            if is_fresh and tail.after == after:
                return tail.page
            try:
                page = await run_in_threadpool(self._changes.history, system, after=after, limit=PAGE)
                tail.is_away = False
            except PeerError as error:  # watchers wait for the database as nodes do
                if not tail.is_away:
                    logger.warning("the events of %s cannot be read, and it is tried again: %s", system, error)
                page, tail.is_away = (), True
            tail.after, tail.page, tail.read_at, tail.rings = after, page, now, rings_now
            return page

    async def _wait(self, rung: asyncio.Event, looked_at: float) -> None:
        """Wait until there may be something new."""
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError):
            async with asyncio.timeout_at(looked_at + self._poll_s):
                await rung.wait()
        if not self._has_ended:
            await asyncio.sleep(max(0.0, looked_at + self._gap_s - loop.time()))

    def __repr__(self) -> str:
        return f"Events({self._open} watchers{', ended' if self._has_ended else ''})"


class _Tail:
    """What was last read of a system's history, for all who watch it.

    Attributes:
        one_reads: held while it is read.
        after: after which number it was read.
        page: what was found.
        read_at: when that began, in the loop's time.
        rings: how often it had rung by then.
        is_away: whether the database did not answer.
    """

    def __init__(self) -> None:
        self.one_reads = asyncio.Lock()
        self.after = -1
        self.page: Sequence[Change] = ()
        self.read_at = 0.0
        self.rings = -1
        self.is_away = False


def _opening(after: int) -> bytes:
    """Say where the stream begins, so that a watcher that comes back before the first event misses none."""
    return f"retry: {RETRY_MS}\nid: {after}\n\n".encode()


def _frame(number: int, kind: str, data: Mapping[str, Any]) -> bytes:
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()


def _data(system: SystemName, change: Change) -> Mapping[str, Any]:
    return {
        "system": system,
        "number": change.number,
        "at": change.at.isoformat(),
        "kind": str(change.kind),
        "node": change.node,
        "version": change.version,
        "who": change.who,
        "text": change.text,
        "details": dict(change.details),
    }
