"""A light, steady load of plain clients, and what they met: when each call ended, how long it took, and which failed.

The callers are of version 1, on channels of their own with gRPC's defaults: no retries, no wait-for-ready. Each makes
one call after another, and thinks between two.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import TypeAlias

import grpc.aio

from segue.testing.lineage import TallyCaller

#: Opens a caller of a version to an address.
Calling: TypeAlias = Callable[[int, str], AbstractAsyncContextManager[TallyCaller]]

_CALLERS = 4
_VERSION = 1
#: On average. Shorter, and the callers' own process would take a good part of a small machine.
_THINK_S = 0.01
#: Of each caller, before the load counts: connections are made, and the first calls fill caches.
_WARM_UP_CALLS = 20


class Caller:
    """One caller, and what it met.

    Attributes:
        took_s: how long each call took that was answered.
        answered_at: when it was, by `time.perf_counter`.
        failed: calls that were not.
    """

    def __init__(self, tally: TallyCaller, name: str) -> None:
        self.took_s: list[float] = []
        self.answered_at: list[float] = []
        self.failed = 0
        self._tally = tally
        self._name = name

    async def call(self) -> None:
        """Make one call."""
        began = time.perf_counter()
        try:
            await self._tally.add(self._name, 1)
        except grpc.aio.AioRpcError:
            self.failed += 1
            return
        ended = time.perf_counter()
        self.took_s.append(ended - began)
        self.answered_at.append(ended)


class Load:
    """All callers, and what they met together."""

    def __init__(self) -> None:
        self.callers: list[Caller] = []
        self.is_over = False

    @property
    def calls(self) -> int:
        """How many calls were made."""
        return self.failed_calls + sum(len(caller.took_s) for caller in self.callers)

    @property
    def failed_calls(self) -> int:
        """How many of them were not answered."""
        return sum(caller.failed for caller in self.callers)

    def longest_call_ms(self) -> float:
        """Return how long the longest call took that was answered."""
        return max(took_s for caller in self.callers for took_s in caller.took_s) * 1000

    def longest_gap_ms(self) -> float:
        """Return how long a caller had no answer at most."""
        gaps = (later - earlier for caller in self.callers for earlier, later in pairwise(caller.answered_at))
        return max(gaps) * 1000

    async def make_calls(self, caller: Caller, generator: random.Random) -> None:
        """Have a caller make calls until the load is over."""
        self.callers.append(caller)
        while not self.is_over:
            await caller.call()
            await asyncio.sleep(generator.expovariate(1 / _THINK_S))


@asynccontextmanager
async def loaded(calling: Calling, address: str, generator: random.Random) -> AsyncIterator[Load]:
    """Have callers on new connections call what listens at `address`, for the time of the context.

    Args:
        calling: opens a caller.
        address: where.
        generator: where randomness comes from.
    """
    load = Load()
    async with AsyncExitStack() as opened, asyncio.TaskGroup() as running:
        for number in range(_CALLERS):
            tally = await opened.enter_async_context(calling(_VERSION, address))
            for _ in range(_WARM_UP_CALLS):
                await tally.add(f"by {number}", 1)
            running.create_task(load.make_calls(Caller(tally, f"by {number}"), random.Random(generator.random())))
        try:
            yield load
        finally:
            load.is_over = True
