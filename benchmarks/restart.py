"""What an upgrade is without Segue: a plain server is stopped and started cold, and its callers see it.

It is `benchmarks.plain`: the object that the node of `benchmarks.pause` begins with, in a plain `grpc.aio` server,
under the same load. It is told to stop, lets the calls inside end, and its process ends; then the same server is
started on the same port and the same state.
"""

import asyncio
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from benchmarks.load import Calling, loaded
from segue.local.machine import free_ports

_LIMIT_S = 60.0
#: Between two tries to be answered.
_LOOK_S = 0.005
#: The callers go on so long, as gRPC lets a second pass before it connects again.
_SETTLE_S = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """One restart.

    Attributes:
        cold_ms: from when the server was told to stop until a call on a new connection was answered.
        longest_gap_ms: how long one of the callers had no answer at most.
        calls, failed_calls: of the load.
    """

    cold_ms: float
    longest_gap_ms: float
    calls: int
    failed_calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartFigures:
    """Medians over restarts, in milliseconds.

    Attributes:
        median_ms: from when the server was told to stop until a call on a new connection was answered.
        longest_gap_ms: how long one of the callers had no answer at most.
        restarts: how many.
        calls, failed_calls: of all callers, in all restarts.
    """

    median_ms: float
    longest_gap_ms: float
    restarts: int
    calls: int
    failed_calls: int


class Plain:
    """The server's process.

    Args:
        release: the folder of the object's release.
        state: the object's folder.
        calling: opens callers.

    Attributes:
        address: where it listens.
    """

    def __init__(self, release: Path, state: Path, calling: Calling) -> None:
        (port,) = free_ports(1)
        self.address = f"127.0.0.1:{port}"
        self._command = (sys.executable, "-m", "benchmarks.plain", str(release), self.address, str(state))
        self._calling = calling
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; it serves a moment later."""
        self._process = await asyncio.create_subprocess_exec(*self._command, stdout=asyncio.subprocess.DEVNULL)

    async def stop(self) -> None:
        """Tell it to stop, and wait until its process has ended."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.terminate()
        async with asyncio.timeout(_LIMIT_S):
            await self._process.wait()

    async def until_answered(self) -> None:
        """Wait until a call on a new connection is answered."""
        async with asyncio.timeout(_LIMIT_S):
            while True:
                async with self._calling(1, self.address) as caller:
                    with suppress(grpc.aio.AioRpcError):
                        await caller.read("nobody")
                        return
                await asyncio.sleep(_LOOK_S)

    async def restart(self, generator: random.Random) -> Restart:
        """Stop it and start it again, under load."""
        async with loaded(self._calling, self.address, generator) as load:
            began = time.perf_counter()
            await self.stop()
            await self.start()
            await self.until_answered()
            cold_ms = (time.perf_counter() - began) * 1000
            await asyncio.sleep(_SETTLE_S)
        return Restart(
            cold_ms=cold_ms,
            longest_gap_ms=load.longest_gap_ms(),
            calls=load.calls,
            failed_calls=load.failed_calls,
        )


@asynccontextmanager
async def plain(release: Path, state: Path, calling: Calling) -> AsyncIterator[Plain]:
    """Run the server, for the time of the context."""
    server = Plain(release, state, calling)
    await server.start()
    try:
        await server.until_answered()
        yield server
    finally:
        await server.stop()


def restart_figures(restarts: Sequence[Restart]) -> RestartFigures:
    """Put several restarts together."""
    return RestartFigures(
        median_ms=round(statistics.median(one.cold_ms for one in restarts), 1),
        longest_gap_ms=round(statistics.median(one.longest_gap_ms for one in restarts), 1),
        restarts=len(restarts),
        calls=sum(one.calls for one in restarts),
        failed_calls=sum(one.failed_calls for one in restarts),
    )
