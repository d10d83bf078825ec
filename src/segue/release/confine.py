"""Lets a process write only below folders of its own, so that an author's mistake cannot change the old state.

Linux's Landlock does it, also for what the process starts (landlock(7)). Where the kernel has none, a hook in
Python refuses what Python code does: weaker, since C code and other programs pass it by.
"""

import ctypes
import errno
import os
import struct
import sys
import threading
from collections.abc import Callable, Collection, Iterable
from enum import StrEnum
from pathlib import Path
from typing import Any

_SYS_CREATE_RULESET, _SYS_ADD_RULE, _SYS_RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

_WRITE_FILE, _TRUNCATE, _REFER = 1 << 1, 1 << 14, 1 << 13
#: Removing (4, 5) and making (6 to 12): only folders have these rights.
_NAMES = sum(1 << bit for bit in range(4, 13))

#: Before this version of Landlock, no file could go from one folder to another, not even within the writable ones.
_ABI_REFER = 2
#: From this one on, truncate(2) is refused too.
_ABI_TRUNCATE = 3

#: Memory under a name, for semaphores such as those of multiprocessing.
_SHARED_MEMORY = Path("/dev/shm")
_DEVICES = tuple(Path("/dev") / name for name in ("null", "zero", "full", "tty"))


class Guard(StrEnum):
    """What keeps a process from writing where it must not."""

    KERNEL = "kernel"
    PYTHON = "python"


def landlock_abi() -> int:
    """Return the version of Landlock that the kernel has; 0 if it has none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, _syscall(_SYS_CREATE_RULESET, None, ctypes.c_size_t(0), _CREATE_RULESET_VERSION))


def confine(writable: Path, *, free: Collection[int] = (), abi: int | None = None) -> Guard:
    """Let this thread, and what it starts from now on, write nowhere but below `writable`, for good.

    Files that are open stay as they are. Devices such as /dev/null, and memory under a name (/dev/shm), can be
    written, unless `writable` itself is in that memory. Reading is not restricted. Programs that it starts gain
    no rights by set-user-id.

    Args:
        writable: a folder that exists.
        free: identifiers of threads that were started before and stay free; where Python stands guard, others do not.
        abi: do as a kernel with this version of Landlock would have us do; None for the one that it has.

    Returns:
        What stands guard; with `PYTHON`, programs that it starts and C code are not held.

    Raises:
        OSError: the kernel does not do what it said it could.
    """
    abi = landlock_abi() if abi is None else abi
    # /dev/shm may be the file system that the state lies on.
    folders = [writable] if writable.resolve().is_relative_to(_SHARED_MEMORY) else [writable, _SHARED_MEMORY]
    if abi < _ABI_TRUNCATE:
        sys.addaudithook(_hook(folders, frozenset(free)))
    if abi < _ABI_REFER:
        return Guard.PYTHON
    _restrict(folders, abi)
    return Guard.KERNEL


def _restrict(folders: Iterable[Path], abi: int) -> None:
    of_files = _WRITE_FILE | (_TRUNCATE if abi >= _ABI_TRUNCATE else 0)
    rights = of_files | _NAMES | _REFER
    ruleset = _checked(_SYS_CREATE_RULESET, ctypes.byref(ctypes.c_uint64(rights)), ctypes.c_size_t(8), 0)
    try:
        for path, allowed in (*((folder, rights) for folder in folders), *((device, of_files) for device in _DEVICES)):
            if path.exists():
                _allow(ruleset, path, allowed)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
            raise _last_error("prctl")
        _checked(_SYS_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, descriptor))  # packed in the kernel too
        _checked(_SYS_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
    finally:
        os.close(descriptor)


def _syscall(number: int, *arguments: Any) -> int:
    result: int = ctypes.CDLL(None, use_errno=True).syscall(number, *arguments)
    return result


def _checked(number: int, *arguments: Any) -> int:
    result = _syscall(number, *arguments)
    if result < 0:
        raise _last_error("Landlock")
    return result


def _last_error(what: str) -> OSError:
    code = ctypes.get_errno()
    return OSError(code, f"{what}: {os.strerror(code)}")


#: `{event of Python's audit: which of its arguments are paths that are written, each with that of its folder}`
_WRITES: dict[str, tuple[tuple[int, int | None], ...]] = {
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.mkdir": ((0, 2),),
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((1, 3), (0, 2)),
    "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),),
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.utime": ((0, 3),),
    "os.setxattr": ((0, None),),
    "os.removexattr": ((0, None),),
}


def _hook(folders: Iterable[Path], free: frozenset[int]) -> Callable[[str, tuple[Any, ...]], None]:
    allowed = tuple(os.path.realpath(folder) for folder in folders)
    devices = frozenset(map(str, _DEVICES))

    def refuse(path: Any, within: Any) -> None:
        if isinstance(path, int):  # an open file: it was let through when it was opened
            return
        text = os.fsdecode(path)
        if isinstance(within, int) and within >= 0:
            text = os.path.join(f"/proc/self/fd/{within}", text)
        # The name itself may be a link that is to be replaced: where it is counts, and for a file where it leads.
        parent, name = os.path.split(os.path.abspath(text))
        found = os.path.join(os.path.realpath(parent), name)
        if found in devices or any(found == folder or found.startswith(f"{folder}/") for folder in allowed):
            return
        if threading.get_ident() in free:
            return
        raise PermissionError(errno.EACCES, "Permission denied: only the new folders can be written", text)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
                refuse(path if isinstance(path, int) else os.path.realpath(path), None)
            return
        for place, folder in _WRITES.get(event, ()):
            refuse(arguments[place], arguments[folder] if folder is not None else None)

    return hook
