"""The upgrade server and the nodes, as real processes on loopback, and their end."""

import asyncio
import os
import random
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from segue.errors import SegueError
from segue.model.ids import ClassName, NodeId, SystemName

SYSTEM = SystemName("blockstore")
CLASS = ClassName("BlockNode")
ZONES = ("a", "b", "c")

#: Below the ports that the system gives to outgoing connections, one of which could otherwise have ours.
_PORTS = range(18_000, 32_000)
_COMMAND_S = 60.0
#: For agents to end their own processes; then the whole group is killed.
_END_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Process:
    name: str
    process: asyncio.subprocess.Process
    log: Path


class Fleet:
    """One upgrade server and its nodes; leaving the context ends every process of them.

    Args:
        folder: an empty folder for all that they write.
        nodes: how many nodes.
    """

    def __init__(self, folder: Path, nodes: int) -> None:
        self.logs = folder / "logs"
        self._folder = folder
        self._processes: list[_Process] = []
        ports = free_ports(nodes + 1)
        self._server = f"127.0.0.1:{ports[0]}"
        #: `{node: host:port}`
        self.members: Mapping[NodeId, str] = {
            NodeId(f"n{index}"): f"127.0.0.1:{port}" for index, port in enumerate(ports[1:], start=1)
        }

    @property
    def url(self) -> str:
        """Where the upgrade server is."""
        return f"http://{self._server}"

    async def __aenter__(self) -> Self:
        self.logs.mkdir(parents=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        await self._end()

    async def start_server(self) -> None:
        """Start the upgrade server; it listens a moment later."""
        await self._start("server", "server", "--data", str(self._folder / "server"), "--listen", self._server)

    async def build(self, release: Path, previous: Path | None) -> Path:
        """Make the bundle of a release, and return where it is."""
        bundle = self._folder / f"{release.name}.segue"
        after = ("--previous", str(previous)) if previous else ()
        await self._command(f"build-{release.name}", "build", str(release), *after, "--output", str(bundle))
        return bundle

    async def publish(self, bundle: Path) -> None:
        """Publish a bundle."""
        await self._command(f"publish-{bundle.stem}", "publish", str(bundle), "--server", self.url)

    async def start_nodes(self) -> None:
        """Start every node's agent; they serve a while later."""
        settings = self._folder / "settings.toml"
        members = "".join(f'{node} = "{address}"\n' for node, address in self.members.items())
        settings.write_text(f"[members]\n{members}", encoding="utf-8")
        for index, (node, address) in enumerate(self.members.items()):
            await self._start(
                node, "node", "--server", self.url, "--system", SYSTEM, "--class", CLASS, "--id", node,
                "--listen", address, "--state", str(self._folder / node), "--config", str(settings),
                "--attribute", f"zone={ZONES[index % len(ZONES)]}", "--poll-s", "0.5", "--max-connection-age-s", "5",
            )  # fmt: skip

    def require_all(self) -> None:
        """Make sure that each process still runs.

        Raises:
            SegueError: one has ended; with the last line of its log.
        """
        for one in self._processes:
            if one.process.returncode is not None:
                status = one.process.returncode
                raise SegueError(f"the process of {one.name} has ended with status {status}: {last_line(one.log)}")

    async def _start(self, name: str, *arguments: str) -> _Process:
        log = self.logs / f"{name}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "segue", *arguments, cwd=self._folder,
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        started = _Process(name=name, process=process, log=log)
        self._processes.append(started)
        return started

    async def _command(self, name: str, *arguments: str) -> None:
        started = await self._start(name, *arguments)
        try:
            async with asyncio.timeout(_COMMAND_S):
                status = await started.process.wait()
        except TimeoutError:
            raise SegueError(f"`segue {' '.join(arguments)}` takes longer than {_COMMAND_S:.0f} s") from None
        self._processes.remove(started)
        if status:
            raise SegueError(f"`segue {' '.join(arguments)}` failed: {last_line(started.log)}")

    async def _end(self) -> None:
        """End every process: agents end their own first, and what is left of a group is killed."""
        for one in self._processes:
            with suppress(ProcessLookupError):
                one.process.terminate()
        try:
            async with asyncio.timeout(_END_S):
                for one in self._processes:
                    await one.process.wait()
        except TimeoutError:
            pass
        finally:
            for one in self._processes:
                with suppress(ProcessLookupError):
                    os.killpg(one.process.pid, signal.SIGKILL)
        for one in self._processes:
            await one.process.wait()


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


def keep_logs(logs: Path, target: Path) -> None:
    """Copy the logs of a demo that went wrong to where they can be read."""
    if logs.is_dir():
        shutil.copytree(logs, target, dirs_exist_ok=True)


def free_ports(count: int, *, can_listen: Callable[[int], bool] | None = None) -> Sequence[int]:
    """Return `count` loopback ports that nobody listens on at this moment."""
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
