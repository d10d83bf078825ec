"""Files of the old state that the new one has as they are: asked for during the transform, made after it.

While an author's code runs, a file of the old state must have no name that can be written by. So the requests go to
a file, however many, also from processes that the transform forked; a thread that is not confined makes the links.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

#: Where a file cannot have one more name here, it is copied: another file system, too many names, another's file.
_COPIED_INSTEAD = {errno.EXDEV, errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP}

_CHUNK_BYTES = 1 << 20


class Links:
    """The links that a transform asks for.

    Args:
        path: the file that holds the requests; made here.
        sources: folders that files may be taken from.
        targets: folders that they may go to.
    """

    def __init__(self, path: Path, *, sources: Iterable[Path], targets: Iterable[Path]) -> None:
        self._path = path
        self._sources = tuple(os.path.realpath(folder) for folder in sources)
        self._targets = tuple(os.path.realpath(folder) for folder in targets)
        # Each request is one write at the end, so that forked processes can ask, too.
        self._requests = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def ask(self, source: Path, target: Path) -> None:
        """Ask for `target` as a second name of `source`; see `TransformContext.link`.

        Raises:
            FileNotFoundError: there is no such file, or no folder for the target.
            FileExistsError: the target exists.
            ValueError: the source is no file, or one of the two is not where it must be.
        """
        if not stat.S_ISREG(os.lstat(source).st_mode):
            raise ValueError(f"{source} is no file: only files can be linked")
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        os.stat(os.path.dirname(target) or ".")
        found = self._checked(source, target)
        os.write(self._requests, b"".join(os.fsencode(path) + b"\0" for path in found))

    def make(self) -> None:
        """Make all links that were asked for.

        Raises:
            OSError: one cannot be made, such as since its name was taken meanwhile.
            ValueError: one would not be where it must be any more.
        """
        _real.cache_clear()  # a folder may have been replaced by a link since it was asked for
        for source, target in self._read():
            source, target = self._checked(source, target)
            try:
                os.link(source, target, follow_symlinks=False)
            except OSError as error:
                if error.errno not in _COPIED_INSTEAD:
                    raise
                with open(target, "xb"):
                    shutil.copy2(source, target)

    def close(self) -> None:
        """Forget the requests."""
        os.close(self._requests)
        self._path.unlink(missing_ok=True)

    def _checked(self, source: Path | str, target: Path | str) -> tuple[str, str]:
        found = []
        for path, folders, where in ((source, self._sources, "old"), (target, self._targets, "new")):
            parent, name = os.path.split(path)
            real = _real(os.path.abspath(parent))
            if not any(real == folder or real.startswith(f"{folder}/") for folder in folders):
                raise ValueError(f"{path} is not below a folder of the {where} state: it cannot be linked")
            found.append(f"{real}/{name}")
        return found[0], found[1]

    def _read(self) -> Iterator[tuple[str, str]]:
        rest = b""
        with self._path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                *paths, rest = (rest + chunk).split(b"\0")
                if len(paths) % 2:
                    rest = paths.pop() + b"\0" + rest
                yield from zip(map(os.fsdecode, paths[::2]), map(os.fsdecode, paths[1::2]), strict=True)


@lru_cache(64)
def _real(folder: str) -> str:
    """Return where a folder is; files come folder by folder."""
    return os.path.realpath(folder)
