"""A block in its two forms, content and compressed, and the key that names it."""

import hashlib
import zlib

from . import blockstore_pb2 as messages
from .ring import position_of

#: More than this does not fit into one message of gRPC's usual size.
MAX_BLOCK_BYTES = 1 << 20
#: zlib's fastest: whoever puts a block waits for it. To change it is safe, blocks of any level are read.
COMPRESSION_LEVEL = 1


class DamagedError(Exception):
    """What should be a certain block is not."""


def key_of(content: bytes) -> messages.Key:
    """Return the key of the block with this content."""
    position = position_of(hashlib.sha1(content).digest())
    return messages.Key(digest=hashlib.sha256(content).digest(), position=position)


def text_of(key: messages.Key) -> str:
    """Return the key as text, in the order of the ring: `POSITION-DIGEST`, in hexadecimal digits."""
    return f"{key.position:016x}-{key.digest.hex()}"


def key_from(text: str) -> messages.Key:
    """Return the key of which `text` is the text."""
    position, _, digest = text.partition("-")
    return messages.Key(digest=bytes.fromhex(digest), position=int(position, 16))


def compress(content: bytes) -> bytes:
    """Return the form in which a block is stored and sent between nodes; 10 ms for the largest."""
    return zlib.compress(content, COMPRESSION_LEVEL)


def content_of(key: messages.Key, compressed: bytes) -> bytes:
    """Return the content of the block `key`.

    Raises:
        DamagedError: `compressed` is not that block.
    """
    try:
        content = zlib.decompressobj().decompress(compressed, MAX_BLOCK_BYTES)
    except zlib.error as error:
        raise DamagedError(f"block {text_of(key)}: {error}") from None
    if key_of(content) != key:
        raise DamagedError(f"block {text_of(key)}: its content is another block's")
    return content
