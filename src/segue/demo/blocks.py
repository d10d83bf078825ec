"""What the load stores: files cut into blocks, and random blocks that can be made again from their names."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from segue.model.ids import Version

#: What one call carries at most.
BLOCK_BYTES = 1024 * 1024

#: Random blocks: small, as the load is about calls; their sizes are spread evenly over this.
_RANDOM_BYTES = (64, 8 * 1024)


def cut(path: Path) -> Iterator[bytes]:
    """Yield the file's blocks in order; an empty file is one empty block."""
    with path.open("rb") as file:
        block = file.read(BLOCK_BYTES)
        yield block
        while block := file.read(BLOCK_BYTES):
            yield block


def block_at(path: Path, index: int) -> bytes:
    """Return the file's block at `index`, counted from 0."""
    with path.open("rb") as file:
        file.seek(index * BLOCK_BYTES)
        return file.read(BLOCK_BYTES)


def block_count(path: Path) -> int:
    """Return how many blocks `cut` yields."""
    return max(1, -(-path.stat().st_size // BLOCK_BYTES))


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomBlock:
    """The name of a random block: whoever has it can make the block again.

    Attributes:
        seed: of the demo.
        version: of the client that puts it.
        number: in the order of its making.
        private: whether it is put for some and not for others.
    """

    seed: int
    version: Version
    number: int
    private: bool = False

    def data(self) -> bytes:
        """Return the block: the same bytes every time."""
        source = random.Random(f"{self.seed}/{self.version}/{'private ' if self.private else ''}{self.number}")
        return source.randbytes(source.randint(*_RANDOM_BYTES))
