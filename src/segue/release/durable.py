"""Has a whole folder on disk before anybody is told that it is there."""

import ctypes
import os
import stat
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

#: Waiting for the disk takes no processor, and file systems gather what is asked at once into one write.
_THREADS = 16

#: From so many files on, the file system is synced as a whole. See docs/decisions/0016.
_MANY_FILES = 256

#: `statfs(2)`'s names of file systems of which syncfs(2) is known to wait for the disk: ext4, xfs, btrfs, f2fs, tmpfs.
_SYNCED_WHOLE = {0xEF53, 0x58465342, 0x9123683E, 0xF2F52010, 0x01021994}
#: Before it, syncfs(2) did not tell of blocks that could not be written.
_SYNCFS_TELLS = (5, 8)


def sync_tree(folder: Path, *, since: int | None = None) -> int:
    """Have every file and folder below `folder`, and `folder` itself, on disk.

    Links are kept as such and not followed; pipes, sockets and devices hold nothing to be kept.

    Args:
        folder: what is synced.
        since: a descriptor of a file or folder on the same file system, opened before anything was written
            there: the kernel then tells it of all that could not be written since. With it, many files are
            synced at once, where the file system is known to do that; None: one by one.

    Returns:
        The size of the files, in bytes; a file that has several names there counts each time.

    Raises:
        OSError: the machine cannot read or keep something there.
    """
    files: list[Path] = []
    folders: list[Path] = []
    size_bytes = 0
    for path, found in _walk(folder):
        if stat.S_ISDIR(found.st_mode):
            folders.append(path)
        elif stat.S_ISREG(found.st_mode):
            files.append(path)
            size_bytes += found.st_size
    if since is not None and len(files) >= _MANY_FILES and _can_be_synced_whole(folder):
        _sync_file_system(since)
        return size_bytes
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in pool.map(sync_path, files, chunksize=64):
            pass
        for _ in pool.map(sync_path, folders, chunksize=64):
            pass
    sync_path(folder)
    return size_bytes


def sync_path(path: Path) -> None:
    """Have one file, or the names in one folder, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> None:
    """Have `folder` there, made with all above it that is missing, and its name on disk as theirs are.

    Safe to run again after a crash, which may have come between a folder and its name on disk: each is made when the
    name of the one above is on disk, so that only the lowest that is there can lack its own.

    Raises:
        OSError: it cannot be made.
    """
    above = [one for one in (folder, *folder.parents) if not one.exists()]
    lowest = above[-1].parent if above else folder
    sync_path(lowest.parent)
    for one in reversed(above):
        one.mkdir(exist_ok=True)
        sync_path(one.parent)
    folder.mkdir(exist_ok=True)  # it was there: as a folder


def _sync_file_system(descriptor: int) -> None:
    """Have all of the file system on disk, names and contents.

    Raises:
        OSError: something could not be written since `descriptor` was opened; of other programs' files, perhaps.
    """
    if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"syncfs: {os.strerror(code)}")


def _can_be_synced_whole(folder: Path) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    major, minor = os.uname().release.split(".")[:2]
    if (int(major), int("".join(filter(str.isdigit, minor)) or 0)) < _SYNCFS_TELLS:
        return False
    found = ctypes.create_string_buffer(256)  # struct statfs is shorter everywhere, and begins with the type
    if ctypes.CDLL(None, use_errno=True).statfs(os.fsencode(folder), found) != 0:
        return False
    return (ctypes.c_long.from_buffer(found).value & 0xFFFFFFFF) in _SYNCED_WHOLE


def _walk(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                yield Path(entry.path), entry.stat(follow_symlinks=False)
