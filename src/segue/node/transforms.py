"""The transforms on the way of one upgrade: made ready before the node goes away, then run one after the other."""

import asyncio

from segue.journey import Journey, Transformed
from segue.model.ids import Version
from segue.model.progress import Progress
from segue.model.release import Announcement
from segue.node.disk import check_disk
from segue.node.folders import Folders
from segue.node.placement import Placement
from segue.node.settings import NodeSettings
from segue.node.transform_process import TransformLimits, TransformProcess, TransformTask, warm_transform
from segue.node.transforming import run_transform

#: Of a way through many releases, so many transforms' processes are started before the node goes away.
_WARMED_LIMIT = 3


class Transforms:
    """One node's transforms.

    Args:
        settings: the node's settings.
        folders: the node's places on disk.
        placement: says what each transform reads.
    """

    def __init__(self, *, settings: NodeSettings, folders: Folders, placement: Placement) -> None:
        self._folders = folders
        self._placement = placement
        self._reserve_mib = settings.disk_reserve_mib
        self._limits = TransformLimits(timeout_s=settings.transform_timeout_s, memory_mib=settings.transform_memory_mib)
        #: `{version that it makes: a transform's process that waits}`
        self._warmed: dict[Version, TransformProcess] = {}
        #: What the old object and the simulation keep; None until it was measured.
        self._state_bytes: int | None = None
        #: How far the transform is that is being run.
        self.progress: Progress | None = None

    async def warm(self, at: Journey) -> None:
        """Have all ready that the transforms need: room on the disk, and processes that have imported the release.

        Args:
            at: where the node is, with an upgrade under way.

        Raises:
            ReleaseError, PeerError, OSError: as `warm_transform`; PeerError also if there is no room.
        """
        tasks = self._placement.transform_tasks(at)
        await asyncio.to_thread(self._folders.remove_old, self._folders.old_states())  # one old state at a time
        self._state_bytes = await asyncio.to_thread(self._check_disk, tasks[at.under_way.way[0].version])
        for version, task in list(tasks.items())[:_WARMED_LIMIT]:
            warmed = self._warmed.get(version)
            if not self._folders.states(version).exists() and not (warmed and warmed.alive):
                if warmed is not None:  # it died meanwhile
                    await warmed.end()
                self._warmed[version] = await warm_transform(task, making=self._folders.making, limits=self._limits)

    async def run(self, release: Announcement, at: Journey) -> Transformed:
        """Make the state of `release`, the next on the way, from that of the one before. Safe to run twice.

        Args:
            release: what the state is made for.
            at: where the node is, with an upgrade under way.

        Raises:
            ReleaseError, PeerError, OSError: as `run_transform`; PeerError also if there is no room.
        """
        task = self._placement.transform_tasks(at)[release.version]
        states = self._folders.states(release.version)
        if not states.exists():
            self._check_disk(task, self._state_bytes)
        try:
            done = await run_transform(
                task,
                making=self._folders.making,
                states=states,
                limits=self._limits,
                warmed=self._warmed.pop(release.version, None),  # which ends it; until here, `cool` does
                on_progress=self._note,
            )
        finally:
            self.progress = None
        if task.previous_version != at.object_version:  # no object was ever started on it
            self._folders.discard(task.old)
        return done

    async def cool(self) -> None:
        """End the processes that were not needed."""
        while self._warmed:
            _, process = self._warmed.popitem()
            await process.end()

    def _check_disk(self, task: TransformTask, state_bytes: int | None = None) -> int:
        return check_disk(task, making=self._folders.making, reserve_mib=self._reserve_mib, state_bytes=state_bytes)

    def _note(self, progress: Progress) -> None:
        self.progress = progress
