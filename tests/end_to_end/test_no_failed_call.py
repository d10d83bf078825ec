"""The promise, where it is hardest: one node, no replicas, plain clients, upgrade after upgrade."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, pairwise
from pathlib import Path

import grpc
import pytest

from segue.layer.grpc_channel import labelled_channel
from segue.local import LocalSettings, LocalSystem
from segue.model.ids import NodeId, Version
from segue.release.bundle import build
from segue.testing.counting import COUNTER, SYSTEM, CountingCaller, write_counting
from segue.testing.rig import Rig
from segue.wire.client import UpgradeServer
from segue.wire.messages import UpgradeRow

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]

SEED = 20_260_302
UPGRADES, CALLS = 10, 15_000
#: Connections that stay, as long as the node lets them; and calls at once on each.
CHANNELS, AT_ONCE = 12, 4
#: The mean of the pauses between two calls of a caller, and between two clients that come, in seconds.
THINK_S, NEWCOMER_S = 0.06, 0.05
DEADLINE_S = 30.0
N1 = NodeId("n1")
#: A client as gRPC makes it: no retry policy, no wait-for-ready; and connections that it shares with nobody. Not
#: `grpc.enable_retries=0`: with that, a call that has not left the client when its connection is renewed fails
#: ("Stream removed"), one in some 15,000 that way, at any gRPC server that has a `max_connection_age`.
OPTIONS = (("grpc.use_local_subchannel_pool", 1),)


@dataclass(slots=True, kw_only=True)
class Load:
    """Clients that call one node until they are told to stop, and what came of it.

    Attributes:
        address: the node's.
        newest: the newest version that was published: clients that come speak any up to it.
        outcomes: how often a call ended how.
        calls: when each began and ended.
        connections: how many clients have come.
    """

    address: str
    rng: random.Random
    newest: int = 1
    outcomes: Counter[str] = field(default_factory=Counter)
    calls: list[tuple[datetime, datetime]] = field(default_factory=list)
    connections: int = 0
    stopped: bool = False
    _numbers: "count[int]" = field(default_factory=count)

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
                await asyncio.sleep(self.rng.expovariate(1 / NEWCOMER_S))

    async def _visit(self) -> None:
        async with self._channel(self.rng.randint(1, self.newest)) as callers:
            for caller in callers[: self.rng.randint(1, 2)]:
                await self._call(caller)

    async def _keep_calling(self, caller: CountingCaller) -> None:
        while not self.stopped:
            await self._call(caller)
            await asyncio.sleep(self.rng.expovariate(1 / THINK_S))

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
        async with labelled_channel(self.address, version=Version(version), options=OPTIONS) as channel:
            names = [f"c{next(self._numbers)}" for _ in range(AT_ONCE)]
            yield [CountingCaller(version, channel, name, timeout_s=DEADLINE_S) for name in names]


async def test_no_call_fails(tmp_path: Path) -> None:
    """15,000 calls of all kinds over ten upgrades: each is answered, once, and right."""
    print(f"seed {SEED}")
    releases = write_counting(tmp_path / "releases", UPGRADES + 1)
    settings = LocalSettings(system=SYSTEM, class_name=COUNTER, nodes=1, poll_s=0.1, max_connection_age_s=1)
    local = LocalSystem(tmp_path / "system", settings)
    async with local, UpgradeServer(local.url) as server:
        rig = Rig(local, server, settings)
        await local.start_server()
        await local.until_listening()
        await server.publish(build(releases[0]))
        await local.start_nodes()
        await rig.until_serving(1)
        load = Load(address=local.members[N1], rng=random.Random(SEED))
        upgrades = await _upgrade_under(load, rig, releases)
    failed = {outcome: times for outcome, times in load.outcomes.items() if outcome != "OK"}
    assert not failed
    assert load.outcomes["OK"] >= CALLS
    assert load.connections > 100
    assert len(upgrades) >= UPGRADES
    for upgrade in upgrades:
        waited = [began for began, ended in load.calls if began < upgrade.serving_at and ended > upgrade.quiesced_at]
        assert waited, f"nobody called while the node went to version {upgrade.to_version}"


async def _upgrade_under(load: Load, rig: Rig, releases: Sequence[Path]) -> Sequence[UpgradeRow]:
    """Go from release to release while clients call, and return the upgrades."""
    async with asyncio.TaskGroup() as clients:
        for _ in range(CHANNELS):
            clients.create_task(load.stay(1))
        clients.create_task(load.come())
        for version, (previous, release) in enumerate(pairwise(releases), start=2):
            await rig.server.publish(build(release, previous=previous))
            load.newest = version
            clients.create_task(load.stay(version))
            await rig.until_serving(version)
        while len(load.calls) < CALLS:  # noqa: ASYNC110 - the callers need not say it each time
            await asyncio.sleep(0.1)
        load.stopped = True
    return (await rig.server.status(SYSTEM)).nodes[0].upgrades
