"""The agent: one loop from event to event along the journey, and two beside it that report and listen.

It learns of releases by its reports to the upgrade server, at once when a caller's label names a newer
version, and goes on from its journal after a crash, with the processes that are still there.
"""

import asyncio
import logging
from contextlib import suppress

from prometheus_client import CollectorRegistry

from segue import journey
from segue.errors import OperatorError, PeerError, SegueError
from segue.journey import Phase
from segue.model.clock import Clock
from segue.model.ids import Version
from segue.node.execute import Executor
from segue.node.folders import Folders, Identity
from segue.node.handover import mode_of
from segue.node.hosts import HostProcess, Hosts
from segue.node.journal import Journal
from segue.node.metrics import NodeMetrics
from segue.node.metrics_server import serving
from segue.node.news import News
from segue.node.orders import Done, Order, Orders, Refused, Restart, Retry
from segue.node.placement import Placement
from segue.node.plan import HandOver, HandOverMode
from segue.node.processes import Processes
from segue.node.report_loop import ReportLoop
from segue.node.retirement import Retirement
from segue.node.settings import NodeSettings
from segue.node.supervisor import Supervisor
from segue.node.told import Told
from segue.node.tracing import Traces
from segue.node.upkeep import Upkeep
from segue.node.vacancy import check_free
from segue.wire.client import UpgradeServer
from segue.wire.messages import HeartbeatReply

logger = logging.getLogger(__name__)

#: Phases in which the version that owns the state must be serving.
_SERVES_CURRENT = frozenset(
    {
        Phase.SERVING,
        Phase.FETCHING,
        Phase.INSTALLING,
        Phase.WAITING,
        Phase.WARMING,
        Phase.RETURNING,
        Phase.RESTART_WARMING,
    }
)
#: Phases in which calls wait, but for the transform, which may be long: to report takes the processor from them.
_IN_PAUSE = frozenset({Phase.STARTING, Phase.HANDING_OVER, Phase.RESTART_STARTING, Phase.RESTART_HANDING_OVER})
#: Phases whose commands may take long, as they wait for the upgrade server, import or install, and do not look after
#: the process meanwhile.
_MAY_BE_LONG = frozenset({Phase.FETCHING, Phase.WARMING, Phase.RETURNING, Phase.RESTART_WARMING})
#: So often in a row a node at rest tries to serve before it looks whether a release, or an order, may help.
_TRIES = 3
_NOBODY = Supervisor()


