"""Small disks, for tests of what happens when one is full."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def small_disk(folder: Path, size_mib: int) -> Iterator[None]:
    """Have a disk of its own at `folder` for the time of the context; what was written there is gone with it.

    Raises:
        PermissionError: this user, or this sandbox, may not mount one; says why.
    """
    try:
        _run("mount", "-t", "tmpfs", "-o", f"size={size_mib}m", "none", str(folder))
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        raise PermissionError(f"no small disk can be mounted here: {said.strip()}") from error
    try:
        yield
    finally:
        _run("umount", str(folder))


def fill(path: Path) -> None:
    """Write into a new file until the disk has no room left."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)
