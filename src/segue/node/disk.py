"""Whether the disk has room for an upgrade, asked before the node goes away for it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from segue.errors import PeerError
from segue.node.transform_process import TransformTask

_MIB = 1 << 20
#: POSIX's unit of `st_blocks`, whatever the file system's is.
_BLOCK_BYTES = 512


class NoRoomError(PeerError):
    """The disk has not the room that an upgrade needs: the operator makes some, or it comes by itself."""


def check_disk(task: TransformTask, *, making: Path, reserve_mib: int, state_bytes: int | None = None) -> int:
    """Make sure that the disk has room for what a transform will write.

    Walks through the state, unless its size is known from before: call it in a thread.

    Args:
        task: its `disk` says how much of the old state's size the new one needs; what is not there counts nothing.
        making: where the transform works.
        reserve_mib: what is to be free beside that, in MiB.
        state_bytes: the size of the old state and the simulation's, as this function returned it before.

    Returns:
        The size of the old state and the simulation's on the disk, in bytes.

    Raises:
        NoRoomError: there is not; says how much is needed and free, where, and what to do.
        OSError: the disk cannot be asked.
    """
    if state_bytes is None:
        state_bytes = sum(size_on_disk(folder) for folder in (task.old, task.simulation) if folder is not None)
    needed = int(state_bytes * task.disk) + reserve_mib * _MIB
    free = shutil.disk_usage(making).free
    if free < needed:
        raise NoRoomError(
            f"the disk of {making} has {_mib(free)} MiB free, and the transform to version {task.version} needs "
            f"{_mib(needed)}: {task.disk:g} times the state's {_mib(state_bytes)}, and {reserve_mib} to spare "
            "(--disk-reserve-mib); make room there",
            retry_after_s=60.0,
        )
    return state_bytes


def size_on_disk(folder: Path) -> int:
    """Return how much of the disk a folder takes, in bytes, while others may write to it.

    A file that has several names there counts once; what is not there counts nothing.
    """
    counted: set[tuple[int, int]] = set()
    size_bytes = 0
    for found in _walk(folder):
        if found.st_nlink > 1:
            if (found.st_dev, found.st_ino) in counted:
                continue
            counted.add((found.st_dev, found.st_ino))
        size_bytes += found.st_blocks * _BLOCK_BYTES
    return size_bytes


def _walk(folder: Path) -> Iterator[os.stat_result]:
    """Yield what the file system says of all that is in a folder; what goes away meanwhile is left out."""
    waiting = [folder]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
                    try:
                        yield entry.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue
        except (FileNotFoundError, NotADirectoryError):
            continue


def _mib(size_bytes: int) -> int:
    return -(-size_bytes // _MIB)
