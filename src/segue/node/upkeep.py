"""Upkeep of a node's folder: old states go when their time has come, and what is on the disk is measured."""

import asyncio
import logging
import shutil
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta

from segue.model.clock import Clock
from segue.model.disk import Disk
from segue.node.disk import size_on_disk
from segue.node.folders import Folders

logger = logging.getLogger(__name__)

#: The disk is measured that often at least; it means reading through all of the node's folders.
_MEASURE_S = 600.0


class Upkeep:
    """Looks after one node's folder.

    Args:
        folders: the node's places on disk.
        clock: says how old an old state is.
        keep_old_s: seconds that one is kept.
        changed: is called when `disk` is new.
    """

    def __init__(self, *, folders: Folders, clock: Clock, keep_old_s: float, changed: Callable[[], None]) -> None:
        self._folders = folders
        self._clock = clock
        self._keep = timedelta(seconds=keep_old_s)
        self._changed = changed
        self._look = asyncio.Event()
        #: What the node has on its disk; None until it was measured.
        self.disk: Disk | None = None

    def look(self) -> None:
        """Look soon: an upgrade has changed what is there."""
        self._look.set()

    async def run(self) -> None:
        """Look now and then, until cancelled. What takes long on a large disk is done in a thread."""
        while True:
            self._look.clear()
            try:
                await asyncio.to_thread(self._folders.remove_old, self._clock.now() - self._keep)
                self.disk = await asyncio.to_thread(self.measure)
            except OSError as error:  # no reason for the agent to end: the node serves, and the next look may do
                logger.error("the node's folder cannot be looked after: %s", error)
            self._changed()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._rest_s()):
                    await self._look.wait()

    def measure(self) -> Disk:
        """Return what the node has on its disk."""
        folders = self._folders
        return Disk(
            state_bytes=size_on_disk(folders.root / "states") + size_on_disk(folders.root / "future"),
            old_bytes=size_on_disk(folders.old),
            releases_bytes=size_on_disk(folders.root / "releases"),
            free_bytes=shutil.disk_usage(folders.root).free,
            measured_at=self._clock.now(),
        )

    def _rest_s(self) -> float:
        """Return the seconds until there is something to do, which are some at least."""
        now = self._clock.now()
        dues = [(since + self._keep - now).total_seconds() for since in self._folders.old_states().values()]
        return max(1.0, min([_MEASURE_S, *dues]))
