"""Threads in which plain functions of authors run, so that the event loop never waits for them."""

import asyncio
import logging
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeAlias
from weakref import WeakKeyDictionary

_log = logging.getLogger(__name__)

Job: TypeAlias = Callable[[], None]


class Workers:
    """Threads that are started when there is a job and none is idle, and are used again.

    Calls wait for their turn in `turn`, a limited number being in theirs at once. A job never waits: what a
    call that has its turn calls in its turn is done at once, so that calls never wait for each other in a ring.

    Args:
        limit: how many calls of an event loop may be in threads at once; so many threads are kept when idle.
    """

    def __init__(self, limit: int = 64) -> None:
        self.limit = limit
        self._idle: list[queue.SimpleQueue[Job | None]] = []
        self._lock = threading.Lock()
        #: How often `close` was called: threads that were started before end when they are idle.
        self._closed = 0
        self._turns: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

    def turn(self) -> asyncio.Semaphore:
        """Return what a call of the running event loop enters to have its turn."""
        loop = asyncio.get_running_loop()
        turns = self._turns.get(loop)
        if turns is None:
            turns = self._turns[loop] = asyncio.Semaphore(self.limit)
        return turns

    def submit(self, job: Job) -> None:
        """Have `job` done in a thread, at once; it must not raise."""
        with self._lock:
            jobs = self._idle.pop() if self._idle else None
        if jobs is None:
            jobs = queue.SimpleQueue()
            work = partial(self._work, jobs, self._closed)
            # A daemon, since a method that never returns must not keep a process that was told to end.
            threading.Thread(target=work, name="segue-worker", daemon=True).start()
        jobs.put(job)

    def _work(self, jobs: "queue.SimpleQueue[Job | None]", closed: int) -> None:
        while True:
            job = jobs.get()
            if job is None:
                return
            try:
                job()
            except BaseException:
                _log.exception("a job of a worker failed")
            del job
            with self._lock:
                if closed != self._closed or len(self._idle) >= self.limit:
                    return
                self._idle.append(jobs)

    def close(self) -> None:
        """End the threads that are idle now, and those at work after their jobs; later jobs have new threads."""
        with self._lock:
            self._closed += 1
            idle, self._idle = self._idle, []
        for jobs in idle:
            jobs.put(None)

    def __repr__(self) -> str:
        return f"Workers(limit={self.limit}, {len(self._idle)} idle)"


#: The workers of this process.
WORKERS = Workers()
