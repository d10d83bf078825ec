"""What a transform's process tells the agent: lines of JSON, each an object with one key.

`{"ready": {"guard": "kernel"}}` when all is imported, `{"progress": {…}}` about five times a second,
`{"done": {"size_bytes": N}}` once all that the transform wrote is on disk.
"""

import json
import math
import time
from collections.abc import Callable
from typing import TextIO

#: Seconds between two reports of progress: people read them.
_EVERY_S = 0.2


class Report:
    """The end of the pipe that the agent reads.

    Args:
        pipe: where the lines go.
        clock: seconds that only grow.
    """

    def __init__(self, pipe: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._pipe = pipe
        self._clock = clock
        self._began_s = self._next_s = clock()
        self._items_done, self._bytes_done = 0, 0
        self._items_total: int | None = None
        self._bytes_total: int | None = None
        self._unsaid = False

    def say(self, what: str, **facts: object) -> None:
        """Tell the agent."""
        # One write, so that lines of processes that the transform forked do not mix with ours.
        self._pipe.write(json.dumps({what: facts}) + "\n")
        self._pipe.flush()

    def begin(self) -> None:
        """Take note that the work begins: the time that is left is estimated from now on."""
        self._began_s = self._next_s = self._clock()

    def take_progress(
        self,
        *,
        items_done: int | None = None,
        items_total: int | None = None,
        bytes_done: int | None = None,
        bytes_total: int | None = None,
    ) -> None:
        """Note how far the work is, and tell if it is time to; see `TransformContext.progress`."""
        if items_done is not None:
            self._items_done = items_done
        if items_total is not None:
            self._items_total = items_total
        if bytes_done is not None:
            self._bytes_done = bytes_done
        if bytes_total is not None:
            self._bytes_total = bytes_total
        self._unsaid = True
        now_s = self._clock()
        if now_s >= self._next_s:
            self._next_s = now_s + _EVERY_S
            self.tell_progress()

    def tell_progress(self) -> None:
        """Tell what was not told yet."""
        if not self._unsaid:
            return
        self._unsaid = False
        self.say(
            "progress",
            items_done=_count(self._items_done),
            items_total=_total(self._items_total),
            bytes_done=_count(self._bytes_done),
            bytes_total=_total(self._bytes_total),
            elapsed_s=self._clock() - self._began_s,
        )


def _count(number: float) -> int:
    """Return what an author counted as a whole number from 0: no transform fails for how it counts."""
    return max(0, int(number)) if math.isfinite(number) else 0


def _total(number: float | None) -> int | None:
    """Return how much an author said there is; None if that is no number, as what a division by nothing leaves."""
    return None if number is None or not math.isfinite(number) else _count(number)
