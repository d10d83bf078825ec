"""A whole system on this machine: the upgrade server and the nodes as real processes on loopback.

The demo runs on it, and so do tests with real processes. It knows the `segue` command, and none of the
rooms behind it.
"""

import asyncio
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from segue.errors import SegueError
from segue.model.ids import ClassName, NodeId, SystemName

#: Below the ports that the system gives to outgoing connections, one of which could otherwise have ours.
_PORTS = range(18_000, 32_000)
_COMMAND_S = 60.0
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
    """

    system: SystemName
    class_name: ClassName
    nodes: int
    zones: Sequence[str] = ("a", "b", "c")
    poll_s: float = 0.5
    max_connection_age_s: float = 5.0


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
    #: Process groups of all that ever ran: what an agent that was killed left behind is in its group.
    groups: list[int] = field(default_factory=list)


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
        self._sockets = Path(tempfile.mkdtemp(prefix="segue-", dir=os.environ.get("XDG_RUNTIME_DIR")))
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
        await self._start("server", "server", "--data", str(self.server_data), "--listen", self._server)

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
        await self._start(
            node, "node", "--server", self.url, "--system", settings.system, "--class", settings.class_name,
            "--id", node, "--listen", self.members[node], "--state", str(self.state(node)),
            "--config", str(self._config), "--attribute", f"zone={zone}", "--poll-s", str(settings.poll_s),
            "--max-connection-age-s", str(settings.max_connection_age_s), *options,
        )  # fmt: skip

    async def start_nodes(self) -> None:
        """Start every node's agent."""
        for node in self.members:
            await self.start_node(node)

    async def run(self, name: str, *arguments: str) -> Ended:
        """Run a `segue` command to its end.

        Raises:
            SegueError: it takes longer than a minute.
        """
        started = await self._start(name, *arguments)
        del self._started.current[name]
        try:
            async with asyncio.timeout(_COMMAND_S):
                status = await started.process.wait()
        except TimeoutError:
            raise SegueError(f"`segue {' '.join(arguments)}` takes longer than {_COMMAND_S:.0f} s") from None
        return Ended(status=status, output=started.log.read_text(encoding="utf-8", errors="replace"))

    async def end(self, name: str) -> int:
        """Tell a process to end, wait until it has, and return its exit status."""
        one = self._started.current.pop(name)
        with suppress(ProcessLookupError):
            one.process.terminate()
        return await one.process.wait()

    async def kill(self, name: str) -> None:
        """Kill a process as a crash would, without what it started."""
        one = self._started.current.pop(name)
        with suppress(ProcessLookupError):
            one.process.kill()
        await one.process.wait()

    async def wait(self, name: str) -> int:
        """Wait until a process ends of itself, and return its exit status."""
        return await self._started.current.pop(name).process.wait()

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
                sys.executable, "-m", "segue", *arguments, cwd=self._folder,
                env={**os.environ, "XDG_RUNTIME_DIR": str(self._sockets)},
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        started = _Process(name=name, process=process, log=log)
        self._started.current[name] = started
        self._started.groups.append(process.pid)
        return started

    async def _require(self, name: str, *arguments: str) -> None:
        ended = await self.run(name, *arguments)
        if ended.status:
            raise SegueError(f"`segue {' '.join(arguments)}` failed: {last_line(self.logs / f'{name}.log')}")

    async def _end_all(self) -> None:
        """End every process: agents end their own first, and what is left of a group is killed."""
        processes = [one.process for one in self._started.current.values()]
        for process in processes:
            with suppress(ProcessLookupError):
                process.terminate()
        try:
            async with asyncio.timeout(_END_S):
                for process in processes:
                    await process.wait()
        except TimeoutError:
            pass
        finally:
            for group in self._started.groups:
                with suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGKILL)
        for process in processes:
            await process.wait()


def is_alive(pid: int) -> bool:
    """Say whether there is a process of that id that runs or waits to be reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def last_line(log: Path) -> str:
    """Return the last line of `log` that says something."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"it said nothing in {log}"


def free_ports(count: int, *, can_listen: Callable[[int], bool] | None = None) -> Sequence[int]:
    """Return `count` loopback ports that nobody listens on at this moment.

    Args:
        count: how many.
        can_listen: says whether a port is free; by default a socket tries.

    Raises:
        SegueError: there are not that many.
    """
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        if (can_listen or _can_listen)(port):
            found.append(port)
        if len(found) == count:
            return found
    raise SegueError(f"there are no {count} free ports from {_PORTS.start} to {_PORTS.stop - 1} on 127.0.0.1")


def _can_listen(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
