"""News of releases: what the agent hears of them, and which of them the node wants next."""

import asyncio
import logging
import time
from contextlib import suppress
from datetime import datetime, timedelta

from segue.errors import SegueError
from segue.journey import Journey, Learned, Phase
from segue.model.clock import Clock, SystemClock
from segue.model.ids import ContentHash, SystemName, Version
from segue.model.release import Announcement
from segue.wire.client import UpgradeServer

logger = logging.getLogger(__name__)

#: What failed is tried again after so many seconds at the latest.
_RETRY_LIMIT_S = 300.0
_NOT_SAID = Version(0)


class News:
    """What there is to learn for one node.

    Args:
        server: the upgrade server, which is asked what was published.
        system: the node's.
        retry_s: seconds until what failed is tried again, doubled each time that it fails once more.
        clock: for the instant at which that is.
    """

    def __init__(
        self, server: UpgradeServer, system: SystemName, *, retry_s: float = 5.0, clock: Clock | None = None
    ) -> None:
        self._server = server
        self._clock: Clock = clock or SystemClock()
        self._system = system
        self._retry_s = retry_s
        self._newest = Version(0)
        #: A new node begins with this one at most; 0 if nobody said.
        self._first = _NOT_SAID
        #: A new node does without what is older.
        self.oldest = Version(0)
        #: In steady seconds.
        self._retry_at = 0.0
        #: The same by the clock, as it was when that was put off.
        self._retry_instant: datetime | None = None
        self._tried = Version(0)
        #: Where it was found that nothing there is is wanted: the newest release, and the node's place.
        self._in_vain: tuple[object, ...] = ()
        self._woken = asyncio.Event()

    def hear(self, newest: Version, at: Journey, first: Version = _NOT_SAID) -> None:
        """Take note of the newest version there is, and wake who waits for news if the node may want it.

        Args:
            newest: by the upgrade server.
            at: where the node is.
            first: what a new node is to begin with, by the upgrade server; 0 if that does not say.
        """
        self._newest = max(self._newest, newest)
        self._first = first
        if self._is_news(at):
            self._woken.set()

    def wake(self) -> None:
        """Wake who waits for news: something else happened."""
        self._woken.set()

    def put_off(self, failures: int, tried: Version) -> None:
        """Leave what failed alone for a while; a release that is newer is news all the same: it has callers.

        Args:
            failures: how many followed one another; after none, nothing is put off.
            tried: the newest release that is put off.
        """
        self._tried = tried
        wait_s = min(self._retry_s * 2.0 ** min(failures - 1, 10), _RETRY_LIMIT_S) if failures else 0.0
        self._retry_at = time.monotonic() + wait_s
        self._retry_instant = self._clock.now() + timedelta(seconds=wait_s)

    @property
    def retry_in_s(self) -> float:
        """Seconds until what failed is tried again; 0 if nothing is put off."""
        return max(0.0, self._retry_at - time.monotonic())

    @property
    def retry_at(self) -> datetime | None:
        """When what failed is tried again (UTC), the same whenever it is asked for; None if nothing is put off."""
        return self._retry_instant if self.retry_in_s else None

    async def wait(self, limit_s: float | None = None) -> None:
        """Return when there may be something new, or `limit_s` seconds have passed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._woken.wait()

    async def next(self, at: Journey) -> Learned | None:
        """Ask for the release that the node wants next: on a new node the one that it is told to begin with, or the
        newest if it is told of none; else the next one.

        Args:
            at: where the node is.

        Returns:
            None if there is none, it is put off, or the upgrade server does not answer.
        """
        self._woken.clear()
        put_off = self._tried if time.monotonic() < self._retry_at else Version(0)
        if not self._is_news(at) or self._newest <= put_off:
            return None
        try:
            notices = await self._server.releases(self._system)
        except SegueError as error:
            logger.warning("the releases are not known: %s", error)
            return None
        announced = [
            Announcement(
                version=Version(notice.version), sha256=ContentHash(notice.sha256), size_bytes=notice.size_bytes
            )
            for notice in notices
        ]
        wanted = [release for release in announced if at.wants(release) and release.version > put_off]
        if at.phase is Phase.NEW and self._first:
            wanted = [release for release in wanted if release.version <= self._first]
        if not wanted:
            if not put_off:
                self._in_vain = self._place(at)
            return None
        if at.phase is Phase.NEW:
            before = [release for release in announced if self.oldest <= release.version < wanted[-1].version]
            return Learned(release=wanted[-1], before=tuple(before))
        return Learned(release=wanted[0])

    def _is_news(self, at: Journey) -> bool:
        """Say whether there is a release that the node neither runs nor, while it waits for a permit, answers.

        One that it was found not to want, as it rejected it, is no news while nothing changes.
        """
        if self._place(at) == self._in_vain:
            return False
        return self._newest > (at.newest if at.phase is Phase.WAITING else at.version)

    def _place(self, at: Journey) -> tuple[object, ...]:
        return self._newest, self._first, at.phase, at.version, at.newest, at.rejected
