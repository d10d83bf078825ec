"""What both simulations need: a key in the other version, and what version 2's callers are told."""

from previous.blockstore import blockstore_pb2 as v2

import segue

from .. import blockstore_pb2 as v3
from ..block import text_of


def key_in_v3(key: v2.Key) -> v3.Key:
    """Return version 3's key of the block that version 2 calls `key`."""
    return v3.Key(digest=key.digest, position=key.position)


def key_in_v2(key: v3.Key) -> v2.Key:
    """Return version 2's key of the block that version 3 calls `key`."""
    return v2.Key(digest=key.digest, position=key.position)


def disallowed(key: v3.Key) -> segue.Disallowed:
    """Return what version 2's callers are told of a private block: they cannot say who they are."""
    return segue.Disallowed(f"block {text_of(key)} is private: ask in version 3, and say who asks")
