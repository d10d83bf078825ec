"""Runs a command of the journey and returns the one event that answers it.

Each command may have been run before, by this agent or by one that crashed in it: every method first
looks at what is already there.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, assert_never

from segue import journey
from segue.errors import ReleaseError, TrustError
from segue.model.clock import Clock
from segue.model.ids import Version
from segue.model.release import Announcement
from segue.node.asking import Asking
from segue.node.control import HostGoneError, details_of, reason_of
from segue.node.folders import Folders
from segue.node.hosts import HostProcess
from segue.node.news import News
from segue.node.permits import Learn, Permits
from segue.node.placement import Placement
from segue.node.processes import FAILURES, Processes
from segue.node.requirements import install_requirements
from segue.node.settings import NodeSettings
from segue.node.transforms import Transforms
from segue.release.bundle import content_hash, unpack
from segue.release.durable import sync_path
from segue.wire.client import UpgradeServer

logger = logging.getLogger(__name__)

#: So many ends within its probation show that a new process does not stay.
_ENDS_LIMIT = 3
#: After a restart that failed, so often is the process from before, or another, started before that is reported.
_RESUMES = 3
#: So often, for half a minute or more, the process from before is started before the node goes on without: the next
#: release may be what brings it back. Less, and what passes soon would have the permit returned while the node is down.
_RESUME_TRIES = 8


class Executor:
    """One node's hands.

    Args:
        settings: the node's settings.
        folders: the node's places on disk.
        server: the upgrade server.
        placement: makes the plans of processes and transforms.
        processes: the application's.
        news: wakes who waits for a permit.
        learn: says what else there is to do meanwhile: a release to learn of, or an order.
        clock: for the instants that events carry.
        steady: seconds that pass whatever is done to the clock: what lasts is measured by them.
    """

    def __init__(
        self,
        *,
        settings: NodeSettings,
        folders: Folders,
        server: UpgradeServer,
        placement: Placement,
        processes: Processes,
        news: News,
        learn: Learn,
        clock: Clock,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._folders = folders
        self._placement = placement
        self._server = server
        self._processes = processes
        self._clock = clock
        self._steady = steady
        #: In steady seconds, when this agent closed the object, and when it gave the port to which generation.
        self._quiet_since: float | None = None
        self._serving_since: tuple[int, float] | None = None
        self.permits = Permits(
            settings=settings,
            folders=folders,
            server=server,
            asking=Asking(placement, settings.node_id),
            processes=processes,
            news=news,
            learn=learn,
        )
        self.transforms = Transforms(settings=settings, folders=folders, placement=placement)

    async def run(self, command: journey.Command, at: journey.Journey) -> journey.Event:
        """Run `command` and return what happened.

        Args:
            command: what `advance` named.
            at: where the node is on its journey; the command belongs to its phase.
        """
        match command:
            case journey.Fetch(releases=releases):
                return await self._fetch(releases, at)
            case journey.StartFirst(releases=releases):
                return await self._start_first(releases, at)
            case journey.InstallFuture(release=release):
                return await self._install_future(release, at)
            case journey.AskPermit():
                return await self.permits.ask(command, at)
            case journey.Warm():
                return await self._warm(at)
            case journey.Quiesce():
                return await self._quiesce(at)
            case journey.Transform(release=release):
                return await self._transform(release, at)
            case journey.StartObject():
                return await self._start_object(at)
            case journey.HandOver():
                return await self._hand_over(at)
            case journey.Prove():
                return await self._prove(at)
            case journey.Resume(abandoned=abandoned):
                return await self._resume(abandoned, at)
            case journey.Commit(from_version=from_version, through=through):
                return self._commit(from_version, through)
            case journey.ReturnPermit():
                return await self.permits.give_back(command)
            case _:
                assert_never(command)

    async def _fetch(self, releases: Sequence[Announcement], at: journey.Journey) -> journey.Event:
        for release in releases:
            try:
                await self._have(release)
            except ReleaseError as error:  # these are the bytes that were published, and they are no release
                return journey.FetchFailed(**self._failure(error, at))
            except FAILURES as error:
                reason = f"release {release.version} is not here: {reason_of(error)}"
                return journey.FetchFailed(reason=reason, final=False, details=details_of(error))
        return journey.Fetched()

    async def _have(self, release: Announcement) -> None:
        """Have a release's bundle unpacked here, and what it requires installed."""
        folder = self._folders.release(release.sha256)
        if not folder.exists():
            await self._unpack(release, folder)
        sync_path(folder.parent)  # also if it was there: a crash may have come before its name was on disk
        await install_requirements(folder, self._settings.install)

    async def _unpack(self, release: Announcement, folder: Path) -> None:
        bundle = await self._server.fetch(release.sha256)
        if content_hash(bundle) != release.sha256:
            raise TrustError(
                f"release {release.version}: what the upgrade server sent has SHA-256 {content_hash(bundle)}, "
                f"announced was {release.sha256}; publish the release again"
            )
        unpack(bundle, folder)

    async def _start_first(self, releases: Sequence[Announcement], at: journey.Journey) -> journey.Event:
        try:
            started = journey.FirstStarted(object_version=self._placement.first(releases))
        except FAILURES as error:
            return self._first_start_failed(error, at)
        first, _ = journey.advance(at, started)
        try:
            await self._processes.serve(first)
        except FAILURES as error:
            await self._processes.end(first.generation)
            return self._first_start_failed(error, at)
        return started

    def _first_start_failed(self, error: Exception, at: journey.Journey) -> journey.FirstStartFailed:
        """Return the event; final is what the release's own code did, and what happened too often."""
        failure = self._failure(error, at)
        return journey.FirstStartFailed(**{**failure, "final": failure["final"] or isinstance(error, ReleaseError)})

    async def _install_future(self, release: Announcement, at: journey.Journey) -> journey.Event:
        try:
            host = await self._processes.bring_back(at, tries=1)
            for below in at.futures:
                if host is not None and below.release.version < release.version:
                    await self._install(host, below.release)
        except FAILURES as error:  # the release that is to be installed is not to blame
            return journey.FutureRefused(reason=reason_of(error), final=False, details=details_of(error))
        try:
            # A node that is down has no callers to answer: the release may be what brings it back.
            took_ms = await self._install(host, release) if host is not None else 0.0
            if self._placement.is_untouched(release):
                return journey.Carried()
        except FAILURES as error:
            return journey.FutureRefused(**self._failure(error, at))
        return journey.FutureInstalled(took_ms=took_ms)

    async def install_lost(self, host: HostProcess, at: journey.Journey) -> None:
        """Have `host` answer the futures that it has lost: at rest, nobody else would notice."""
        for future in at.futures:
            try:
                await self._install(host, future.release)
            except FAILURES as error:
                logger.error("version %s is not answered: %s", future.release.version, reason_of(error))
                return

    async def _install(self, host: HostProcess, release: Announcement) -> float:
        """Have `host` answer `release`, unless it does, and return the milliseconds that took."""
        if release.version not in await host.answers():  # what an earlier installation kept has missed calls since
            self._folders.discard(self._folders.future(release.version))
        return await host.install(self._placement.future(release))

    async def _warm(self, at: journey.Journey) -> journey.Event:
        try:
            host = await self._processes.warm(at.ahead())
            if not at.phase.is_restart:
                await self.transforms.warm(at)
        except FAILURES as error:
            return journey.WarmFailed(**self._failure(error, at))
        return journey.Warmed(pid=host.pid)

    async def _quiesce(self, at: journey.Journey) -> journey.Event:
        host = self._processes.running.get(at.generation)
        if host is None:  # it died; nobody has the state open
            self._quiet_since = self._steady()
            return journey.Quiesced(pid=0, at=self._clock.now())
        settings, waits_ms = self._settings, 0.0
        successor = self._folders.peer(at.ahead().generation)
        try:
            waits_ms = await host.quiesce(settings.quiesce_timeout_s, settings.stream_grace_s, successor)
        except HostGoneError:  # it has ended, or nobody can tell it to: what is on the disk is whole without it
            host.kill()
            await host.ended()
            self._processes.forget(host)
        except FAILURES as error:  # one that is silent may still be writing: it is asked to serve again, not left
            return journey.QuiesceFailed(reason=reason_of(error), final=self._is_last(at))
        self._quiet_since = self._steady() - waits_ms / 1000
        return journey.Quiesced(pid=host.pid, at=self._clock.now() - timedelta(milliseconds=waits_ms))

    async def _transform(self, release: Announcement, at: journey.Journey) -> journey.Event:
        try:
            return await self.transforms.run(release, at)
        except FAILURES as error:
            return journey.TransformFailed(**self._failure(error, at))

    async def _start_object(self, at: journey.Journey) -> journey.Event:
        try:
            await self._processes.start(at.ahead())
        except FAILURES as error:
            return journey.StartFailed(**self._failure(error, at))
        return journey.Started()

    async def _hand_over(self, at: journey.Journey) -> journey.Event:
        """Give the port to the new process; while it has answered no call, there is a way back."""
        ahead, host = at.ahead(), None
        for _ in range(_ENDS_LIMIT):
            try:
                host = await self._processes.start(ahead)
                await host.serve(replacing=at.generation in self._processes.running)
                break
            except FAILURES as error:
                # Silent or gone, it may have begun to answer: only once it is gone, that can be said.
                host = None
                await self._processes.make_room(ahead, error)
                if at.phase.is_restart or not self._folders.answered(ahead.object_version).exists():
                    return journey.HandOverFailed(reason=reason_of(error), final=self._is_last(at))
                await self._processes.wait_before_next()
        self._serving_since = (ahead.generation, self._steady())
        serving_at = self._serving_at(at)
        await self._processes.replace(at.generation, ahead.generation)
        if host is None:  # it has answered calls and does not come back, which its probation will show
            return journey.HandedOver(pid=0, at=serving_at)
        await self._processes.with_ports(host, ahead)
        return journey.HandedOver(pid=host.pid, at=serving_at)

    async def _prove(self, at: journey.Journey) -> journey.Event:
        """Watch the new process; one that ends before it answered a call has failed, else one that does not stay."""
        ahead = at.ahead()
        version = ahead.object_version
        until = self._steady() + self._probation_s(at)
        for ends in range(1, _ENDS_LIMIT + 1):
            host = self._processes.running.get(ahead.generation)
            if host is not None:
                try:
                    async with asyncio.timeout(max(until - self._steady(), 0.0)):
                        await host.ended()
                except TimeoutError:
                    return journey.Proven()
                self._processes.forget(host)
            if not self._folders.answered(version).exists():
                reason = f"the new process ended within {self._settings.probation_s:g} s, before it answered a call"
                return journey.Disproven(reason=reason, answered=False, final=self._is_last(at))
            if ends < _ENDS_LIMIT:
                await self._processes.bring_back(ahead, tries=1)
        reason = (
            f"the new process ended {_ENDS_LIMIT} times within {self._settings.probation_s:g} s; as it has answered "
            "calls, the node stays with it: publish a release that is better"
        )
        return journey.Disproven(reason=reason, answered=True, final=True)

    def _serving_at(self, at: journey.Journey) -> datetime:
        """Return now, by the clock as it was when the pause began: a pause is as long as it was, and never negative."""
        began = at.upgrade.quiesced_at if at.upgrade else None
        if began is None:
            return self._clock.now()
        if self._quiet_since is None:  # an agent before this one closed the object
            return max(began, self._clock.now())
        return began + timedelta(seconds=self._steady() - self._quiet_since)

    def _probation_s(self, at: journey.Journey) -> float:
        """Return what is left of the probation; all of it at most, whatever was done to the clock."""
        serving_at = at.under_way.serving_at
        assert serving_at is not None, at
        probation_s, ahead = self._settings.probation_s, at.ahead()
        if self._serving_since is not None and self._serving_since[0] == ahead.generation:
            lasted_s = self._steady() - self._serving_since[1]
        else:  # an agent before this one gave the port over
            lasted_s = (self._clock.now() - serving_at).total_seconds()
        return min(max(probation_s - lasted_s, 0.0), probation_s)

    async def _resume(self, abandoned: Sequence[Version], at: journey.Journey) -> journey.Event:
        await self.transforms.cool()
        await self._processes.end(at.generation + 1)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.to_thread(self._abandon, abandoned))  # callers do not wait for that
            await self._processes.bring_back(at, tries=_RESUMES if at.phase.is_restart else _RESUME_TRIES)
        return journey.Resumed()

    def _abandon(self, versions: Sequence[Version]) -> None:
        for version in versions:
            self._folders.discard(self._folders.states(version))

    def _commit(self, from_version: Version, through: Sequence[Version]) -> journey.Event:
        self._folders.supersede(from_version, self._clock.now())
        for version in through[:-1]:
            self._folders.strip(version)
        for version in through:
            self._folders.discard(self._folders.future(version))
        return journey.Committed()

    def _is_last(self, at: journey.Journey) -> bool:
        """Say whether a failure now is one more than the node tries by itself."""
        tried = at.upgrade.release if at.upgrade else at.learning[-1] if at.learning else None
        return tried is not None and at.failures_of(tried) >= self._settings.retries

    def _failure(self, error: Exception, at: journey.Journey) -> dict[str, Any]:
        """Return the fields of an event that says that a release failed."""
        return {"reason": reason_of(error), "final": self._is_last(at), "details": details_of(error)}
