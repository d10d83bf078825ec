"""Processes that do pieces of work beside each other, and give what comes of them back in the order of the pieces."""

import multiprocessing
import multiprocessing.connection
import multiprocessing.context
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from segue.errors import PeerError, ReleaseError

#: So many pieces may be done before the one whose turn it is.
_AHEAD = 256


def processors() -> int:
    """Return how many processes can run at once; 1 where none can be forked."""
    if not sys.platform.startswith("linux"):
        return 1
    return len(os.sched_getaffinity(0))


class Workers:
    """Forked processes: they have the author's modules, which a process that starts afresh would not find.

    Each has one piece at a time. Used as a context manager; whatever comes, none outlives it.

    Args:
        count: how many processes.
        work: is given a piece, and returns what comes of it; both can be pickled.
    """

    def __init__(self, count: int, work: Callable[[Any], Any]) -> None:
        self._fork = multiprocessing.get_context("fork")
        self._work = work
        self._processes: dict[multiprocessing.connection.Connection, multiprocessing.context.ForkProcess] = {}
        for _ in range(count):
            self._start()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        for connection, process in self._processes.items():
            process.kill()
            process.join()
            connection.close()

    def results(self, pieces: Iterable[Any]) -> Iterator[Any]:
        """Yield what comes of each piece, in the order of the pieces; they are taken as workers get free.

        Raises:
            PeerError: a worker was killed.
            ReleaseError: a worker ended itself.
        """
        waiting = enumerate(pieces)
        free = list(self._processes)
        at_work: dict[multiprocessing.connection.Connection, int] = {}
        done: dict[int, Any] = {}
        turn, is_over = 0, False
        while True:
            while free and not is_over and (not at_work or max(at_work.values()) < turn + _AHEAD):
                found = next(waiting, None)
                if found is None:
                    is_over = True
                    break
                at_work[free[-1]] = found[0]
                self._send(free.pop(), found[1])
            while turn in done:
                yield done.pop(turn)
                turn += 1
            if not at_work:
                if is_over:
                    return
                continue
            for connection in multiprocessing.connection.wait(list(at_work)):
                assert isinstance(connection, multiprocessing.connection.Connection)
                done[at_work.pop(connection)] = self._receive(connection)
                free.append(connection)

    def _start(self) -> None:
        near, far = self._fork.Pipe()
        process = self._fork.Process(target=self._serve, args=(far, [near, *self._processes]), daemon=True)
        process.start()
        far.close()
        self._processes[near] = process

    def _serve(
        self, pipe: multiprocessing.connection.Connection, others: list[multiprocessing.connection.Connection]
    ) -> None:
        for other in others:
            other.close()  # so that each pipe ends with the process that made the workers
        with suppress(EOFError, ConnectionError):
            while True:
                pipe.send(self._work(pipe.recv()))

    def _send(self, connection: multiprocessing.connection.Connection, piece: Any) -> None:
        try:
            connection.send(piece)
        except ConnectionError:
            raise self._death(connection) from None

    def _receive(self, connection: multiprocessing.connection.Connection) -> Any:
        try:
            return connection.recv()
        except (EOFError, ConnectionError):
            raise self._death(connection) from None

    def _death(self, connection: multiprocessing.connection.Connection) -> PeerError | ReleaseError:
        process = self._processes[connection]
        process.join()
        code = process.exitcode or 0
        if code < 0:
            return PeerError(f"a process that helps with the files was killed by signal {-code}")
        return ReleaseError(
            f"a process that helps with the files ended itself with status {code}: let it return instead"
        )
