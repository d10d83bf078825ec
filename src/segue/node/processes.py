"""The application's processes on one node: which is in service, which are leaving, and how one that died comes back.

Each goes by its generation, the number that a hand-over of the port adds one to, so two of one release do not
meet. Two at most have the node's state to do with; any number of older ones may still forward calls.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from segue import journey
from segue.errors import PeerError, SegueError
from segue.node.control import HostGoneError, reason_of
from segue.node.folders import Folders
from segue.node.hosts import HostProcess, Hosts
from segue.node.placement import Placement
from segue.node.plan import HandOverMode, HostPhase

logger = logging.getLogger(__name__)

#: What a process of the application, or the agent's own dealing with it, may fail with.
FAILURES = (SegueError, OSError)
#: The second time in a row that a process does not stay, the next one waits so long; each further time twice that.
_FIRST_WAIT_S = 0.5
_WAIT_LIMIT_S = 30.0
#: A process that lived so long did stay: its end is the first of a new row.
_STAYED_S = 60.0


class Processes:
    """The processes of one node.

    Args:
        placement: makes their plans.
        folders: the node's places on disk.
        hosts: starts them.
        watch: is told of every process that is started or found.
        mode: how the ports pass from one to the next.
    """

    def __init__(
        self,
        *,
        placement: Placement,
        folders: Folders,
        hosts: Hosts,
        watch: Callable[[HostProcess], None],
        mode: HandOverMode,
    ) -> None:
        self._placement = placement
        self._folders = folders
        self._hosts = hosts
        self._watch = watch
        self._at_once = mode is HandOverMode.STOP_AND_START
        #: `{generation: its process}`, of those that are not leaving
        self.running: dict[int, HostProcess] = {}
        #: Processes that were replaced and still forward calls, oldest first.
        self.leaving: list[HostProcess] = []
        #: Processes that were told to end, until they are gone: they may have the state open till then.
        self._ending: list[HostProcess] = []
        #: Ends of a process in service that nobody ordered.
        self.crashes = 0
        #: Why the version that owns the state is not in service, or not at all of the node's ports; None if it is.
        self.trouble: str | None = None
        self._in_a_row = 0
        self._began: dict[HostProcess, float] = {}

    async def adopt(self) -> None:
        """Find the processes that an earlier agent left, and see those out that are leaving."""
        for host in self._hosts.find(self._folders.run):
            logger.info("found the application's process %s", host.pid)
            self._watch(host)
            self._began[host] = time.monotonic()
            try:
                phase = (await host.report())["phase"]
            except PeerError as error:  # it is busy, or ends at this moment: whoever needs it next will see
                logger.warning("process %s does not say where it is: %s", host.pid, error)
                phase = None
            if phase == HostPhase.LEAVING:
                self.leaving.append(host)
            else:
                self.running[host.generation] = host

    async def warm(self, at: journey.Journey) -> HostProcess:
        """Return the process that runs what `at` says the node runs, with all imported.

        Raises:
            AuthorCodeError, PeerError: it does not come up, or its release does not import.
        """
        host = self.running.get(at.generation)
        if host is None:
            await self.end(at.generation)
            try:
                host = await self._hosts.spawn(self._placement.host_plan(at), at.generation)
            except FAILURES:
                self._in_a_row += 1
                raise
            self.running[at.generation] = host
            self._began[host] = time.monotonic()
            self._watch(host)
        await host.warm(self._placement.imports(at))
        return host

    async def start(self, at: journey.Journey) -> HostProcess:
        """Return the process that runs what `at` says the node runs, with its object started.

        Raises:
            AuthorCodeError, PeerError: it does not start.
        """
        host = await self.warm(at)
        await host.start(self._placement.stage(at))
        return host

    async def serve(self, at: journey.Journey) -> HostProcess:
        """Make sure that the version that owns the state serves, and return its process.

        Raises:
            AuthorCodeError, PeerError: it does not start.
        """
        self._take_back(at.generation)
        host = await self.start(at)
        answered = await host.answers()
        for future in at.futures:
            version = future.release.version
            if version not in answered:  # it hears nothing of the calls that come: what it kept would be out of date
                self._folders.discard(self._folders.future(version))
        await host.serve()
        self.trouble = None
        return host

    async def bring_back(self, at: journey.Journey, tries: int | None = None) -> HostProcess | None:
        """Have the version that owns the state serve, and return its process.

        Args:
            at: where the node is.
            tries: how often to try; None for as often as it takes.

        Returns:
            None if it could not be had: then the node is down until the next call of this.
        """
        while True:
            host = self.running.get(at.generation)
            if host is None:
                await self.wait_before_next()
            try:
                return await self.serve(at)
            except FAILURES as error:
                await self.make_room(at, error)
            if tries is not None:
                tries -= 1
                if not tries:
                    return None

    async def keep(self, at: journey.Journey) -> None:
        """Have the version that owns the state serve, until cancelled."""
        while True:
            host = self.running.get(at.generation) or await self.bring_back(at, tries=1)
            if host is not None:
                await host.ended()
                self.forget(host)

    async def make_room(self, at: journey.Journey, error: Exception) -> None:
        """End the process that cannot serve: nothing better can be done for the callers than to start another."""
        self.trouble = f"version {at.version} is not in service: {reason_of(error)}"
        logger.error("%s", self.trouble)
        host = self.running.get(at.generation)
        if host is not None:  # else it has ended, and that has been counted
            self._count(time.monotonic() - self._began.get(host, time.monotonic()))
            self.crashes += isinstance(error, HostGoneError)
        await self.end(at.generation)

    async def wait_before_next(self) -> None:
        """Wait before another process is started, the longer the more of them did not stay."""
        await asyncio.sleep(self.next_wait_s)

    @property
    def next_wait_s(self) -> float:
        """Seconds until another process is started, from the end of the last."""
        if self._in_a_row < 2:
            return 0.0
        return min(_FIRST_WAIT_S * 2.0 ** min(self._in_a_row - 2, 10), _WAIT_LIMIT_S)

    async def replace(self, old: int, new: int) -> None:
        """Have the process of generation `old`, and all that are leaving, forward their calls to that of `new`."""
        host = self.running.pop(old, None)
        if host is not None:
            self.leaving.append(host)
        for leaving in reversed(tuple(self.leaving)):  # the calls that wait are with the one that left last
            try:
                await leaving.leave(self._folders.peer(new), at_once=self._at_once)
            except FAILURES as error:  # its parked calls are lost with it; the new one serves all the same
                logger.warning("process %s did not hand its calls over: %s", leaving.pid, error)
                self.forget(leaving)
                await leaving.end()

    async def with_ports(self, host: HostProcess, at: journey.Journey) -> None:
        """Have the new process take the ports, if it waited for the old one to leave them.

        What others relay to it is answered meanwhile: so it is not ended only because a port is not to be had. One
        that ends by itself is not started again here: whoever looks after it next sees that it is gone.

        Args:
            host: the process.
            at: where the node is when it has them.
        """
        while True:
            try:
                await host.serve()
                self.trouble = None
                return
            except HostGoneError as error:
                await self.make_room(at, error)
                return
            except FAILURES as error:
                self.trouble = f"version {at.version} does not have its ports yet: {reason_of(error)}"
                logger.error("%s", self.trouble)
                await asyncio.sleep(1.0)

    async def end(self, generation: int) -> None:
        """End the process of `generation`, if there is one; when this returns, it is gone.

        So is one whose end was cancelled before it was gone.
        """
        host = self.running.pop(generation, None)
        if host is not None:
            self._ending.append(host)
        for ending in [one for one in self._ending if one.generation == generation]:
            await ending.end()
            self._ending.remove(ending)

    async def end_all(self) -> None:
        """End every process, since nobody would look after them; an end that is cancelled kills them."""
        hosts = (*self.running.values(), *self.leaving, *self._ending)
        self.running.clear()  # these ends are ordered
        try:
            async with asyncio.TaskGroup() as ends:
                for host in hosts:
                    ends.create_task(host.end())
        except asyncio.CancelledError:
            for host in hosts:
                host.kill()
            raise

    def forget(self, host: HostProcess) -> None:
        """Take note that a process is gone."""
        lived_s = time.monotonic() - self._began.pop(host, time.monotonic())
        if self.running.get(host.generation) is host:
            del self.running[host.generation]
            self.crashes += 1
            self._count(lived_s)
            logger.error("the application's process %s ended by itself, %.1f s after its start", host.pid, lived_s)
        with suppress(ValueError):
            self.leaving.remove(host)

    def _count(self, lived_s: float) -> None:
        """Count a process that did not stay, after `lived_s` seconds."""
        self._in_a_row = self._in_a_row + 1 if lived_s < _STAYED_S else 1

    def _take_back(self, generation: int) -> None:
        """Have a process that was leaving stay, if it is of `generation`: its successor is no more."""
        for host in self.leaving:
            if host.generation == generation and generation not in self.running:
                self.leaving.remove(host)
                self.running[generation] = host
                return
