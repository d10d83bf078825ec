"""Two agents on one state folder, or with one id: the second is told in one line, and the first goes on."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from segue.errors import OperatorError
from segue.local import free_ports
from segue.model.ids import SystemName
from segue.wire.client import UpgradeServer

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(120)]

#: Nobody answers there.
NOWHERE = "http://127.0.0.1:9"


class Running:
    """A process of the `segue` command, and what it says on either stream, line by line.

    Args:
        process: it.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    async def line(self, words: str) -> str:
        """Wait until it says a line with `words`, and return that."""
        assert self.process.stdout is not None
        while line := (await self.process.stdout.readline()).decode():
            self.lines.append(line.rstrip())
            if words in line:
                return line.rstrip()
        raise AssertionError(f"it ended without {words!r}: {self.lines}")

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it, and return its exit status."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode


@asynccontextmanager
async def segue(*arguments: str) -> AsyncIterator[Running]:
    async with AsyncExitStack() as ends:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "segue", *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "COLUMNS": "500"},
        )  # fmt: skip
        running = Running(process)
        ends.push_async_callback(running.end)
        async with asyncio.timeout(60):
            yield running


def free_port() -> int:
    (port,) = free_ports(1)
    return port


def node(state: Path, *, server: str = NOWHERE, port: int | None = None) -> list[str]:
    """Return the command that runs an agent of node n1 on that folder."""
    return [
        "node", "--system", "blockstore", "--class", "BlockNode", "--id", "n1", "--server", server,
        "--listen", f"127.0.0.1:{port or free_port()}", "--state", str(state),
    ]  # fmt: skip


async def until_at(server: UpgradeServer, port: int) -> None:
    """Wait until node n1 is known at that port."""
    while True:
        with suppress(OperatorError):
            (known,) = (await server.status(SystemName("blockstore"))).nodes
            if known.address == f"127.0.0.1:{port}":
                return
        await asyncio.sleep(0.05)


async def test_a_second_agent_on_a_state_folder_ends_at_once(tmp_path: Path) -> None:
    """It names the folder and the process that has it; that goes on, and when it is killed the folder is free."""
    async with segue(*node(tmp_path / "n1")) as first:
        await first.line("waiting for a release")
        async with segue(*node(tmp_path / "n1")) as second:
            said = await second.line("is in use")
            assert await second.process.wait() == 1
        assert said.endswith(
            f"state folder {tmp_path / 'n1'} is in use by another agent (process {first.process.pid}): end it, or give "
            "this node a folder of its own with --state"
        )
        assert len(second.lines) == 1
        assert first.process.returncode is None
        await first.end(signal.SIGKILL)
    async with segue(*node(tmp_path / "n1")) as third:
        await third.line("waiting for a release")
        assert await third.end() == 0


async def test_a_second_agent_with_a_nodes_id_is_refused_and_waits(tmp_path: Path) -> None:
    """It says so once, and starts nothing; the first stays known, and when it is started again, at once."""
    one, two, elsewhere = free_port(), free_port(), free_port()
    async with segue("server", "--data", str(tmp_path / "data"), "--listen", f"127.0.0.1:{free_port()}") as server:
        url = (await server.line("upgrade server at")).split()[-1]
        async with UpgradeServer(url) as client:
            async with segue(*node(tmp_path / "one", server=url, port=one)) as first:
                await until_at(client, one)
                async with segue(*node(tmp_path / "two", server=url, port=two)) as second:
                    said = await second.line("does not take")
                    assert f"node n1 of system blockstore is at 127.0.0.1:{one}, seen " in said
                    assert f"reports as n1 from 127.0.0.1:{two}, on a state folder of its own" in said
                    assert await second.end() == 0
                await until_at(client, one)
                assert await first.end() == 0
            async with segue(*node(tmp_path / "one", server=url, port=elsewhere)):
                await until_at(client, elsewhere)
