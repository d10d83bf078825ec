"""Upkeep of a node's folder: old states go when their time has come, and what is on the disk is measured."""

import asyncio
import logging
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

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
        clock: says how old an old state is that was there before.
        keep_old_s: seconds that one is kept.
        changed: is called when `disk` is new.
        steady: seconds that pass whatever is done to the clock.
    """

    def __init__(
        self,
        *,
        folders: Folders,
        clock: Clock,
        keep_old_s: float,
        changed: Callable[[], None],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folders = folders
        self._clock = clock
        self._keep_s = keep_old_s
        self._changed = changed
        self._steady = steady
        #: `{old state: when its time has come, in steady seconds}`
        self._due: dict[Path, float] = {}
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
                await asyncio.to_thread(self.remove_due)
                self.disk = await asyncio.to_thread(self.measure)
            except OSError as error:  # no reason for the agent to end: the node serves, and the next look may do
                logger.error("the node's folder cannot be looked after: %s", error)
            self._changed()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._rest_s()):
                    await self._look.wait()

    def remove_due(self) -> None:
        """Remove the old states whose time has come: it runs from when one is first seen, less what it is old by then.

        One from before the clock was put back is not old, and none is older than it may be.
        """
        there, now, steady_s = self._folders.old_states(), self._clock.now(), self._steady()
        for path, since in there.items():
            age_s = min(max((now - since).total_seconds(), 0.0), self._keep_s)
            self._due.setdefault(path, steady_s + self._keep_s - age_s)
        self._due = {path: due for path, due in self._due.items() if path in there}
        self._folders.remove_old({path for path, due in self._due.items() if due <= steady_s})

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
        steady_s = self._steady()
        return max(1.0, min([_MEASURE_S, *(due - steady_s for due in self._due.values())]))
