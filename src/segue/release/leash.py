"""Stdin of a process that works for another one: lines of orders, and a leash that ends it with who gives them."""

import os
import signal
import threading
from queue import SimpleQueue


class Leash:
    """What comes in on stdin.

    The process's own stdin is /dev/null from then on: neither the author's code nor what it starts can take orders
    away, or hold the pipe.
    """

    def __init__(self) -> None:
        self._pipe = os.dup(0)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        # Of this kind since no lock of it can be held while another thread forks.
        self._lines: SimpleQueue[str] = SimpleQueue()
        self._rest = b""

    def first(self) -> str:
        """Return the first line, once it is there."""
        return self._read_line()

    def hold(self, *, to_death: bool) -> None:
        """Read on beside the work; call it once.

        Args:
            to_death: end this process, and all of its group if it leads one, when the other end is closed: nobody
                waits for the work any more. Else what is not there is read as an empty line.
        """
        threading.Thread(target=self._read_on, args=(to_death,), daemon=True).start()

    def next(self) -> str:
        """Return the next line, once it is there."""
        return self._lines.get()

    def _read_on(self, to_death: bool) -> None:
        while line := self._read_line():
            self._lines.put(line)
        if not to_death:
            self._lines.put("")
            return
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    def _read_line(self) -> str:
        while b"\n" not in self._rest:
            more = os.read(self._pipe, 1 << 16)
            if not more:
                line, self._rest = self._rest, b""
                return line.decode()
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode() + "\n"
