"""Runs a release's transform, in a process of its own: `python -m segue.release.transform`.

The node's agent starts it before the old object goes quiet, with one line of JSON on stdin (`order.Preparation`): all
is imported, and `report` tells of it. The second line (`order.Order`) says where the state is, and the transform
runs. A failure is exit status 1, or 75 if it may pass, a traceback on stderr and last of all one line that sums it
up. What the author's code prints goes to stderr. From before its first line on, that code can write only below
the new folders. Safe to run again after a crash: each time begins in an empty folder.
"""

import contextlib
import errno
import inspect
import os
import resource
import shutil
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from segue.author import TransformContext
from segue.errors import OperatorError, PeerError, ReleaseError, SegueError, is_passing
from segue.release.confine import Guard, confine
from segue.release.durable import sync_tree
from segue.release.leash import Leash
from segue.release.links import Links
from segue.release.modules import LoadedRelease
from segue.release.order import Order, Preparation, check_apart
from segue.release.report import Report

#: The exit status when the machine is to blame, and to try again may help (EX_TEMPFAIL, sysexits(3)).
PASSING = 75

#: SQLite's codes of what `errors.is_passing` calls so of a machine, and what they are there: no memory, a disk that
#: fails, no room.
_SQLITE = {7: errno.ENOMEM, 10: errno.EIO, 13: errno.ENOSPC}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A transform that can begin at once: all is imported, and it can write only below its new folders.

    Attributes:
        guard: what keeps it from writing elsewhere.
        preparation: what it was made from.
        release: the author's code.
        function: the transform itself.
        unconfined: runs in a thread that may link files of the old state.
        since: a descriptor from before the first write, for `sync_tree`.
    """

    guard: Guard
    preparation: Preparation
    release: LoadedRelease
    function: Callable[..., Any]
    unconfined: ThreadPoolExecutor
    since: int


def prepare(preparation: Preparation) -> Prepared:
    """Import all that the transform needs; from here on this process can write only below `preparation.work`.

    Raises:
        ReleaseError: the release does not import, or its transform is no plain function.
        OperatorError: the folders are within each other.
        OSError, MemoryError: the machine cannot.
    """
    check_apart(preparation.work, preparation.release, preparation.previous)
    _make_empty(preparation.work)
    for folder in (preparation.new, preparation.past, preparation.scratch):
        folder.mkdir()
    since = os.open(preparation.work, os.O_RDONLY)
    os.environ["TMPDIR"], tempfile.tempdir = str(preparation.scratch), None
    unconfined = ThreadPoolExecutor(1)
    # Its thread is there before the confinement, which binds this one.
    free = unconfined.submit(threading.get_ident).result()
    if preparation.memory_mib is not None:
        _limit_memory(preparation.memory_mib << 20)
    guard = confine(preparation.work, free=(free,))
    version, reference = preparation.version, preparation.transform
    before = preparation.previous
    previous = LoadedRelease(before, preparation.previous_version) if before is not None else None
    release = LoadedRelease(preparation.release, version, previous=previous)
    function = release.resolve(reference)
    if not callable(function) or _is_deferred(function):
        raise ReleaseError(
            f"{reference} of release {version} is {_kind(function)}: a transform is a plain function "
            f"`def transform(old, new, context)` that has done its work when it returns"
        )
    return Prepared(
        guard=guard,
        preparation=preparation,
        release=release,
        function=function,
        unconfined=unconfined,
        since=since,
    )


def run(prepared: Prepared, order: Order, report: Report) -> int:
    """Run the transform, and have on disk what it wrote.

    Args:
        prepared: the transform.
        order: where the state is.
        report: is told of progress.

    Returns:
        The size of what the transform made for the object and the past simulation, in bytes.

    Raises:
        ReleaseError: it failed; the message names the author's file and line, and `__cause__` is the failure.
        PeerError: it failed since the machine could not; likewise.
        OperatorError: the folders are within each other.
        OSError: the machine cannot keep what was written.
    """
    at = prepared.preparation
    check_apart(at.work, order.old, order.simulation)
    sources = [folder for folder in (order.old, order.simulation) if folder is not None]
    links = Links(at.work / "links", sources=sources, targets=(at.new, at.past))
    context = TransformContext(
        from_version=at.previous_version,
        to_version=at.version,
        simulation=order.simulation,
        past=at.past,
        take_progress=report.take_progress,
        make_link=links.ask,
    )
    report.begin()
    try:
        result = prepared.function(order.old, at.new, context)
        _refuse_deferred(result)
        prepared.unconfined.submit(links.make).result()
        for folder in (at.new, at.past):
            if folder.is_symlink() or not folder.is_dir():
                raise ReleaseError(f"the transform took {folder} away, which it should fill")
    except (Exception, SystemExit) as error:
        raise _explained(prepared, error) from error
    links.close()
    report.tell_progress()
    if at.memory_mib is not None:
        _limit_memory(resource.RLIM_INFINITY)  # the stacks of threads that sync are none of the author's memory
    return sum(sync_tree(folder, since=prepared.since) for folder in (at.new, at.past))


def main() -> int:
    """Do what stdin orders, and return the process's exit status."""
    with _stdout_kept() as answer:
        report, memory_mib = Report(answer), None
        try:
            leash = Leash()
            preparation = Preparation.from_json(leash.first())
            memory_mib = preparation.memory_mib
            leash.hold(to_death=preparation.leash)
            prepared = prepare(preparation)
            report.say("ready", guard=prepared.guard)
            size_bytes = run(prepared, Order.from_json(leash.next()), report)
        except (SegueError, OSError, MemoryError) as error:
            if memory_mib is not None:
                _limit_memory(resource.RLIM_INFINITY)  # what is said now must not fail for it
            traceback.print_exception(error)
            said = " ".join(str(error).split()) or type(error).__name__
            print(f"{said}{_advice(error.__cause__ or error, memory_mib)}", file=sys.stderr, flush=True)
            return PASSING if is_passing(error) else 1
        report.say("done", size_bytes=size_bytes)
    return 0


