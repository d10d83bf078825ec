"""How a Unix socket passes from one process to the next without a failed connection.

A process listens under a name of its own beside the socket's path, and then renames that over the path,
in one step: whoever connects comes to the one or to the other. What came to the old one stays there,
accepted or not. To the kernel, sockets keep the name that they were bound to, so that each process
finds its own.

gRPC removes the name that it was bound to when it stops, and the rename has taken that away: so it is not
gRPC that removes the path when the node ends, but `remove`.
"""

import os
import secrets
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A socket of this process at a path that clients know.

    Attributes:
        path: where it is.
        own_name: what it was bound to.
        identity: its device and number: another socket at the path is not ours.
    """

    path: Path
    own_name: Path
    identity: tuple[int, int]


def own_name(path: Path) -> Path:
    """Return a name for this process's socket, in the folder of `path`, which nobody else has."""
    return path.with_name(f".{secrets.token_hex(4)}")


def check(path: Path) -> None:
    """Make sure that a socket can be shown at `path`: nothing is there, or a socket.

    Raises:
        OSError: something else is there.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(f"what is at {path} is no socket")


def show(name: Path, path: Path) -> Shown:
    """Have those who connect to `path` from now on come to the socket that was bound to `name`.

    A socket that is there keeps its permissions, and its owner as far as this user may say so.

    Raises:
        OSError: what is at `path` is no socket, or the folder does not let this user rename.
    """
    check(path)
    with suppress(FileNotFoundError):
        there = os.lstat(path)
        with suppress(PermissionError):
            os.chown(name, there.st_uid, there.st_gid)
        name.chmod(stat.S_IMODE(there.st_mode))
    name.rename(path)
    return Shown(path=path, own_name=name, identity=_identity(path))


def is_shown(shown: Shown) -> bool:
    """Say whether whoever connects to the path still comes to this process."""
    try:
        return _identity(shown.path) == shown.identity
    except OSError:
        return False


def remove(shown: Shown) -> None:
    """Remove the path, unless another process's socket is there."""
    if is_shown(shown):
        with suppress(OSError):
            shown.path.unlink()


def _identity(path: Path) -> tuple[int, int]:
    there = os.lstat(path)
    return there.st_dev, there.st_ino
