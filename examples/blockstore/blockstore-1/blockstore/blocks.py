"""Blocks as files in a node's state folder, and the names that they have."""

import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

#: More than this does not fit into one message of gRPC's usual size.
MAX_BLOCK_BYTES = 1 << 20

log = logging.getLogger(__name__)


def key_of(data: bytes) -> str:
    """Return the key of the block with this content."""
    return hashlib.sha1(data).hexdigest()


def is_key(text: str) -> bool:
    """Say whether `text` has the form of a key."""
    return re.fullmatch("[0-9a-f]{40}", text) is not None


class Blocks:
    """The blocks of one node: `blocks/1f/1f9c…`, the folder named by the key's first two digits.

    Reads and writes are plain ones, made on the event loop: a block has at most 1 MiB and goes to or
    comes from the page cache, which takes about a millisecond.

    Args:
        state: the node's state folder.
    """

    def __init__(self, state: Path) -> None:
        self._blocks = state / "blocks"
        self._incoming = state / "incoming"

    def open(self) -> None:
        """Make the folders if they are not there, and remove writes that a crash cut short."""
        self._blocks.mkdir(exist_ok=True)
        self._incoming.mkdir(exist_ok=True)
        for unfinished in self._incoming.iterdir():
            unfinished.unlink()

    def path(self, key: str) -> Path:
        """Return where the block is, or would be."""
        return self._blocks / key[:2] / key

    def __iter__(self) -> Iterator[str]:
        """Yield the key of each block, in no order; blocks written meanwhile may be among them."""
        for prefix in self._blocks.iterdir():
            yield from (path.name for path in prefix.iterdir())

    def read(self, key: str) -> bytes | None:
        """Return the block's content; None if it is not here, or is no longer what its key says."""
        try:
            data = self.path(key).read_bytes()
        except FileNotFoundError:
            return None
        if key_of(data) != key:
            log.error("%s is damaged: its content does not match its name", self.path(key))
            return None
        return data

    def write(self, key: str, data: bytes) -> None:
        """Keep a block, whole or not at all.

        Once this returns, the block survives the end of the process, however sudden. It may not
        survive a power cut, for nothing waits for the disk: two more nodes have it.
        """
        if self.read(key) is not None:
            return
        with tempfile.NamedTemporaryFile(dir=self._incoming, delete=False) as file:
            file.write(data)
        self.path(key).parent.mkdir(exist_ok=True)
        os.replace(file.name, self.path(key))

    def stored_unix_ns(self, key: str) -> int:
        """Return when the block was stored, in nanoseconds since 1970 (UTC)."""
        return self.path(key).stat().st_mtime_ns
