"""What processes asked of the file system, in order, as strace(1) saw it."""

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

_WRITE = ("write", "pwrite64", "writev", "pwritev", "pwritev2", "sendfile", "copy_file_range")
_CUT = ("ftruncate", "fallocate")
_SYNC = ("fsync", "fdatasync", "syncfs", "sync")
_RENAME = ("rename", "renameat", "renameat2")
_LINK = ("link", "linkat", "symlink", "symlinkat", "mknod", "mknodat")
_REMOVE = ("unlink", "unlinkat", "rmdir")
_MAKE = ("mkdir", "mkdirat")
_OPEN = ("open", "openat", "creat")
_TRACED = (*_WRITE, *_CUT, *_SYNC, *_RENAME, *_LINK, *_REMOVE, *_MAKE, *_OPEN)

#: `PID name(arguments) = result`; the two halves of a call that another process's came between are joined before.
_CALL = re.compile(r"^(\d+) +(\w+)\((.*)\) += (-?\d+)(?:<([^>]*)>)?")
_BEGUN = re.compile(r"^(\d+) +(\w+)\((.*?),? *<unfinished \.\.\.>$")
_ENDED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")
_ARGUMENT = re.compile(r'AT_FDCWD(?:<[^>]*>)?|\d+<[^>]*>|"(?:[^"\\]|\\.)*"')
#: `copy_file_range` and `sendfile` name two files.
_SECOND = frozenset({"copy_file_range"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call that went well.

    Attributes:
        pid: who made it.
        kind: `write`, `sync`, `rename`, `make`, `remove` or `open`, which is of files that are made or cut to a size.
        path: what it is about; of a rename, what it was called before; empty for `sync`, which is about all there is.
        target: of a rename, what it is called after.
        began, ended: its place among all beginnings and ends of calls.
        everything: whether it syncs all of a file system.
        made: whether what it opened may not have been there.
        cut: whether what it opened was cut to a size.
        text: the begin of what it writes.
    """

    pid: int
    kind: str
    path: Path
    target: Path | None = None
    began: int = 0
    ended: int = 0
    everything: bool = False
    made: bool = False
    cut: bool = False
    text: str = ""


def why_not() -> str | None:
    """Say why system calls cannot be traced here; None if they can."""
    strace = shutil.which("strace")
    if strace is None:
        return "strace is not here: apt install strace"
    tried = subprocess.run([*command(Path("/dev/null")), "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        return f"strace cannot trace here: {(tried.stderr.splitlines() or ['it said nothing'])[0]}"
    return None


def command(trace: Path) -> Sequence[str]:
    """Return what to put before a command, so that its calls, and those of all that it starts, go to `trace`."""
    names = ",".join(f"?{name}" for name in _TRACED)  # a machine that has no such call has no such line
    # With --seccomp-bpf, calls that are not traced cost nothing.
    return ("strace", "-f", "--seccomp-bpf", "-y", "-qq", "-s", "64", "-e", "signal=none", "-e", f"trace={names}",
            "-o", str(trace))  # fmt: skip


def read(lines: Iterable[str]) -> list[Call]:
    """Return the calls in a trace that change files or sync them, in the order of their ends; not those that failed."""
    return [call for began, ended, line in _whole(lines) for call in _parse(line, began, ended)]


def _whole(lines: Iterable[str]) -> Iterator[tuple[int, int, str]]:
    """Yield each call in one line, and its place: that of its begin, and that of its end."""
    begun: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(lines):
        if match := _BEGUN.match(line):
            begun[match[1]] = number, f"{match[1]} {match[2]}({match[3]}"
        elif match := _ENDED.match(line):
            began, first = begun.pop(match[1])
            yield began, number, first + match[3]
        else:
            yield number, number, line


def _parse(line: str, began: int, ended: int) -> Iterator[Call]:
    match = _CALL.match(line)
    if match is None or int(match[4]) < 0:
        return
    pid, name, arguments = int(match[1]), match[2], match[3]
    paths = list(_paths(name, arguments))
    call = partial(Call, pid=pid, began=began, ended=ended)
    if name == "sync":
        yield call(kind="sync", path=Path(), everything=True)
    elif name in _SYNC:
        yield call(kind="sync", path=paths[0], everything=name == "syncfs")
    elif name in _WRITE:
        text = arguments.partition('"')[2]
        yield call(kind="write", path=paths[1 if name in _SECOND else 0], text=text)
    elif name in _CUT:
        yield call(kind="open", path=paths[0], cut=True)
    elif name in _RENAME:
        yield call(kind="rename", path=paths[0], target=paths[1])
    elif name in _REMOVE:
        yield call(kind="remove", path=paths[0])
    elif name in (*_MAKE, *_LINK):
        yield call(kind="make", path=paths[-1])
    elif name == "creat" or "O_CREAT" in arguments or "O_TRUNC" in arguments:
        made = name == "creat" or "O_CREAT" in arguments
        yield call(kind="open", path=Path(match[5] or paths[0]), made=made, cut="O_TRUNC" in arguments)


def _paths(name: str, arguments: str) -> Iterator[Path]:
    """Yield the paths among a call's arguments, whole: those of open files, and names within open folders."""
    within = Path()
    for argument in _ARGUMENT.findall(arguments):
        if argument.startswith('"'):
            yield within / argument[1:-1]
            within = Path()
        else:
            within = Path(argument.partition("<")[2].removesuffix(">"))
            if name in (*_WRITE, *_CUT, *_SYNC):
                yield within
