"""A lock that goes to those who wait in the order in which they came."""

import threading
from collections import deque


class Turns:
    """Lets one thread after the other do something.

    Python's own lock goes to whoever is quick: a thread that lets go and comes again at once, as one does that decides
    about a large fleet, had it again, and others waited until they gave up.
    """

    def __init__(self) -> None:
        self._own = threading.Lock()
        self._is_taken = False
        self._waiting: deque[threading.Event] = deque()

    def acquire(self, timeout: float) -> bool:
        """Wait for one's turn, for `timeout` seconds at most; False if it has not come."""
        with self._own:
            if not self._is_taken:
                self._is_taken = True
                return True
            mine = threading.Event()
            self._waiting.append(mine)
        if mine.wait(timeout):
            return True
        with self._own:
            if mine.is_set():  # it came at the last moment
                return True
            self._waiting.remove(mine)
            return False

    def release(self) -> None:
        """Give the turn to the one that has waited longest."""
        with self._own:
            if self._waiting:
                self._waiting.popleft().set()
            else:
                self._is_taken = False

    def __repr__(self) -> str:
        return f"Turns({'taken' if self._is_taken else 'free'}, {len(self._waiting)} wait)"
