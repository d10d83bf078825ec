"""The bundles, by their hash: each in a file of a folder, or in the upgrade database if several servers share that."""

import hashlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from segue.errors import OperatorError
from segue.model.ids import ContentHash
from segue.release.durable import sync_path

_CHUNK_BYTES = 1 << 20


class Bundles(Protocol):
    """Keeps bundles by content hash. Several servers may use one place at once."""

    def keep(self, sha256: ContentHash, bundle: bytes) -> None:
        """Have the bundle there for good, whole, when this returns.

        May run twice; a bundle that was lost or damaged meanwhile is there again.
        """
        ...

    def size_of(self, sha256: ContentHash) -> int | None:
        """Return the bundle's size in bytes; None if it is not here."""
        ...

    def read(self, sha256: ContentHash) -> Iterator[bytes]:
        """Yield the bundle piece by piece, so that many nodes that fetch at once cost little memory."""
        ...


class BundleFolder:
    """Keeps bundles by content hash. Several processes may use one folder.

    Args:
        folder: it is made if it is not there.

    Raises:
        OperatorError: it cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OperatorError(
                f"{folder} cannot hold bundles: {error.strerror}: choose another data folder"
            ) from error

    def keep(self, sha256: ContentHash, bundle: bytes) -> None:
        """Have the bundle on disk, whole, when this returns; a crash before leaves none.

        May run twice; a bundle that was lost or damaged meanwhile is there again.

        Raises:
            OperatorError: the disk does not take it.
        """
        try:
            if not self._is_whole(sha256):
                self._write(self._file(sha256), bundle)
        except OSError as error:
            raise OperatorError(
                f"the bundle of {len(bundle)} bytes cannot be kept in {self._folder}: {error.strerror}: "
                f"make room there and publish again"
            ) from error

    def size_of(self, sha256: ContentHash) -> int | None:
        """Return the bundle's size in bytes; None if it is not here."""
        try:
            return self._file(sha256).stat().st_size
        except FileNotFoundError:
            return None

    def read(self, sha256: ContentHash) -> Iterator[bytes]:
        """Yield the bundle piece by piece, so that many nodes that fetch at once cost little memory."""
        with self._file(sha256).open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk

    def _file(self, sha256: ContentHash) -> Path:
        return self._folder / sha256

    def _is_whole(self, sha256: ContentHash) -> bool:
        try:
            with self._file(sha256).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == sha256
        except FileNotFoundError:
            return False

    def _write(self, target: Path, bundle: bytes) -> None:
        descriptor, name = tempfile.mkstemp(prefix=".incoming-", dir=self._folder)
        incoming = Path(name)
        try:
            with open(descriptor, "wb") as file:
                file.write(bundle)
            sync_path(incoming)
            incoming.replace(target)
        except BaseException:
            incoming.unlink(missing_ok=True)
            raise
        sync_path(self._folder)

    def __repr__(self) -> str:
        return f"BundleFolder({str(self._folder)!r})"
