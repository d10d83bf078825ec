"""Old states go when their time has come, and what a node has on its disk is measured."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from segue.model.disk import Disk
from segue.model.ids import ClassName, NodeId, SystemName, Version
from segue.node.folders import Folders, Identity
from segue.node.upkeep import Upkeep
from segue.testing.server import HeldClock

NOON = datetime(2030, 1, 1, 12, 0, 0, tzinfo=UTC)
BLOCK = b"x" * 100_000


class Watched:
    """An upkeep at work, and what it measures.

    Args:
        folders: the node's places on disk.
        clock: moves when it is told to.
    """

    def __init__(self, folders: Folders, clock: HeldClock) -> None:
        self.folders = folders
        self.clock = clock
        self.upkeep = Upkeep(
            folders=folders, clock=clock, keep_old_s=3600, changed=lambda: self._measured.set(), steady=clock.steady
        )
        self._measured = asyncio.Event()

    async def measured(self) -> Disk:
        """Have it look, and return what it measures."""
        self._measured.clear()
        self.upkeep.look()
        async with asyncio.timeout(10):
            await self._measured.wait()
        assert self.upkeep.disk is not None
        return self.upkeep.disk


@asynccontextmanager
async def at_work(state: Path) -> AsyncIterator[Watched]:
    identity = Identity(system=SystemName("s"), class_name=ClassName("C"), node_id=NodeId("n1"))
    with closing(Folders(state, identity)) as folders:
        watched = Watched(folders, HeldClock())
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(watched.upkeep.run())
            yield watched
            task.cancel()


def write(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "block").write_bytes(BLOCK)


async def test_an_old_state_is_kept_for_its_time_and_then_removed(tmp_path: Path) -> None:
    async with at_work(tmp_path) as watched:
        write(watched.folders.object(Version(1)))
        write(watched.folders.object(Version(2)))
        watched.folders.supersede(Version(1), NOON)
        watched.clock.move(3599)
        disk = await watched.measured()
        assert disk.old_bytes >= len(BLOCK)
        watched.clock.move(1)
        disk = await watched.measured()
        assert watched.folders.old_states() == {}
        assert disk.old_bytes < len(BLOCK) <= disk.state_bytes
        assert (watched.folders.object(Version(2)) / "block").read_bytes() == BLOCK


@pytest.mark.parametrize("jump_s", [86400, -86400], ids=["forward", "back"])
async def test_an_old_state_is_kept_for_its_time_whatever_the_clock_shows(tmp_path: Path, jump_s: float) -> None:
    """What may have to be put back is not gone at once, nor on the disk for days."""
    async with at_work(tmp_path) as watched:
        write(watched.folders.object(Version(1)))
        watched.folders.supersede(Version(1), watched.clock.now())
        await watched.measured()
        watched.clock.jump(jump_s)
        watched.clock.move(3599)
        await watched.measured()
        assert len(watched.folders.old_states()) == 1
        watched.clock.move(1)
        await watched.measured()
        assert watched.folders.old_states() == {}


async def test_an_old_state_from_before_the_clock_was_put_back_is_kept_for_its_time_again(tmp_path: Path) -> None:
    """The next agent cannot know how old it is; it is not kept until the clock has caught up."""
    async with at_work(tmp_path) as watched:
        write(watched.folders.object(Version(1)))
        watched.folders.supersede(Version(1), NOON + timedelta(days=1))
        await watched.measured()
        watched.clock.move(3599)
        await watched.measured()
        assert len(watched.folders.old_states()) == 1
        watched.clock.move(1)
        await watched.measured()
        assert watched.folders.old_states() == {}


@pytest.mark.parametrize(
    ("place", "field"),
    [
        ("states/1/object", "state_bytes"),
        ("future/2", "state_bytes"),
        ("releases/ab", "releases_bytes"),
        (f"old/1-{int(NOON.timestamp())}", "old_bytes"),
    ],
)
async def test_what_is_on_the_disk_is_measured_by_what_it_is(tmp_path: Path, place: str, field: str) -> None:
    async with at_work(tmp_path) as watched:
        before = await watched.measured()
        write(tmp_path / place)
        after = await watched.measured()
        grown = {
            name: getattr(after, name) - getattr(before, name)
            for name in ("state_bytes", "releases_bytes", "old_bytes")
        }
        assert {name for name, by in grown.items() if by >= len(BLOCK)} == {field}
