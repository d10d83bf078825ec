"""A node's permits: asked for as often as the upgrade server says, and returned whatever happens to it meanwhile."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from segue import journey
from segue.errors import OperatorError, PeerError, SegueError
from segue.model.ids import Version
from segue.node.asking import Asking
from segue.node.backoff import Backoff, jittered
from segue.node.folders import Folders
from segue.node.news import News
from segue.node.processes import Processes
from segue.node.reports import agent_row
from segue.node.settings import NodeSettings
from segue.wire.client import UpgradeServer
from segue.wire.messages import PermitAnswer, PermitRequest

logger = logging.getLogger(__name__)

#: Says what else there is to do for a node that waits: a release to learn of, or an order.
Learn: TypeAlias = Callable[[journey.Journey], Awaitable[journey.Event | None]]


class Permits:
    """Asks for one node's permits, and returns them.

    Args:
        settings: the node's settings.
        folders: the node's places on disk.
        server: the upgrade server.
        asking: asks the code of releases on the way.
        processes: the application's: they are looked after while the node waits.
        news: wakes a node that waits.
        learn: says what else there is to do meanwhile.
    """

    def __init__(
        self,
        *,
        settings: NodeSettings,
        folders: Folders,
        server: UpgradeServer,
        asking: Asking,
        processes: Processes,
        news: News,
        learn: Learn,
    ) -> None:
        self._settings = settings
        self._folders = folders
        self._server = server
        self.asking = asking
        self._processes = processes
        self._news = news
        self._learn = learn

    async def ask(self, command: journey.AskPermit, at: journey.Journey) -> journey.Event:
        """Ask until the permit is granted, or there is something else to do, and return that.

        Args:
            command: how far the node would go.
            at: where it is.
        """
        said, backoff = "", Backoff(self._settings.poll_s)
        while True:
            event = await self._learn(at) or await self._lost(at)
            if event:
                return event
            reason, retry_after_s = "", self._settings.poll_s
            try:
                answer = await self._answer(command, at)
                if answer.permit is not None:
                    to_version = Version(answer.to_version or command.to_version)
                    return journey.PermitGranted(permit=answer.permit, to_version=to_version)
                reason, retry_after_s = answer.reason, jittered(answer.retry_after_s)
                backoff.reset()
            except PeerError as error:
                reason, retry_after_s = str(error), backoff.after_failure(error.retry_after_s)
            except SegueError as error:
                reason, retry_after_s = str(error), jittered(retry_after_s)
            if reason != said:
                logger.info("no permit yet: %s", reason)
                said = reason
            await self._news.wait(retry_after_s)

    async def give_back(self, command: journey.ReturnPermit) -> journey.Event:
        """Return a permit, however long the upgrade server is away."""
        backoff = Backoff(self._settings.poll_s)
        while True:
            try:
                await self._server.return_permit(
                    self._settings.system,
                    self._settings.node_id,
                    command.permit,
                    command.failure,
                    final=command.final,
                    failed_version=command.failed_version,
                )
                return journey.PermitReturned()
            except PeerError as error:
                logger.warning("the permit is not returned yet: %s", error)
                await asyncio.sleep(backoff.after_failure(error.retry_after_s))
            except OperatorError as error:  # a server that knows no such permit needs none back
                logger.error("the permit cannot be returned: %s", error)
                return journey.PermitReturned()

    async def _answer(self, command: journey.AskPermit, at: journey.Journey) -> PermitAnswer:
        """Ask for a permit, with what releases on the way say to it; those that are to see the fleet are asked then."""
        settings, host = self._settings, self._processes.running.get(at.generation)
        holds = await self.asking.ask(host, at)
        request = PermitRequest(
            class_name=settings.class_name,
            from_version=command.from_version,
            to_version=command.to_version,
            avoided=command.avoided,
            agent=agent_row(self._folders.agent, settings.poll_s),
            holds={int(version): text for version, text in holds.items()},
        )
        answer = await self._server.ask_permit(settings.system, settings.node_id, request)
        if answer.decides is None:
            self.asking.is_held_by_rules()
        elif await self.asking.agrees(host, at, answer.decides):
            request = request.model_copy(update={"agreed": (answer.decides.version,)})
            answer = await self._server.ask_permit(settings.system, settings.node_id, request)
        self.asking.log()
        return answer

    async def _lost(self, at: journey.Journey) -> journey.FutureLost | None:
        """Bring a process back that died while it waited, and say if it does not answer all that it did.

        A node that stays down waits on: the upgrade may be what brings it back.
        """
        host = await self._processes.bring_back(at, tries=1)
        try:
            answered = await host.answers() if host is not None else frozenset()
        except PeerError:
            host = None
        for future in at.futures if host is not None else ():
            version = future.release.version
            if version not in answered:
                reason = f"version {version} could not be installed again; see the log"
                return journey.FutureLost(reason=reason, version=version)
        return None