class Agent:
    """One node's agent.

    Args:
        settings: the node's settings.
        folders: the node's places on disk, claimed.
        server: the upgrade server.
        clock: for the instants that the journal keeps.
        supervisor: is told what the agent is at.
        registry: gets the agent's metrics.

    Raises:
        OperatorError: the node's journal cannot be read.
    """

    def __init__(
        self,
        *,
        settings: NodeSettings,
        folders: Folders,
        server: UpgradeServer,
        clock: Clock,
        supervisor: Supervisor = _NOBODY,
        registry: CollectorRegistry | None = None,
    ) -> None:
        self._supervisor = supervisor
        self._settings = settings
        self._folders = folders
        self._server = server
        self._clock = clock
        self._journal = Journal(folders.journal)
        try:
            self._at, _ = journey.fold(self._journal.events)
        except journey.UnexpectedEventError as error:
            self._journal.close()
            raise OperatorError(
                f"{folders.journal} has a gap ({error}): put back the whole file, or start the node on a new folder"
            ) from error
        self._metrics = NodeMetrics(settings, self._journal.events, registry or CollectorRegistry())
        self._traces = Traces(settings, kept=folders.trace, clock=clock, at=self._at)
        self._processes: Processes | None = None
        self._placement: Placement | None = None
        self._news = News(server, settings.system, retry_s=settings.retry_s, clock=clock)
        self._orders = Orders(wake=self._news.wake, where=lambda: log_words(self._at))
        self._told = Told(folders.told)
        self._news.oldest = self._told.oldest
        self._retirement = Retirement(self._told, folders)
        #: An operator's order to try again that has yet to be carried out.
        self._retry = ""
        #: The restart that is under way, if somebody waits for it.
        self._under_order: Order | None = None
        self._upkeep = Upkeep(
            folders=folders, clock=clock, keep_old_s=settings.keep_old_s, changed=lambda: self._reports.soon()
        )
        self._reports = ReportLoop(
            settings=settings,
            folders=folders,
            server=server,
            metrics=self._metrics,
            news=self._news,
            where=lambda: self._at,
            hear=self._hear,
        )

    async def run(self) -> None:
        """Be the node's agent until cancelled; then the application's processes are ended, too.

        Whatever else ends it, the application goes on, and the next agent finds it.

        Raises:
            OperatorError: the node cannot start: its port is taken, or its first release does not start.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                self._placement = placement = Placement(self._settings, self._folders)
                placement.oldest = self._told.oldest
                self._processes = processes = Processes(
                    placement=placement,
                    folders=self._folders,
                    hosts=Hosts(tasks),
                    watch=lambda host: self._watch(host, tasks),
                    mode=mode_of(self._settings.hand_over),
                )
                executor = Executor(
                    settings=self._settings,
                    folders=self._folders,
                    server=self._server,
                    placement=placement,
                    processes=processes,
                    news=self._news,
                    learn=self._next,
                    clock=self._clock,
                )
                async with self._orders.listening(self._folders.run):
                    try:
                        await self._travel(executor, processes, tasks)
                    finally:
                        await executor.transforms.cool()
        except asyncio.CancelledError:
            # Told to end, and only then: an agent that fails leaves the application in service.
            if self._processes:
                await self._processes.end_all()
            raise
        finally:
            self._journal.close()

    async def _travel(self, executor: Executor, processes: Processes, tasks: asyncio.TaskGroup) -> None:
        """Go from event to event, for ever."""
        await processes.adopt()
        if not processes.running and not processes.leaving:
            check_free(self._settings.addresses)
        tasks.create_task(self._reports.run(executor, processes, self._upkeep))
        tasks.create_task(self._upkeep.run())
        if self._at.phase is Phase.NEW:
            logger.info("waiting for a release of system %s", self._settings.system)
        else:
            logger.info("goes on: %s", log_words(self._at))
        # Not only when the node serves: that may take a transform of hours, and a supervisor would not wait.
        self._supervisor.ready()
        self._supervisor.status(log_words(self._at))
        while True:
            down = self._at.phase in _SERVES_CURRENT and not await self._serve(executor, processes)
            for command in journey.pending(self._at):
                event = await self._run(command, executor, processes)
                await self._record(event)
                if isinstance(event, journey.FirstStartFailed) and event.final:
                    with suppress(SegueError):  # whoever watches the fleet hears why this node does not come
                        await self._reports.once(executor, processes, self._upkeep)
                    raise OperatorError(f"node {self._settings.node_id} cannot start: {event.reason}")
                break
            else:
                await self._rest(processes.next_wait_s if down else None)

    async def _run(self, command: journey.Command, executor: Executor, processes: Processes) -> journey.Event:
        """Run a command; one that may take long does not keep a process that dies from being started again."""
        if self._at.phase not in _MAY_BE_LONG:
            return await executor.run(command, self._at)
        async with asyncio.TaskGroup() as meanwhile:
            keeping = meanwhile.create_task(processes.keep(self._at))
            event = await executor.run(command, self._at)
            keeping.cancel()
        return event

    async def _serve(self, executor: Executor, processes: Processes) -> bool:
        """Have the version that owns the state serve; False if it cannot be had, and something else may help."""
        given_up = self._at.phase is not Phase.RETURNING or (self._at.upgrade and self._at.upgrade.failure)
        host = await processes.bring_back(self._at, tries=_TRIES if given_up else None)
        if host is not None and self._at.phase is Phase.SERVING:
            await executor.install_lost(host, self._at)
        return host is not None

    async def _record(self, event: journey.Event) -> None:
        """Put the event into the journal, and only then follow it."""
        await self._keep(event)
        before = self._at
        self._at, _ = journey.advance(self._at, event)
        self._metrics.note(before, event, self._at)
        self._traces.note(before, event, self._at)
        logger.info("%s (%s)", log_words(self._at), type(event).__name__)
        self._supervisor.status(log_words(self._at))
        if self._at.phase not in _IN_PAUSE:
            self._reports.soon()
        if before.phase.is_restart and not self._at.phase.is_restart:
            self._answer_order(event)
        if isinstance(event, journey.Committed | journey.FirstStarted):
            self._upkeep.look()
        if isinstance(event, journey.RetryOrdered) and self._retry:
            self._carried_out()
        if (self._at.failed, self._at.failures) != (before.failed, before.failures):
            self._news.put_off(self._at.failures, _tried(before))
            self._log_attempts()

    def _log_attempts(self) -> None:
        """Say in the log what comes of a failure, once it is over."""
        if self._at.gave_up:
            logger.error(
                "gave up after %s attempts (%s): waits for `segue retry`, or for the next release",
                self._at.failures,
                self._at.failure,
            )
        elif self._at.failures:
            logger.warning("attempt %s failed: tries again in %.0f s", self._at.failures, self._news.retry_in_s)

    async def _keep(self, event: journey.Event) -> None:
        """Have the event in the journal, as soon as the disk has room for it; what serves, serves on meanwhile."""
        while True:
            try:
                self._journal.append(event)
                return
            except PeerError as error:
                logger.error("%s: make room; it is tried again", error)
                await asyncio.sleep(error.retry_after_s)

    async def _rest(self, limit_s: float | None) -> None:
        """Wait until something is new, and enter it; `limit_s` is when to try again to serve."""
        await self._news.wait(limit_s)
        event = await self._next(self._at)
        if event:
            await self._record(event)

    async def _next(self, at: journey.Journey) -> journey.Event | None:
        """Return what there is to do next for a node that is at rest or waits: an order, or a release that it wants."""
        if self._processes is not None and at.phase is not Phase.NEW:
            await self._retirement.apply(self._processes.running.get(at.generation))
        match self._orders.take() if at.phase is not Phase.NEW else None:
            case Restart() as order:
                self._under_order = order
                return journey.RestartOrdered()
            case Retry() as order:
                node = self._settings.node_id
                if not (at.failures or at.rejected):
                    self._orders.answer(order, Done(text=f"node {node} has nothing to try again: nothing failed"))
                    return await self._news.next(at)
                self._orders.answer(order, Done(text=f"node {node} tries again what it gave up"))
                return journey.RetryOrdered()
            case None:
                return self._retry_if_told(at) or await self._news.next(at)

    def _retry_if_told(self, at: journey.Journey) -> journey.RetryOrdered | None:
        """Return an order to try again that came through the upgrade server, if there is something to try."""
        if not self._retry or at.phase is Phase.NEW:
            return None
        if at.failures or at.rejected:
            return journey.RetryOrdered()
        logger.info("told by an operator to try again, and nothing failed")
        self._carried_out()
        return None

    def _carried_out(self) -> None:
        self._told.carried_out(self._retry)
        self._retry = ""

    def _hear(self, reply: HeartbeatReply) -> None:
        """Take note of what the upgrade server tells."""
        if self._told.retire(Version(reply.oldest)):
            self._news.oldest = self._told.oldest
            if self._placement is not None:
                self._placement.oldest = self._told.oldest
        if reply.retry and reply.retry != self._told.retried:
            self._retry = reply.retry
        host = self._processes.running.get(self._at.generation) if self._processes else None
        if self._retry or self._retirement.is_due(host):
            self._news.wake()
        self._news.hear(Version(reply.newest), self._at, Version(reply.first))

    def _answer_order(self, event: journey.Event) -> None:
        """Say how a restart went to who ordered it."""
        if self._under_order is None:
            return
        text = f"node {self._settings.node_id} has a new process of version {self._at.version}"
        match event:
            case journey.HandedOver(pid=pid):
                self._orders.answer(self._under_order, Done(text=text, pid=pid))
            case _:
                self._orders.answer(self._under_order, Refused(reason=self._at.failure or "it was not restarted"))
        self._under_order = None

    def _watch(self, host: HostProcess, tasks: asyncio.TaskGroup) -> None:
        """Have a process listened to for as long as it lives."""
        tasks.create_task(self._listen_to(host))

    async def _listen_to(self, host: HostProcess) -> None:
        """Ask the upgrade server as soon as a caller of `host` knows a newer version; note its end."""
        claims = 0
        with suppress(PeerError):
            while True:
                claims = await host.claims(claims)
                self._reports.soon()
        await host.ended()
        if self._processes:
            self._processes.forget(host)
        self._news.wake()


async def run_agent(settings: NodeSettings, clock: Clock, supervisor: Supervisor = _NOBODY) -> None:
    """Be the agent of the node that `settings` describe, until cancelled.

    Raises:
        OperatorError: the state folder is not this node's, an address is taken, or that of the metrics, a TLS file is
            not what it should be, or the node cannot start.
    """
    settings.tls.check()
    if mode_of(settings.hand_over) is HandOverMode.STOP_AND_START:
        logger.warning(
            "%s: this node stops and starts, and connections are refused for a moment at each upgrade",
            "told to by --hand-over"
            if settings.hand_over is HandOver.STOP_AND_START
            else "the kernel cannot steer new connections to one of several processes",
        )
    identity = Identity(system=settings.system, class_name=settings.class_name, node_id=settings.node_id)
    folders = Folders(settings.state, identity)
    registry = CollectorRegistry()
    try:
        with serving(settings.metrics, registry):
            async with UpgradeServer(settings.server_url) as server:
                agent = Agent(
                    settings=settings,
                    folders=folders,
                    server=server,
                    clock=clock,
                    supervisor=supervisor,
                    registry=registry,
                )
                await agent.run()
    except* SegueError as group:
        raise _first(group) from None
    finally:
        folders.close()


def log_words(at: journey.Journey) -> str:
    """Say in the log what the node runs, and which release its phase is about."""
    if not at.version:
        return at.phase.value + (f", version {at.learning[-1].version}" if at.learning else "")
    about = ""
    if at.learning:
        about = f" {at.learning[-1].version}"
    elif at.upgrade and at.upgrade.release.version > at.version:
        about = f", on its way to {at.upgrade.release.version}"
    return f"runs version {at.version}, {at.phase.value}{about}"


def _first(group: BaseExceptionGroup[SegueError]) -> SegueError:
    """Return the first error of the group: it ended the agent, the others followed from it."""
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error


def _tried(at: journey.Journey) -> Version:
    """Return what a node was at that failed: what it learnt, else where its upgrade leads."""
    if at.learning:
        return at.learning[-1].version
    return at.upgrade.release.version if at.upgrade else at.newest
