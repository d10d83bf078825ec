"""The index of both names of blocks, on disk and in memory."""

import hashlib
import re
from pathlib import Path

from .. import blockstore_pb2 as v2
from ..ring import position_of

NAMES = "names"


def known_names(folder: Path) -> dict[bytes, bytes]:
    """Return the index in a simulation's folder, `{SHA-1: SHA-256}`; a line that a crash cut short is left out."""
    path = folder / NAMES
    lines = path.read_text("ascii").splitlines() if path.exists() else []
    whole = (re.fullmatch("([0-9a-f]{40}) ([0-9a-f]{64})", line) for line in lines)
    return {bytes.fromhex(names[1]): bytes.fromhex(names[2]) for names in whole if names}


class Names:
    """Both names of blocks, in memory both ways and on disk as one file that only grows.

    An entry says that the names are one block's, not that the block is here.

    Args:
        folder: where the file is, or will be.

    Attributes:
        digests: `{SHA-1: SHA-256}`.
        sha1s: `{SHA-256: SHA-1}`.
    """

    def __init__(self, folder: Path) -> None:
        self.digests = known_names(folder)
        self.sha1s = {digest: sha1 for sha1, digest in self.digests.items()}
        self._file = (folder / NAMES).open("a", encoding="ascii", buffering=1)
        self._file.write("\n")  # ends a line that a crash cut short

    def add(self, sha1: bytes, digest: bytes) -> None:
        """Keep both names of a block; they survive the end of the process."""
        if sha1 not in self.digests:
            self._file.write(f"{sha1.hex()} {digest.hex()}\n")
            self.digests[sha1] = digest
            self.sha1s[digest] = sha1

    def learn(self, content: bytes) -> tuple[bytes, bytes]:
        """Keep and return both names of the block with this content: SHA-1, SHA-256."""
        sha1, digest = hashlib.sha1(content).digest(), hashlib.sha256(content).digest()
        self.add(sha1, digest)
        return sha1, digest

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def key_in_v2(sha1: bytes, digest: bytes) -> v2.Key:
    """Return version 2's key of the block with these names."""
    return v2.Key(digest=digest, position=position_of(sha1))
