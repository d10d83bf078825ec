"""The processes of a local system: each is started, ended and killed by its name."""

import asyncio
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from segue.errors import SegueError
from segue.local.machine import accepts, free_ports, has_members, kill_group, last_line, runtime_folder
from segue.model.ids import ClassName, NodeId, SystemName

_COMMAND_S = 60.0
_LOOK_S = 0.1
#: For agents to end their own processes; then the whole group is killed.
_END_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSettings:
    """What the nodes of a local system have in common.

    Attributes:
        system, class_name: what the nodes are.
        nodes: how many there are.
        zones: the values of the attribute `zone`, given to the nodes in turn.
        poll_s: seconds between a node's reports.
        max_connection_age_s: seconds until gRPC renews a connection.
        max_message_mib: the largest message that nodes receive, in MiB.
        probation_s: seconds after an upgrade in which the end of the new process counts as the release's failure.
        command: the `segue` command, by default that of this Python.
        node_options: further options of `segue node`, for every node.
    """

    system: SystemName
    class_name: ClassName
    nodes: int
    zones: Sequence[str] = ("a", "b", "c")
    poll_s: float = 0.5
    max_connection_age_s: float = 5.0
    max_message_mib: int = 4
    probation_s: float = 1.0
    command: Sequence[str] = (sys.executable, "-m", "segue")
    node_options: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A command that ended: its exit status, and what it wrote, standard output and error together."""

    status: int
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Process:
    name: str
    process: asyncio.subprocess.Process
    log: Path


@dataclass(slots=True)
class _Started:
    #: `{name: the process that has it now}`
    current: dict[str, _Process] = field(default_factory=dict)
    #: Process groups that may have members: what an agent that was killed left behind is in its group.
    groups: set[int] = field(default_factory=set)


class LocalSystem:
    """One upgrade server and its nodes; leaving the context ends every process of them.

    Each process writes to `logs/NAME.log`. The nodes' sockets are in a folder of their own, since `folder`
    may be too long for their paths; it goes when the context is left.

    Args:
        folder: an empty folder for all that they write.
        settings: what the nodes have in common.
    """

    def __init__(self, folder: Path, settings: LocalSettings) -> None:
        self.logs = folder / "logs"
        self.server_data = folder / "server"
        self._folder = folder
        self._sockets: Path | None = None
        self._settings = settings
        self._started = _Started()
        ports = free_ports(settings.nodes + 1)
        self._server = f"127.0.0.1:{ports[0]}"
        #: `{node: host:port}`
        self.members: Mapping[NodeId, str] = {
            NodeId(f"n{index}"): f"127.0.0.1:{port}" for index, port in enumerate(ports[1:], start=1)
        }

    @property
    def url(self) -> str:
        """Where the upgrade server is."""
        return f"http://{self._server}"

    def state(self, node: NodeId) -> Path:
        """The node's state folder."""
        return self._folder / node

    async def __aenter__(self) -> Self:
        self.logs.mkdir(parents=True)
        self._sockets = Path(tempfile.mkdtemp(prefix="segue-", dir=runtime_folder()))
        members = "".join(f'{node} = "{address}"\n' for node, address in self.members.items())
        self._config.write_text(f"[members]\n{members}", encoding="utf-8")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        try:
            await self._end_all()
        finally:
            assert self._sockets is not None
            shutil.rmtree(self._sockets, ignore_errors=True)

    async def start_server(self) -> None:
        """Start the upgrade server; it listens a moment later."""
        await self._start_current("server", "server", "--data", str(self.server_data), "--listen", self._server)

    async def until_listening(self) -> None:
        """Wait until the upgrade server listens.

        Raises:
            SegueError: it does not within a minute, or a process has ended.
        """
        try:
            async with asyncio.timeout(_COMMAND_S):
                while not await accepts(self._server):
                    self.require_all()
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            raise SegueError(f"the upgrade server does not listen at {self._server} after {_COMMAND_S:.0f} s") from None

    async def build(self, release: Path, previous: Path | None = None) -> Path:
        """Make the bundle of a release, and return where it is.

        Raises:
            SegueError: it cannot be made; with the last line of what was said.
        """
        bundle = self._folder / f"{release.name}.segue"
        after = ("--previous", str(previous)) if previous else ()
        await self._require(f"build-{release.name}", "build", str(release), *after, "--output", str(bundle))
        return bundle

    async def publish(self, bundle: Path) -> None:
        """Publish a bundle.

        Raises:
            SegueError: the upgrade server does not take it; with the last line of what was said.
        """
        await self._require(f"publish-{bundle.stem}", "publish", str(bundle), "--server", self.url)

    async def start_node(self, node: NodeId, *options: str) -> None:
        """Start a node's agent, for the first time or again; it serves a while later.

        Args:
            node: one of the members.
            options: further options of `segue node`, which stand for those given before.
        """
        settings, zones = self._settings, self._settings.zones
        zone = zones[list(self.members).index(node) % len(zones)]
        await self._start_current(
            node, "node", "--server", self.url, "--system", settings.system, "--class", settings.class_name,
            "--id", node, "--listen", self.members[node], "--state", str(self.state(node)),
            "--config", str(self._config), "--attribute", f"zone={zone}", "--poll-s", str(settings.poll_s),
            "--max-connection-age-s", str(settings.max_connection_age_s),
            "--max-message-mib", str(settings.max_message_mib), "--probation-s", str(settings.probation_s),
            *settings.node_options, *options,
        )  # fmt: skip

    async def start_nodes(self) -> None:
        """Start every node's agent."""
        for node in self.members:
            await self.start_node(node)

    async def run(self, name: str, *arguments: str, timeout_s: float = _COMMAND_S) -> Ended:
        """Run a `segue` command to its end.

        Raises:
            SegueError: it takes longer than `timeout_s`, and was killed.
        """
        started = await self._start(name, *arguments)
        try:
            async with asyncio.timeout(timeout_s):
                status = await started.process.wait()
        except TimeoutError:
            raise SegueError(f"`segue {' '.join(arguments)}` takes longer than {timeout_s:g} s") from None
        finally:
            if started.process.returncode is None:
                kill_group(started.process.pid)
                await _reaped(started)
            self._forget(started)
        return Ended(status=status, output=started.log.read_text(encoding="utf-8", errors="replace"))

    def tell(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process, if it is there."""
        with suppress(ProcessLookupError):
            self._started.current[name].process.send_signal(number)

    def pid(self, name: str) -> int:
        """Return the id of a process that was started and neither ended nor killed here."""
        return self._started.current[name].process.pid

    async def end(self, name: str, *, timeout_s: float = _COMMAND_S) -> int:
        """Tell a process to end, wait until it has, and return its exit status.

        Raises:
            SegueError: it has not within `timeout_s`; with the last line of its log.
        """
        self.tell(name, signal.SIGTERM)
        return await self.ended(name, timeout_s=timeout_s)

    async def ended(self, name: str, *, timeout_s: float = _COMMAND_S) -> int:
        """Wait until a process that was told to end has ended, and return its exit status.

        Raises:
            SegueError: it has not within `timeout_s`; with the last line of its log.
        """
        one = self._started.current[name]
        try:
            async with asyncio.timeout(timeout_s):
                status = await one.process.wait()
        except TimeoutError:
            raise SegueError(
                f"{name} was told to end and has not after {timeout_s:g} s: {last_line(one.log)}"
            ) from None
        del self._started.current[name]
        self._forget(one)
        return status

    async def kill(self, name: str) -> None:
        """Kill a process as a crash would, without what it started."""
        one = self._started.current.pop(name)
        with suppress(ProcessLookupError):
            one.process.kill()
        await _reaped(one)
        self._forget(one)

    def log(self, name: str) -> str:
        """Return what a process said so far."""
        return (self.logs / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def require_all(self) -> None:
        """Make sure that each process still runs.

        Raises:
            SegueError: one has ended; with the last line of its log.
        """
        for one in self._started.current.values():
            if one.process.returncode is not None:
                status = one.process.returncode
                raise SegueError(f"the process of {one.name} has ended with status {status}: {last_line(one.log)}")

    @property
    def _config(self) -> Path:
        return self._folder / "settings.toml"

    async def _start(self, name: str, *arguments: str) -> _Process:
        log = self.logs / f"{name}.log"
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *self._settings.command, *arguments, cwd=self._folder,
                env={**os.environ, "XDG_RUNTIME_DIR": str(self._sockets)},
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        started = _Process(name=name, process=process, log=log)
        self._started.groups.add(process.pid)
        return started

    async def _start_current(self, name: str, *arguments: str) -> None:
        self._started.current[name] = await self._start(name, *arguments)

    def _forget(self, ended: _Process) -> None:
        """Kill the group of a process that was reaped no more, unless it left something behind: the id is free."""
        if not has_members(ended.process.pid):
            self._started.groups.discard(ended.process.pid)

    async def _require(self, name: str, *arguments: str) -> None:
        ended = await self.run(name, *arguments)
        if ended.status:
            raise SegueError(f"`segue {' '.join(arguments)}` failed: {last_line(self.logs / f'{name}.log')}")

    async def _end_all(self) -> None:
        """End every process: agents end their own first, and what is left of a group is killed."""
        current = list(self._started.current.values())
        for one in current:
            with suppress(ProcessLookupError):
                one.process.terminate()
        try:
            async with asyncio.timeout(_END_S):
                for one in current:
                    await one.process.wait()
                    self._forget(one)
        except TimeoutError:
            pass
        finally:
            for group in self._started.groups:
                kill_group(group)
        for one in current:
            await _reaped(one)


async def _reaped(killed: _Process) -> None:
    """Wait until a process that was killed is gone.

    Raises:
        SegueError: the system does not end it.
    """
    try:
        async with asyncio.timeout(_END_S):
            await killed.process.wait()
    except TimeoutError:
        raise SegueError(f"{killed.name} was killed and is still there after {_END_S:.0f} s") from None
