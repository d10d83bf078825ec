"""Turns a folder of many files into another one, several files at once."""

import os
import stat
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from threading import Event
from typing import Any, TypeVar

from segue.author import TransformContext
from segue.errors import PeerError, ReleaseError, SegueError, is_passing
from segue.states.workers import Workers, processors

Result = TypeVar("Result")

#: A piece of work for one process: some milliseconds, so that handing it over costs little beside it.
_PIECE_FILES = 64
_PIECE_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class _File:
    """A file by its path below the folder, and its size."""

    path: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class _Failure:
    """What the function raised, as far as it crosses between processes."""

    message: str
    details: str
    number: int | None
    is_memory: bool
    is_passing: bool

    def as_error(self) -> Exception:
        """Return an error of the same family, with the traceback of the other process as its cause."""
        error: Exception
        if self.is_memory:
            error = MemoryError(self.message)
        elif self.is_passing:
            error = PeerError(self.message) if self.number is None else OSError(self.number, self.message)
        else:
            error = ReleaseError(self.message)
        error.__cause__ = _ElsewhereError(self.details)
        return error


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of a piece: the function's results, in order, and what ended it before its end."""

    results: list[Any]
    failure: _Failure | None


class _ElsewhereError(Exception):
    """The traceback of a failure in another process, for the log."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def transform_files(
    old: Path,
    new: Path,
    function: Callable[[Path, Path], Result],
    *,
    context: TransformContext,
    collect: Callable[[Path, Result], None] | None = None,
    workers: int | None = None,
) -> None:
    """Call `function(source, target)` for every file below `old`, several at once.

    `target` is the same path below `new`; its folder is there, it is not. What the function writes is up to it: the
    target, a file of another name beside it, or nothing. `context.link(source, target)` has the file as it is.
    Folders are made and symbolic links taken over beforehand; sockets, pipes and devices are left out.

    The function runs in other processes, forked from this one: it sees what was imported and opened before, but what
    it changes in memory is lost. What it returns goes to `collect`, here. If it raises, no further files are begun,
    and of several failures the one whose file comes first is raised. However many files there are, only some are in
    memory at once, and the names in one folder.

    Args:
        old: a folder of the old state.
        new: where the new files go; made if it is missing.
        function: makes the new file of an old one.
        context: what the transform was given; it is told of files and bytes.
        collect: called as `collect(source, result)` for each file, by folder and name in order; the result is pickled.
        workers: how many processes; None for one for each processor, 1 for none but this one.

    Raises:
        ReleaseError: the function raised; the message names the file, and the function's line.
        PeerError, OSError, MemoryError: the machine could not.
    """
    work = _Work(old, new, function)
    pieces = _pieces(_walk(old, new))
    first = list(islice(pieces, 2))
    count = min(workers or processors(), sum(len(piece) for piece in first))
    every = chain(first, pieces)
    finish = _Finish(old, context, collect)
    if count <= 1:
        finish.expect(_count(old, Event()))
        for piece in every:
            finish(piece, work(piece))
        return
    given: deque[list[_File]] = deque()

    def giving() -> Iterator[list[_File]]:
        for piece in every:
            given.append(piece)
            yield piece

    # The workers first: to fork is safest before there are threads. The total becomes known while they work.
    with Workers(count, work) as helpers, ThreadPoolExecutor(1) as beside:
        is_over = Event()
        total = beside.submit(_count, old, is_over)
        try:
            for outcome in helpers.results(giving()):
                if total.done():
                    finish.expect(total.result())
                finish(given.popleft(), outcome)
        finally:
            is_over.set()


class _Work:
    """What is done with a piece, in whichever process."""

    def __init__(self, old: Path, new: Path, function: Callable[[Path, Path], Any]) -> None:
        self._old, self._new, self._function = old, new, function

    def __call__(self, piece: list[_File]) -> _Outcome:
        results = []
        for file in piece:
            try:
                results.append(self._function(self._old / file.path, self._new / file.path))
            except Exception as error:
                return _Outcome(results, self._failure(file, error))
        return _Outcome(results, None)

    def _failure(self, file: _File, error: Exception) -> _Failure:
        what = str(error) if isinstance(error, SegueError) else f"{type(error).__name__}: {error}".removesuffix(": ")
        number = error.errno if isinstance(error, OSError) else None
        return _Failure(
            message=f"{file.path}: {what}{self._where(error)}",
            details="".join(traceback.format_exception(error)),
            number=number,
            is_memory=isinstance(error, MemoryError),
            is_passing=is_passing(error),
        )

    def _where(self, error: Exception) -> str:
        """Say at which line of the function's own file it failed."""
        code = getattr(self._function, "__code__", None)
        lines = [
            f" (at {frame.f_code.co_filename}:{line})"
            for frame, line in traceback.walk_tb(error.__traceback__)
            if code is not None and frame.f_code.co_filename == code.co_filename
        ]
        return lines[-1] if lines else ""


class _Finish:
    """Takes what came of the pieces, in order: hands results over, raises failures, tells progress."""

    def __init__(self, old: Path, context: TransformContext, collect: Callable[[Path, Any], None] | None) -> None:
        self._old, self._context, self._collect = old, context, collect
        self._items = self._bytes = 0

    def expect(self, total: tuple[int, int]) -> None:
        """Take note of how many files and bytes there are."""
        self._context.progress(items_total=total[0], bytes_total=total[1])

    def __call__(self, piece: list[_File], outcome: _Outcome) -> None:
        if self._collect is not None:
            for file, result in zip(piece, outcome.results, strict=False):
                self._collect(self._old / file.path, result)
        if outcome.failure is not None:
            raise outcome.failure.as_error()
        self._items += len(piece)
        self._bytes += sum(file.size_bytes for file in piece)
        self._context.progress(items_done=self._items, bytes_done=self._bytes)


def _walk(old: Path, new: Path) -> Iterator[_File]:
    """Yield the files below `old`, by folder and name in order; folders and links are made in `new` on the way."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        (new / folder).mkdir(parents=True, exist_ok=True)
        below = []
        for name in sorted(os.listdir(old / folder)):
            path = f"{folder}/{name}" if folder else name
            found = os.lstat(old / path)
            if stat.S_ISREG(found.st_mode):
                yield _File(path, found.st_size)
            elif stat.S_ISDIR(found.st_mode):
                below.append(path)
            elif stat.S_ISLNK(found.st_mode):
                os.symlink(os.readlink(old / path), new / path)
        waiting.extend(reversed(below))


def _count(folder: Path, is_over: Event) -> tuple[int, int]:
    """Return how many files there are below `folder`, and how many bytes in them, unless it `is_over` before."""
    items = size_bytes = 0
    waiting = [os.fspath(folder)]
    while waiting and not is_over.is_set():
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    items += 1
                    size_bytes += entry.stat(follow_symlinks=False).st_size
    return items, size_bytes


def _pieces(files: Iterable[_File]) -> Iterator[list[_File]]:
    piece: list[_File] = []
    size_bytes = 0
    for file in files:
        piece.append(file)
        size_bytes += file.size_bytes
        if len(piece) >= _PIECE_FILES or size_bytes >= _PIECE_BYTES:
            yield piece
            piece, size_bytes = [], 0
    if piece:
        yield piece
