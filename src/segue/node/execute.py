"""Runs a command of the journey and returns the one event that answers it.

Each command may have been run before, by this agent or by one that crashed in it: every method first
looks at what is already there.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any, assert_never

from segue import journey
from segue.errors import OperatorError, PeerError, ReleaseError, SegueError, TrustError
from segue.model.clock import Clock
from segue.model.ids import Version
from segue.model.release import Announcement
from segue.node.control import HostGoneError, HostSilentError, one_line
from segue.node.folders import Folders
from segue.node.hosts import HostProcess, Hosts
from segue.node.news import News
from segue.node.placement import Placement
from segue.node.plan import HostPhase
from segue.node.settings import NodeSettings
from segue.node.transforming import run_transform
from segue.release.bundle import content_hash, unpack
from segue.release.durable import sync_path
from segue.wire.client import UpgradeServer
from segue.wire.messages import PermitRequest

logger = logging.getLogger(__name__)

#: Of a traceback, so many characters are kept and reported.
_DETAILS_LIMIT = 16_000
#: What a process of the application, or the agent's own dealing with it, may fail with.
_FAILURES = (SegueError, OSError)


class Executor:
    """One node's hands.

    Args:
        settings: the node's settings.
        folders: the node's places on disk.
        server: the upgrade server.
        hosts: starts processes of the application.
        news: of releases: it ends the waiting for a permit.
        watch: is told of every process that is started or found.
        clock: for the instants that events carry.
    """

    def __init__(
        self,
        *,
        settings: NodeSettings,
        folders: Folders,
        server: UpgradeServer,
        hosts: Hosts,
        news: News,
        watch: Callable[[HostProcess], None],
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._folders = folders
        self._placement = Placement(settings, folders)
        self._server = server
        self._hosts = hosts
        self._news = news
        self._watch = watch
        self._clock = clock
        #: `{version: its process}`, of those that are not leaving
        self.running: dict[Version, HostProcess] = {}
        #: Processes that were replaced and still forward calls.
        self.leaving: list[HostProcess] = []

    async def run(self, command: journey.Command, at: journey.Journey) -> journey.Event:
        """Run `command` and return what happened.

        Args:
            command: what `advance` named.
            at: where the node is on its journey; the command belongs to its phase.
        """
        match command:
            case journey.Fetch(releases=releases):
                return await self._fetch(releases)
            case journey.StartFirst(releases=releases):
                return await self._start_first(releases, at)
            case journey.InstallFuture(release=release):
                return await self._install_future(release, at)
            case journey.AskPermit(from_version=from_version, to_version=to_version):
                return await self._ask_permit(from_version, to_version, at)
            case journey.Warm():
                return await self._warm(at)
            case journey.Quiesce(version=version):
                return await self._quiesce(version)
            case journey.Transform(release=release):
                return await self._transform(release, at)
            case journey.StartObject():
                return await self._start_object(at)
            case journey.HandOver(from_version=from_version, to_version=to_version):
                return await self._hand_over(from_version, to_version, at)
            case journey.Resume(abandoned=abandoned):
                return await self._resume(abandoned, at)
            case journey.Commit(from_version=from_version, to_version=to_version):
                return await self._commit(from_version, to_version, at)
            case journey.ReturnPermit(permit=permit, failure=failure, final=final):
                return await self._return_permit(permit, failure, final)
            case _:
                assert_never(command)

    async def serve_current(self, at: journey.Journey) -> HostProcess:
        """Make sure that the version that owns the state serves, and return its process.

        Raises:
            AuthorCodeError, PeerError: it does not start.
        """
        host = await self._started(at)
        answered = await host.answers()
        for future in at.futures:
            version = future.release.version
            if version not in answered:  # it hears nothing of the calls that come: what it kept would be out of date
                self._folders.discard(self._folders.future(version))
        await host.serve()
        return host

    async def bring_back(self, at: journey.Journey) -> HostProcess:
        """Have the version that owns the state serve, however often that must be tried, and return its process.

        At rest, futures that the process has lost are installed again: nobody else would notice.
        """
        while True:
            try:
                host = await self.serve_current(at)
                break
            except _FAILURES as error:
                await self._try_again(at.object_version, error)
        if at.phase is journey.Phase.SERVING:
            await self._install_lost(host, at)
        return host

    async def _install_lost(self, host: HostProcess, at: journey.Journey) -> None:
        for future in at.futures:
            try:
                await self._install(host, future.release)
            except _FAILURES as error:
                logger.error("version %s is not answered: %s", future.release.version, _reason(error))
                return

    async def adopt(self, versions: list[Version]) -> None:
        """Find the processes that an earlier agent left, and see those out that are leaving."""
        for version in versions:
            host = await self._hosts.find(version, self._folders.control(version))
            if host is None:
                continue
            logger.info("found the application's process %s of version %s", host.pid, version)
            self._watch(host)
            try:
                phase = (await host.report())["phase"]
            except PeerError as error:  # it is busy, or ends at this moment: whoever needs it next will see
                logger.warning("process %s does not say where it is: %s", host.pid, error)
                phase = None
            if phase == HostPhase.LEAVING:
                self.leaving.append(host)
            else:
                self.running[version] = host

    async def _fetch(self, releases: Sequence[Announcement]) -> journey.Event:
        for release in releases:
            try:
                await self._have(release)
            except ReleaseError as error:  # these are the bytes that were published, and they are no release
                return journey.FetchFailed(reason=str(error), final=True)
            except (SegueError, OSError) as error:
                reason = f"release {release.version} is not here: {one_line(error)}"
                return journey.FetchFailed(reason=reason, final=False)
        return journey.Fetched()

    async def _have(self, release: Announcement) -> None:
        """Have a release's bundle unpacked here."""
        folder = self._folders.release(release.sha256)
        if folder.exists():
            return
        bundle = await self._server.fetch(release.sha256)
        if content_hash(bundle) != release.sha256:
            raise TrustError(
                f"release {release.version}: what the upgrade server sent has SHA-256 {content_hash(bundle)}, "
                f"announced was {release.sha256}; publish the release again"
            )
        unpack(bundle, folder)
        sync_path(folder.parent)

    async def _start_first(self, releases: Sequence[Announcement], at: journey.Journey) -> journey.Event:
        try:
            started = journey.FirstStarted(object_version=self._placement.first(releases))
        except _FAILURES as error:
            return journey.FirstStartFailed(reason=_reason(error))
        first, _ = journey.advance(at, started)
        try:
            await self.serve_current(first)
        except _FAILURES as error:
            await self.end(first.object_version)
            return journey.FirstStartFailed(reason=_reason(error))
        return started

    async def _install_future(self, release: Announcement, at: journey.Journey) -> journey.Event:
        try:
            host = await self.serve_current(at)
            for below in at.futures:
                if below.release.version < release.version:
                    await self._install(host, below.release)
        except _FAILURES as error:  # the release that is to be installed is not to blame
            return journey.FutureRefused(reason=_reason(error), final=False, details=_details(error))
        try:
            took_ms = await self._install(host, release)
            if self._placement.is_untouched(release):
                return journey.Carried()
        except _FAILURES as error:
            return journey.FutureRefused(**_failure(error))
        return journey.FutureInstalled(took_ms=took_ms)

    async def _install(self, host: HostProcess, release: Announcement) -> float:
        """Have `host` answer `release`, unless it does, and return the milliseconds that took."""
        if release.version not in await host.answers():  # what an earlier installation kept has missed calls since
            self._folders.discard(self._folders.future(release.version))
        return await host.install(self._placement.future(release))

    async def _ask_permit(self, from_version: Version, to_version: Version, at: journey.Journey) -> journey.Event:
        request = PermitRequest(class_name=self._settings.class_name, from_version=from_version, to_version=to_version)
        said = ""
        while True:
            learned = await self._news.next(at)
            if learned:
                return learned
            host = await self.bring_back(at)  # the wait may be long: a process that died must not wait with us
            try:
                reason, retry_after_s = "", self._settings.poll_s
                answered = await host.answers()
                for future in at.futures:
                    version = future.release.version
                    if version not in answered:
                        reason = f"version {version} could not be installed again; see the log"
                        return journey.FutureLost(reason=reason, version=version)
                if self.leaving:  # two processes at a time; and no permit is held meanwhile
                    reason = f"process {self.leaving[0].pid} of the upgrade before still forwards calls"
                else:
                    answer = await self._server.ask_permit(self._settings.system, self._settings.node_id, request)
                    if answer.permit is not None:
                        return journey.PermitGranted(permit=answer.permit)
                    reason, retry_after_s = answer.reason, answer.retry_after_s
            except SegueError as error:
                reason, retry_after_s = str(error), getattr(error, "retry_after_s", retry_after_s)
            if reason != said:
                logger.info("no permit yet: %s", reason)
                said = reason
            await self._news.wait(_jittered(retry_after_s))

    async def _warm(self, at: journey.Journey) -> journey.Event:
        try:
            host = await self._process(at.ahead())
            await host.warm(self._placement.imports(at.ahead()))
        except _FAILURES as error:
            return journey.WarmFailed(**_failure(error))
        return journey.Warmed(pid=host.pid)

    async def _quiesce(self, version: Version) -> journey.Event:
        host = self.running.get(version)
        if host is None:  # it died; nobody has the state open
            return journey.Quiesced(pid=0, at=self._clock.now())
        try:
            await host.quiesce(self._settings.quiesce_timeout_s)
        except HostGoneError:
            self.running.pop(version, None)
        except _FAILURES as error:  # one that is silent may still be writing: it is asked to serve again, not left
            return journey.QuiesceFailed(reason=_reason(error))
        return journey.Quiesced(pid=host.pid, at=self._clock.now())

    async def _transform(self, release: Announcement, at: journey.Journey) -> journey.Event:
        try:
            return await run_transform(
                self._placement.transform_task(release, at),
                making=self._folders.making,
                states=self._folders.states(release.version),
                timeout_s=self._settings.transform_timeout_s,
            )
        except _FAILURES as error:
            return journey.TransformFailed(**_failure(error))

    async def _start_object(self, at: journey.Journey) -> journey.Event:
        try:
            await self._started(at.ahead())
        except _FAILURES as error:
            return journey.StartFailed(**_failure(error))
        return journey.Started()

    async def _hand_over(self, from_version: Version, to_version: Version, at: journey.Journey) -> journey.Event:
        may_have_answered = not await self._is_started(to_version)
        while True:
            try:
                host = await self._started(at.ahead())
                try:
                    await host.serve()
                    break
                except (HostGoneError, HostSilentError):
                    may_have_answered = True
                    raise
            except _FAILURES as error:
                if not may_have_answered:
                    return journey.HandOverFailed(reason=_reason(error))
                await self._try_again(to_version, error)  # to go back would lose what that call wrote
        serving_at = self._clock.now()
        old = self.running.pop(from_version, None)
        if old is not None:
            try:
                await old.leave(self._folders.peer(to_version))
                self.leaving.append(old)
            except _FAILURES as error:  # its parked calls are lost with it; the new one serves all the same
                logger.warning("the old process did not hand its calls over: %s", error)
                await old.end()
        return journey.HandedOver(pid=host.pid, at=serving_at)

    async def _resume(self, abandoned: Version, at: journey.Journey) -> journey.Event:
        await self.end(abandoned)
        self._folders.discard(self._folders.states(abandoned))
        await self.bring_back(at)
        return journey.Resumed()

    async def _commit(self, from_version: Version, to_version: Version, at: journey.Journey) -> journey.Event:
        while True:
            try:
                host = await self._started(at.ahead())
                await host.serve()
                break
            except _FAILURES as error:
                await self._try_again(to_version, error)
        self._folders.supersede(from_version)
        self._folders.discard(self._folders.future(to_version))
        return journey.Committed()

    async def _return_permit(self, permit: str, failure: str | None, final: bool) -> journey.Event:
        while True:
            try:
                await self._server.return_permit(
                    self._settings.system, self._settings.node_id, permit, failure, final=final
                )
                return journey.PermitReturned()
            except PeerError as error:
                logger.warning("the permit is not returned yet: %s", error)
                await self._pause(error.retry_after_s)
            except OperatorError as error:  # a server that knows no such permit needs none back
                logger.error("the permit cannot be returned: %s", error)
                return journey.PermitReturned()

    async def _is_started(self, version: Version) -> bool:
        """Say whether the process of `version` is known to have an object, and to have answered no call."""
        host = self.running.get(version)
        try:
            return host is not None and (await host.report())["phase"] == HostPhase.STARTED
        except PeerError:
            return False

    async def _started(self, at: journey.Journey) -> HostProcess:
        """Return the process that runs what `at` says the node runs, with its object started."""
        host = await self._process(at)
        await host.warm(self._placement.imports(at))
        await host.start(self._placement.stage(at))
        return host

    async def _process(self, at: journey.Journey) -> HostProcess:
        """Return the process that runs what `at` says the node runs, started if it is not there."""
        host = self.running.get(at.object_version)
        if host is not None:
            return host
        host = await self._hosts.spawn(self._placement.host_plan(at))
        self.running[at.object_version] = host
        self._watch(host)
        return host

    async def end(self, version: Version) -> None:
        """End the process that runs `version`, if there is one; when this returns, it is gone."""
        host = self.running.pop(version, None)
        if host is not None:
            await host.end()

    def forget(self, host: HostProcess) -> None:
        """Take note that a process is gone."""
        if self.running.get(host.version) is host:
            del self.running[host.version]
        if host in self.leaving:
            self.leaving.remove(host)

    async def _try_again(self, version: Version, error: Exception) -> None:
        """Make room for another process of `version`: nothing better can be done for the callers."""
        logger.error("version %s is not in service: %s", version, _reason(error))
        await self.end(version)
        await self._pause(1.0)

    async def _pause(self, about_s: float) -> None:
        await asyncio.sleep(_jittered(about_s))


def _jittered(about_s: float) -> float:
    """Return a time to wait, so that a fleet that was refused together does not come back together."""
    return about_s * random.uniform(0.75, 1.25)


def _is_final(error: Exception) -> bool:
    """Say whether the release is to blame, so that trying it again is of no use."""
    return isinstance(error, ReleaseError)


def _failure(error: Exception) -> dict[str, Any]:
    """Return the fields of an event that says that a release failed."""
    return {"reason": _reason(error), "final": _is_final(error), "details": _details(error)}


def _reason(error: Exception) -> str:
    """Log what is behind `error`, and return it in one line."""
    details = getattr(error, "details", "")
    logger.error("%s%s", error, f"\n{details}" if details else "")
    return one_line(error)


def _details(error: Exception) -> str:
    """Return the end of the traceback in the application's process, as any encoding takes it; nothing if none."""
    details: str = getattr(error, "details", "")
    return details.encode("utf-8", "backslashreplace").decode()[-_DETAILS_LIMIT:]
