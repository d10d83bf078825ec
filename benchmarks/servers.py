"""Servers in processes of their own, to be measured: the upgrade server on a database, and the empty endpoint."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from segue.local.machine import accepts, free_ports

HOST = "127.0.0.1"
_START_S = 60.0
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that listens on `port` of 127.0.0.1."""

    pid: int
    port: int

    def cpu_s(self) -> float:
        """Return the processor time that it has used until now, in seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory_mib(self) -> float:
        """Return its resident memory, in MiB."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * _PAGE_BYTES / 2**20


@asynccontextmanager
async def empty_server() -> AsyncIterator[Server]:
    """Run the endpoint that does nothing."""
    async with _running(sys.executable, "-m", "benchmarks.empty_server") as process:
        assert process.stdout is not None
        async with asyncio.timeout(_START_S):
            port = int(await process.stdout.readline())
        yield Server(pid=process.pid, port=port)


@asynccontextmanager
async def upgrade_server(where: Path | str) -> AsyncIterator[Server]:
    """Run an upgrade server.

    Args:
        where: its folder, or the URL of its database.
    """
    (port,) = free_ports(1)
    listen = f"{HOST}:{port}"
    database = ("--data", str(where)) if isinstance(where, Path) else ("--database", where)
    command = (sys.executable, "-m", "segue", "server", "--listen", listen, *database)
    async with _running(*command) as process:
        async with asyncio.timeout(_START_S):
            while not await accepts(listen):
                assert process.returncode is None, f"segue server has ended with status {process.returncode}"
                await asyncio.sleep(0.05)
        yield Server(pid=process.pid, port=port)


@asynccontextmanager
async def _running(*command: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()
