"""Plain clients that call one node of the counting system all the time, with all four kinds of calls."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count

import grpc.aio

from segue.layer.grpc_channel import labelled_channel
from segue.model.ids import Version
from segue.testing.counting import CountingCaller

#: Calls at once on each connection.
AT_ONCE = 4
#: Far longer than a call takes, so that one that is late is told from one that is lost.
_DEADLINE_S = 30.0
#: A client as gRPC makes it: no retry policy, no wait-for-ready; and connections that it shares with nobody. Not
#: `grpc.enable_retries=0`: with that, a call that has not left the client when its connection is renewed fails
#: ("Stream removed"), one in some 15,000 that way, at any gRPC server that has a `max_connection_age`.
_OPTIONS = (("grpc.use_local_subchannel_pool", 1),)


@dataclass(slots=True, kw_only=True)
class Load:
    """Clients that call one node until they are told to stop, and what came of it.

    Attributes:
        address: the node's.
        rng: draws what is called, and when.
        newest: the newest version that was published: clients that come speak any up to it.
        think_s: the mean of the pauses between two calls of a caller, in seconds.
        newcomer_s: the mean of the pauses between two clients that come, in seconds.
        outcomes: how often a call ended how.
        calls: when each began and ended.
        connections: how many clients have come.
        stopped: true once they are to stop.
    """

    address: str
    rng: random.Random
    newest: int = 1
    think_s: float = 0.06
    newcomer_s: float = 0.05
    outcomes: Counter[str] = field(default_factory=Counter)
    calls: list[tuple[datetime, datetime]] = field(default_factory=list)
    connections: int = 0
    stopped: bool = False
    _numbers: "count[int]" = field(default_factory=count)

    @property
    def failed(self) -> dict[str, int]:
        """The calls that were not answered, or not right: `{how they ended: how often}`."""
        return {outcome: times for outcome, times in self.outcomes.items() if outcome != "OK"}

    async def stay(self, version: int) -> None:
        """Be a client that keeps its channel, and makes several calls at once on it."""
        async with self._channel(version) as callers, asyncio.TaskGroup() as at_once:
            for caller in callers:
                at_once.create_task(self._keep_calling(caller))

    async def come(self) -> None:
        """Have clients come that make a few calls and go, until told to stop."""
        async with asyncio.TaskGroup() as visits:
            while not self.stopped:
                visits.create_task(self._visit())
                await asyncio.sleep(self.rng.expovariate(1 / self.newcomer_s))

    async def _visit(self) -> None:
        async with self._channel(self.rng.randint(1, self.newest)) as callers:
            for caller in callers[: self.rng.randint(1, 2)]:
                await self._call(caller)

    async def _keep_calling(self, caller: CountingCaller) -> None:
        while not self.stopped:
            await self._call(caller)
            await asyncio.sleep(self.rng.expovariate(1 / self.think_s))

    async def _call(self, caller: CountingCaller) -> None:
        kind, began = self.rng.choice(caller.kinds), datetime.now(UTC)
        try:
            await kind(self.rng.randint(1, 5))
            self.outcomes["OK"] += 1
        except grpc.aio.AioRpcError as error:
            self.outcomes[f"{kind.__name__}: {error.code().name}: {error.details()}"] += 1
        except AssertionError as error:
            self.outcomes[f"{kind.__name__}: wrong: {error}"] += 1
        self.calls.append((began, datetime.now(UTC)))

    @asynccontextmanager
    async def _channel(self, version: int) -> AsyncIterator[Sequence[CountingCaller]]:
        """Open a connection, and give callers that share it."""
        self.connections += 1
        async with labelled_channel(self.address, version=Version(version), options=_OPTIONS) as channel:
            names = [f"c{next(self._numbers)}" for _ in range(AT_ONCE)]
            yield [CountingCaller(version, channel, name, timeout_s=_DEADLINE_S) for name in names]