def _explained(prepared: Prepared, error: BaseException) -> SegueError:
    """Return what is said of a transform that failed: where, and whose it is."""
    release, reference = prepared.release, prepared.preparation.transform
    what = str(error) if isinstance(error, SegueError) else release.describe(error)
    where = f"{release.where(error) or reference}: {what}"
    if isinstance(error, OperatorError) or is_passing(error) or _number(error) in _SQLITE.values():
        return PeerError(where)
    return ReleaseError(f"{where} (in {reference} of release {release.version}); correct the transform")


def _advice(error: BaseException, memory_mib: int | None) -> str:
    """Return what else helps to know of a failure; nothing if there is nothing."""
    number = _number(error)
    if memory_mib is not None and (isinstance(error, MemoryError) or number == errno.ENOMEM):
        return (
            f"; each process of a transform may use {memory_mib} MiB (--transform-memory-mib): "
            "allow more, or have it hold less at a time"
        )
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "; make room on the disk of the state folder, or raise --disk-reserve-mib so that it is noticed before"
    if number == errno.EXDEV:
        return "; a file of the old state is linked by context.link(source, target)"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS) and isinstance(error, OSError):
        return "; a transform can write only below its new folder and context.past, and to temporary files"
    return ""


def _number(error: BaseException) -> int | None:
    """Return the error's number as the operating system counts them; None if it has none."""
    if isinstance(error, OSError):
        return error.errno
    # Asked by name: the module need not be there, and any of SQLite's modules has it.
    code = getattr(error, "sqlite_errorcode", None)
    return _SQLITE.get(code & 0xFF) if isinstance(code, int) else None


def _limit_memory(limit_bytes: int) -> None:
    """Let this process, and each that it starts, have so much memory of its own; files that are mapped do not count."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = hard if limit_bytes == resource.RLIM_INFINITY else limit_bytes
    if hard != resource.RLIM_INFINITY:
        soft = min(soft, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _refuse_deferred(result: object) -> None:
    if not inspect.isawaitable(result):
        return
    if inspect.iscoroutine(result):
        result.close()
    raise ReleaseError("it returned something to be awaited: a transform is a plain function that is done then")


def _is_deferred(transform: Callable[..., Any]) -> bool:
    """Say whether calling it would only make something that is to be run later."""
    return (
        inspect.iscoroutinefunction(transform)
        or inspect.isgeneratorfunction(transform)
        or inspect.isasyncgenfunction(transform)
    )


def _kind(transform: object) -> str:
    if inspect.iscoroutinefunction(transform):
        return "a coroutine function"
    return "a generator function" if callable(transform) else f"of type {type(transform).__name__}"


def _make_empty(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextlib.contextmanager
def _stdout_kept() -> Iterator[TextIO]:
    """Keep stdout for the answer: what else is written there, also by C code and children, goes to stderr."""
    sys.stdout.flush()
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with answer:
        yield answer


if __name__ == "__main__":
    sys.exit(main())
