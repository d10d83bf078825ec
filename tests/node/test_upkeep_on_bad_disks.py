"""A node's folder is looked after for as long as the agent runs, whatever the disk says."""

import asyncio
import errno
from collections.abc import Container
from contextlib import closing
from pathlib import Path

from segue.model.ids import ClassName, NodeId, SystemName
from segue.node.folders import Folders, Identity
from segue.node.upkeep import Upkeep
from segue.testing.server import HeldClock


class FaultyFolders(Folders):
    """On a disk that fails once."""

    looks = 0

    def remove_old(self, paths: Container[Path]) -> None:
        self.looks += 1
        if self.looks == 1:
            raise OSError(errno.EIO, "Input/output error")
        super().remove_old(paths)


async def test_a_disk_that_fails_is_looked_at_again(tmp_path: Path) -> None:
    """The agent does not end by it: the node serves all the same."""
    identity = Identity(system=SystemName("s"), class_name=ClassName("C"), node_id=NodeId("n1"))
    looked = asyncio.Event()
    with closing(FaultyFolders(tmp_path, identity)) as folders:
        clock = HeldClock()
        upkeep = Upkeep(folders=folders, clock=clock, keep_old_s=1, changed=looked.set)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(upkeep.run())
            await looked.wait()
            looked.clear()
            upkeep.look()
            await looked.wait()
            running.cancel()
        assert upkeep.disk is not None
