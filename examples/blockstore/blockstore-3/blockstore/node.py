"""The object that a node hosts: it keeps its own blocks, and answers clients for the whole ring."""

import asyncio
from itertools import islice

import segue

from .block import DamagedError
from .blocks import PublicFiles
from .service import Service

#: Blocks that a node reads back before it serves.
SELF_TEST_BLOCKS = 10


class BlockNode(Service):
    """A node of the store, in version 3.

    Args:
        node: the node that hosts this; `config["members"]` are all nodes of the ring.
    """

    def __init__(self, node: segue.Node) -> None:
        super().__init__(node)
        self.public = self._files = PublicFiles(node.state)

    async def start(self) -> None:
        """Get ready to answer."""
        self._files.files.open()
        await super().start()

    async def self_test(self) -> None:
        """Read some blocks back.

        Raises:
            DamagedError: one of them is not what its key says.
        """
        for files in (self._files.files, self.private.files):
            for key in islice(files.listed(), SELF_TEST_BLOCKS):
                if await asyncio.to_thread(files.read, key) is None:
                    raise DamagedError(f"{files.path(key)} does not hold the block that it names")
