"""Blocks as files in a node's state folder: public ones, and private ones with their lists."""

import asyncio
import logging
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from . import blockstore_pb2 as messages
from .access import newest
from .block import DamagedError, content_of, key_from, text_of
from .replicas import Context

#: Folders below the state folder.
PUBLIC, PRIVATE = "ring", "private"

log = logging.getLogger(__name__)


class Files:
    """Blocks of one node, compressed: `FOLDER/1f/1f9c…-….z`, by the first byte of the position.

    Every method may be called in any thread.

    Args:
        state: the node's state folder.
        folder: the name of the blocks' folder in it.
    """

    def __init__(self, state: Path, folder: str) -> None:
        self._blocks = state / folder
        self._incoming = state / f"{folder}-incoming"

    def open(self) -> None:
        """Make the folders if they are not there, and remove writes that a crash cut short."""
        self._blocks.mkdir(exist_ok=True)
        self._incoming.mkdir(exist_ok=True)
        for unfinished in self._incoming.iterdir():
            unfinished.unlink()

    def path(self, key: messages.Key, ending: str = ".z") -> Path:
        """Return where the block is, or would be."""
        name = text_of(key)
        return self._blocks / name[:2] / f"{name}{ending}"

    def listed(self, ending: str = ".z") -> Iterator[messages.Key]:
        """Yield the key of each file, in no order; those written meanwhile may be among them."""
        for part in self._blocks.iterdir():
            yield from (key_from(path.stem) for path in part.iterdir() if path.suffix == ending)

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
        if self.read(key) is None:
            self.put(self.path(key), compressed)

    def put(self, path: Path, data: bytes) -> None:
        """Have the file hold `data`; it never holds a part."""
        with tempfile.NamedTemporaryFile(dir=self._incoming, delete=False) as file:
            file.write(data)
        path.parent.mkdir(exist_ok=True)
        os.replace(file.name, path)

    def stat(self, key: messages.Key) -> messages.StatReply | None:
        """Return the sizes and the age of a block; None if it is not here."""
        block = self.read(key)
        if block is None:
            return None
        reply = messages.StatReply(size_bytes=len(block[0]), stored_bytes=len(block[1]))
        reply.stored_at.FromNanoseconds(self.path(key).stat().st_mtime_ns)
        return reply


class PublicFiles:
    """The public blocks of a node that has them itself."""

    def __init__(self, state: Path) -> None:
        self.files = Files(state, PUBLIC)

    async def fetch(self, key: messages.Key, context: Context) -> bytes | None:  # noqa: ARG002 - others need it
        """Return a block, compressed; None if it is not here."""
        block = await asyncio.to_thread(self.files.read, key)
        return block[1] if block else None

    async def store(self, key: messages.Key, compressed: bytes, context: Context) -> None:  # noqa: ARG002
        """Keep a block."""
        await asyncio.to_thread(self.files.write, key, compressed)

    async def stat(self, key: messages.Key, context: Context) -> messages.StatReply | None:  # noqa: ARG002
        """Return the sizes and the age of a block; None if it is not here."""
        return await asyncio.to_thread(self.files.stat, key)

    async def keys(self, context: Context) -> AsyncIterator[messages.Key]:  # noqa: ARG002
        """Yield the key of each block."""
        for key in self.files.listed():
            yield key


class PrivateFiles:
    """The private blocks of a node, and beside each, in `….access`, the lists of its owners."""

    def __init__(self, state: Path) -> None:
        self.files = Files(state, PRIVATE)

    def grants(self, key: messages.Key) -> dict[str, messages.Grant]:
        """Return `{owner: grant}` of a block; empty if it is not here."""
        try:
            raw = self.files.path(key, ".access").read_bytes()
        except FileNotFoundError:
            return {}
        return newest(messages.Grants.FromString(raw).grants)

    def admit(self, key: messages.Key, grant: messages.Grant) -> None:
        """Keep an owner's grant, unless a later one is here.

        It reads and writes: call it in one thread.
        """
        grants = newest([*self.grants(key).values(), grant])
        kept = messages.Grants(grants=[grants[owner] for owner in sorted(grants)])
        self.files.put(self.files.path(key, ".access"), kept.SerializeToString(deterministic=True))

    def keys(self) -> Iterator[messages.Key]:
        """Yield the key of each block."""
        yield from self.files.listed(".access")
