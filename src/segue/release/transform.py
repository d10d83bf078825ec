"""Runs a release's transform, in a process of its own: `python -m segue.release.transform`.

The node's agent starts it with the old object's folder quiet, gives it one line of JSON on stdin, and
gets `{"size_bytes": N}` on stdout once all that the transform wrote is on disk. A failure is exit status
1, or 75 if it may pass, a traceback on stderr and last of all one line that sums it up. What the author's
code prints goes to stderr. Safe to run again after a crash: it begins with empty folders each time.
"""

import contextlib
import inspect
import json
import os
import shutil
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from segue.author import TransformContext
from segue.errors import OperatorError, ReleaseError, SegueError, is_passing
from segue.model.ids import Version
from segue.release.durable import sync_tree
from segue.release.modules import LoadedRelease

#: The exit status when the machine is to blame, and to try again may help (EX_TEMPFAIL, sysexits(3)).
PASSING = 75

_STDIN = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to transform, as the agent says it.

    Attributes:
        release: the folder of the release that the transform leads to.
        version: its version.
        previous: the folder of the release that wrote `old`; None to use what the release brought along.
        previous_version: its version.
        transform: `MODULE:NAME` in the release.
        old: the old object's state, to be read.
        new: where the new object's state goes; what is there is removed first.
        simulation: the future simulation's state, to be read; None if none was installed.
        past: where the past simulation's state goes; what is there is removed first.
        leash: True if stdin stays open as long as the work is wanted.
    """

    release: Path
    version: Version
    previous: Path | None
    previous_version: Version
    transform: str
    old: Path
    new: Path
    simulation: Path | None
    past: Path
    leash: bool = False

    @classmethod
    def from_json(cls, text: str) -> "Order":
        """Return the order that `text` is.

        Raises:
            OperatorError: it is no such document, or its folders are within each other.
        """
        try:
            data = json.loads(text)
            order = cls(
                version=Version(int(data["version"])),
                previous_version=Version(int(data["previous_version"])),
                transform=str(data["transform"]),
                leash=bool(data.get("leash", False)),
                previous=_optional(data["previous"]),
                simulation=_optional(data["simulation"]),
                **{name: Path(data[name]) for name in ("release", "old", "new", "past")},
            )
        except (ValueError, KeyError, TypeError) as error:
            raise OperatorError(f"stdin holds no order for a transform: {type(error).__name__}: {error}") from error
        order.check_folders()
        return order

    def check_folders(self) -> None:
        """Refuse an order whose written folders would take away what is read, or each other.

        Raises:
            OperatorError: one is, or is within, another.
        """
        read = [path for path in (self.release, self.previous, self.old, self.simulation) if path is not None]
        for written, others in ((self.new, [*read, self.past]), (self.past, read)):
            for other in others:
                one, two = written.resolve(), other.resolve()
                if one == two or one in two.parents or two in one.parents:
                    raise OperatorError(f"a transform cannot write {written}, which is not apart from {other}")


def run(order: Order) -> int:
    """Run the transform into empty folders, and have on disk what it wrote.

    Returns:
        The size of what is in `new` and `past`, in bytes.

    Raises:
        ReleaseError: the release does not import, its transform is no plain function, or it failed; then
            the message names the author's file and line, and `__cause__` is the failure.
        OSError: the machine cannot write there.
    """
    previous = LoadedRelease(order.previous, order.previous_version) if order.previous is not None else None
    release = LoadedRelease(order.release, order.version, previous=previous)
    transform = release.resolve(order.transform)
    if not callable(transform) or _is_deferred(transform):
        raise ReleaseError(
            f"{order.transform} of release {order.version} is {_kind(transform)}: a transform is a plain function "
            f"`def transform(old, new, context)` that has done its work when it returns"
        )
    for folder in (order.new, order.past):
        _make_empty(folder)
    context = TransformContext(
        from_version=order.previous_version,
        to_version=order.version,
        simulation=order.simulation,
        past=order.past,
    )
    _call(release, order, transform, context)
    return sum(sync_tree(folder) for folder in (order.new, order.past))


def main() -> int:
    """Do what stdin orders, and return the process's exit status."""
    with _stdout_kept() as answer:
        try:
            order = Order.from_json(sys.stdin.readline())
            if order.leash:
                threading.Thread(target=_end_with_the_agent, daemon=True).start()
            size_bytes = run(order)
        except (SegueError, OSError, MemoryError) as error:
            traceback.print_exception(error)
            print(" ".join(str(error).split()) or type(error).__name__, file=sys.stderr, flush=True)
            return PASSING if is_passing(error) else 1
        print(json.dumps({"size_bytes": size_bytes}), file=answer, flush=True)
    return 0


def _end_with_the_agent() -> None:
    """End this process when stdin is closed, as it is when the agent dies: nobody waits for the work any more."""
    while os.read(_STDIN, 1):  # not through sys.stdin, whose lock would keep the interpreter from ending
        pass
    os._exit(1)


def _call(release: LoadedRelease, order: Order, transform: Callable[..., Any], context: TransformContext) -> None:
    try:
        result = transform(order.old, order.new, context)
    except (Exception, SystemExit) as error:
        if is_passing(error):
            raise
        raise ReleaseError(
            f"{release.where(error) or order.transform}: {release.describe(error)} "
            f"(in {order.transform} of release {order.version}); correct the transform"
        ) from error
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise ReleaseError(
            f"{order.transform} of release {order.version} returned something to be awaited: a transform is a "
            f"plain function that has done its work when it returns"
        )


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
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def _optional(path: str | None) -> Path | None:
    return None if path is None else Path(path)


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
