"""The transform: version 1's state becomes version 2's, and the past simulation's."""

import hashlib
import os
from contextlib import closing
from pathlib import Path

from previous.blockstore import blocks as v1_blocks

import segue

from ..block import DamagedError, compress
from ..blocks import Blocks
from .names import Names, key_in_v2, known_names


def transform(old: Path, new: Path, context: segue.TransformContext) -> None:
    """Check, name anew and compress each block; keep both names for the past simulation.

    Args:
        old: version 1's state, which is left as it is.
        new: an empty folder, which becomes version 2's state.
        context: `simulation` tells the SHA-256 of blocks, so that these need not be hashed again.

    Raises:
        DamagedError: the content of a block does not match its name.
    """
    known = known_names(context.simulation) if context.simulation else {}
    blocks_before, blocks = v1_blocks.Blocks(old), Blocks(new)
    blocks.open()
    context.progress(items_done=0, items_total=sum(1 for _ in blocks_before))
    with closing(Names(context.past)) as past:
        for done, name in enumerate(blocks_before):
            context.progress(items_done=done)
            before = blocks_before.path(name)
            content = before.read_bytes()
            sha1 = hashlib.sha1(content).digest()
            if sha1.hex() != name:
                raise DamagedError(
                    f"{before} is damaged, the SHA-1 of its content is {sha1.hex()}: "
                    "put another node's copy in its place, or remove it, and upgrade again"
                )
            digest = known.get(sha1) or hashlib.sha256(content).digest()
            after = blocks.path(key_in_v2(sha1, digest))
            after.parent.mkdir(exist_ok=True)
            after.write_bytes(compress(content))
            stored_unix_ns = blocks_before.stored_unix_ns(name)
            os.utime(after, ns=(stored_unix_ns, stored_unix_ns))
            past.add(sha1, digest)
