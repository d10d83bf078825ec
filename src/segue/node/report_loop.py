"""The agent's reports to the upgrade server: one now and then, and one whenever something happened."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from segue.errors import OperatorError, PeerError, SegueError
from segue.journey import Journey, Phase
from segue.node.backoff import Backoff
from segue.node.execute import Executor
from segue.node.folders import Folders
from segue.node.handover import mode_of
from segue.node.metrics import NodeMetrics
from segue.node.news import News
from segue.node.processes import Processes
from segue.node.reports import Condition, Reports, agent_row, heartbeat
from segue.node.settings import NodeSettings
from segue.node.speaking import Speaking
from segue.node.upkeep import Upkeep
from segue.wire.client import UpgradeServer
from segue.wire.messages import HeartbeatReply

logger = logging.getLogger(__name__)

#: Between two reports at least, however much callers claim.
_GAP_S = 0.1


class ReportLoop:
    """Says how one node is, and passes on what the upgrade server answers.

    Args:
        settings: the node's settings.
        folders: the node's places on disk.
        server: the upgrade server.
        metrics: are shown what is reported.
        news: knows when the node tries again.
        where: says where the node is on its journey.
        hear: is told what the upgrade server answers.
    """

    def __init__(
        self,
        *,
        settings: NodeSettings,
        folders: Folders,
        server: UpgradeServer,
        metrics: NodeMetrics,
        news: News,
        where: Callable[[], Journey],
        hear: Callable[[HeartbeatReply], None],
    ) -> None:
        self._settings = settings
        self._folders = folders
        self._metrics = metrics
        self._news = news
        self._where = where
        self._hear = hear
        self._reports = Reports(folders.usage)
        self._speaking = Speaking(server, settings.system, settings.node_id)
        self._now = asyncio.Event()

    def soon(self) -> None:
        """Report soon: something happened."""
        self._now.set()

    async def run(self, executor: Executor, processes: Processes, upkeep: Upkeep) -> None:
        """Report, until cancelled; `executor`, `processes` and `upkeep` know how the node is."""
        reachable, refused, backoff = True, False, Backoff(_GAP_S)
        while True:
            gap_s = _GAP_S
            try:
                await self.once(executor, processes, upkeep)
                reachable, refused = True, False
                self._metrics.reported(answered=True)
                backoff.reset()
            except OperatorError as error:  # its numbers change, so it is said once
                self._metrics.reported(answered=False)
                if not refused:
                    logger.error("the upgrade server does not take this node's reports, and is asked again: %s", error)
                refused = True
            except SegueError as error:
                self._metrics.reported(answered=False)
                if reachable:
                    logger.warning("cannot report to the upgrade server, and tries on: %s", error)
                reachable = False
                if isinstance(error, PeerError):  # however much there is to tell, it is not asked again at once
                    gap_s = backoff.after_failure(error.retry_after_s)
            await asyncio.sleep(gap_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._settings.poll_s):
                    await self._now.wait()
            self._now.clear()

    async def once(self, executor: Executor, processes: Processes, upkeep: Upkeep) -> None:
        """Report now.

        Raises:
            SegueError: the upgrade server does not take the report, or does not answer.
        """
        gathered = await self._reports.gather((*processes.leaving, *processes.running.values()))
        at = self._where()
        # Or the next, which is on its probation.
        serving = processes.running.get(at.generation) or processes.running.get(at.generation + 1)
        if processes.trouble:  # it passes, so it is in no journal
            at = replace(at, failure=processes.trouble, failure_details="")
        condition = self._condition(at, executor, processes, upkeep)
        self._metrics.reports(condition, gathered.reports)
        message = heartbeat(
            self._settings,
            at,
            pid=serving.pid if serving else None,
            process_reports=gathered.reports,
            condition=condition,
            agent=agent_row(self._folders.agent, self._settings.poll_s),
        )
        reply = await self._speaking.send(message)
        self._reports.arrived(gathered)
        if gathered.more:
            self._now.set()
        self._hear(reply)

    def _condition(self, at: Journey, executor: Executor, processes: Processes, upkeep: Upkeep) -> Condition:
        """Say how the node is, beside where it is."""
        return Condition(
            hand_over=mode_of(self._settings.hand_over).value,
            progress=executor.transforms.progress,
            attempts=at.failures,
            attempts_limit=self._settings.retries + 1,
            retry_at=None if at.gave_up else self._news.retry_at,
            waits_for_operator=at.gave_up,
            crashes=processes.crashes,
            disk=upkeep.disk,
            holds=executor.permits.asking.holds if at.phase is Phase.WAITING else {},
        )
