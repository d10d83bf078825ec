"""Files as bytes and back: a plain tar, of which only what `pack` writes is read.

Only headers are read by `tarfile`; what a header may say and where files go is decided here, so that no
kind of member that tar knows besides plain files and folders can do anything.

Source: docs/decisions/0002.
"""

import io
import tarfile
from collections.abc import Mapping

from segue.errors import ReleaseError

_BLOCK = 512


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return the one tar that holds these files: same files, same bytes.

    Args:
        files: `{path, with / between its parts: content}`.

    Raises:
        ReleaseError: a path is not one that `read` takes.
    """
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.USTAR_FORMAT, encoding="utf-8", errors="strict") as tar:
        for path in sorted(files):
            _check_path(path, "a bundle")
            member = tarfile.TarInfo(path)
            member.size = len(files[path])
            try:
                tar.addfile(member, io.BytesIO(files[path]))
            except (ValueError, UnicodeError) as error:  # what a plain tar has no room for
                raise ReleaseError(
                    f"{path!r} cannot be in a bundle: {error}; give it a shorter, plainer name"
                ) from error
    return held.getvalue()


def read(bundle: bytes, *, source: str = "the bundle") -> dict[str, bytes]:
    """Return what is in a tar that `pack` wrote: `{path: content}`; folders need no entry of their own.

    Args:
        bundle: the tar.
        source: what to call it in errors.

    Raises:
        ReleaseError: it is no such tar, or is cut short, or holds anything but plain files and folders at
            paths of their own below the place where it is unpacked.
    """
    files: dict[str, bytes] = {}
    folders: set[str] = set()
    offset = 0
    while True:
        block = bundle[offset : offset + _BLOCK]
        if len(block) < _BLOCK:
            raise ReleaseError(f"{source} is no release bundle, or is cut short; make it with `segue build`")
        if not any(block):
            break
        path, size = _header(block, source)
        start = offset + _BLOCK
        offset = start + -(-(size or 0) // _BLOCK) * _BLOCK
        if path in files or (path in folders and size is not None):
            raise ReleaseError(f"{source} holds {path!r} twice; {_MADE}")
        folders.update(_parents(path))
        if size is None:
            folders.add(path)
        else:
            if offset > len(bundle):
                raise ReleaseError(f"{source} is cut short within {path!r}; fetch or build it again")
            files[path] = bundle[start : start + size]
    _check_rest(bundle, offset, source)
    both = sorted(folders & files.keys())
    if both:
        raise ReleaseError(f"{source} holds {both[0]!r} as a file and as a folder; {_MADE}")
    return files


_MADE = "make the bundle with `segue build`"


def _header(block: bytes, source: str) -> tuple[str, int | None]:
    """Return a member's path, and its size in bytes, None if it is a folder."""
    try:
        member = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError) as error:
        raise ReleaseError(f"{source} is no release bundle ({error}); {_MADE}") from error
    if member.type not in (tarfile.REGTYPE, tarfile.DIRTYPE):
        kinds = {b"1": "a link", b"2": "a link", b"3": "a device file", b"4": "a device file", b"6": "a pipe"}
        kind = kinds.get(member.type, f"a member of tar's type {member.type!r}")
        raise ReleaseError(
            f"{source} holds {member.name!r}, {kind}: only plain files and folders may be there; {_MADE}"
        )
    _check_path(member.name, source)
    if member.size < 0 or (member.isdir() and member.size):
        raise ReleaseError(f"{source} says that {member.name!r} has {member.size} bytes; {_MADE}")
    return member.name, None if member.isdir() else member.size


def _check_path(path: str, source: str) -> None:
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or any(char in "\\\0" or not char.isprintable() for char in path):
        raise ReleaseError(
            f"{source} may not hold {path!r}: use a path below the release's folder, without '..', '.', "
            f"backslashes and characters that do not print"
        )


def _check_rest(bundle: bytes, offset: int, source: str) -> None:
    rest = bundle[offset:]
    if len(rest) < 2 * _BLOCK or any(rest):
        raise ReleaseError(f"{source} does not end as a tar does; fetch or build it again")


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
