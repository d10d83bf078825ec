"""Blocks as files in a node's state folder."""

import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import blockstore_pb2 as messages
from .block import DamagedError, content_of, key_from, text_of

log = logging.getLogger(__name__)


class Blocks:
    """The blocks of one node, compressed: `ring/1f/1f9c…-….z`, by the first byte of the position.

    Every method may be called in any thread.

    Args:
        state: the node's state folder.
    """

    def __init__(self, state: Path) -> None:
        self._ring = state / "ring"
        self._incoming = state / "incoming"

    def open(self) -> None:
        """Make the folders if they are not there, and remove writes that a crash cut short."""
        self._ring.mkdir(exist_ok=True)
        self._incoming.mkdir(exist_ok=True)
        for unfinished in self._incoming.iterdir():
            unfinished.unlink()

    def path(self, key: messages.Key) -> Path:
        """Return where the block is, or would be."""
        name = text_of(key)
        return self._ring / name[:2] / f"{name}.z"

    def __iter__(self) -> Iterator[messages.Key]:
        """Yield the key of each block, in no order; blocks written meanwhile may be among them."""
        for part in self._ring.iterdir():
            yield from (key_from(path.stem) for path in part.iterdir())

    def read(self, key: messages.Key) -> tuple[bytes, bytes] | None:
        """Return the block, content and compressed; None if it is not here, or no longer what its key says."""
        try:
            compressed = self.path(key).read_bytes()
            return content_of(key, compressed), compressed
        except FileNotFoundError:
            return None
        except DamagedError as error:
            log.error("%s: %s", self.path(key), error)
            return None

    def write(self, key: messages.Key, compressed: bytes) -> None:
        """Keep a block, whole or not at all.

        Once this returns, the block survives the end of the process, however sudden. It may not
        survive a power cut, for nothing waits for the disk: two more nodes have it.
        """
        if self.read(key) is not None:
            return
        with tempfile.NamedTemporaryFile(dir=self._incoming, delete=False) as file:
            file.write(compressed)
        self.path(key).parent.mkdir(exist_ok=True)
        os.replace(file.name, self.path(key))

    def stored_unix_ns(self, key: messages.Key) -> int:
        """Return when the block was stored, in nanoseconds since 1970 (UTC)."""
        return self.path(key).stat().st_mtime_ns
