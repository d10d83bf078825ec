"""The promise, on real processes: no client can tell when a node upgraded."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

from segue.demo.away import absences, max_away
from segue.local import is_alive
from segue.testing.rig import Rig

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(180)]

SEED = 20_260_301


class Load:
    """Calls of one version to one node, one after the other, until told to stop; nothing is tried twice."""

    def __init__(self, caller: Any, rng: random.Random) -> None:
        self.stored: list[tuple[Any, bytes]] = []
        self.outcomes: Counter[str] = Counter()
        self._caller = caller
        self._rng = rng
        self._stop = False

    def stop(self) -> None:
        """End after the call that is under way."""
        self._stop = True

    async def run(self) -> None:
        """Put and get; what comes back must be what was put."""
        while not self._stop:
            try:
                if not self.stored or self._rng.random() < 0.4:
                    data = self._rng.randbytes(self._rng.randrange(2_000))
                    self.stored.append((await self._caller.put(data), data))
                else:
                    key, data = self._rng.choice(self.stored)
                    assert await self._caller.get(key) == data
                self.outcomes["OK"] += 1
            except grpc.aio.AioRpcError as error:
                self.outcomes[f"{error.code().name}: {error.details()}"] += 1
            await asyncio.sleep(self._rng.expovariate(1 / 0.01))


async def test_no_client_can_tell(
    start: Callable[[int], AbstractAsyncContextManager[Rig]],
    calling: Callable[[int, str], AbstractAsyncContextManager[Any]],
    releases: dict[int, Path],
) -> None:
    """Plain clients of both versions call every node throughout; no call fails, and all is there afterwards."""
    print(f"seed {SEED}")
    async with start(3) as rig, AsyncExitStack() as callers:
        before = {node.id: node.pid for node in (await rig.until_serving(1)).nodes}
        loads = []
        for version in (1, 2):
            for address in rig.local.members.values():
                caller = await callers.enter_async_context(calling(version, address))
                loads.append(Load(caller, random.Random(f"{SEED}/{version}/{address}")))
        async with asyncio.TaskGroup() as running:
            for load in loads[:3]:
                running.create_task(load.run())
            await rig.local.publish(await rig.local.build(releases[2], releases[1]))  # as an author does
            for load in loads[3:]:  # version 2's clients do not wait for anybody
                running.create_task(load.run())
            after = await rig.until_serving(2)
            for load in loads:
                load.stop()
        assert sum((load.outcomes for load in loads), Counter()).keys() == {"OK"}
        for load in loads:
            assert load.outcomes.total() > 20
            for key, data in load.stored:
                assert await load._caller.get(key) == data

        for node in after.nodes:
            (upgrade,) = node.upgrades
            assert upgrade.pids == (before[node.id], node.pid)
        await rig.until(lambda now: not any(is_alive(pid) for pid in before.values() if pid), "the old processes left")
        answered = {(row.caller_version, row.answered_by, row.from_node) for row in after.usage if row.count}
        assert {(1, "past", False), (2, "future", False), (1, "past", True), (2, "future", True)} <= answered
        assert len(after.permits) == 3
        assert 1 <= max_away(absences(after.permits, after.nodes)) <= 2  # as the release's schedule has it
        assert all(permit.failure is None for permit in after.permits)


async def test_a_callers_label_is_news(
    start: Callable[[int], AbstractAsyncContextManager[Rig]],
    calling: Callable[[int, str], AbstractAsyncContextManager[Any]],
    releases: dict[int, Path],
) -> None:
    """A node that would not ask for an hour learns from its caller, and the caller is answered."""
    async with start(1) as rig:
        (node, address), *_ = rig.local.members.items()
        await rig.local.end(node)
        await rig.local.start_node(node, "--poll-s", "3600")
        async with calling(1, address) as old, calling(2, address) as new:
            await _answers(old)
            await rig.publish(releases[2], releases[1])
            key = await new.put(b"from the future")
            assert await new.get(key) == b"from the future"
        assert await rig.until_serving(2)


async def _answers(caller: Any) -> None:
    """Wait until the node has come up: its port is closed before."""
    async with asyncio.timeout(60):
        while True:
            try:
                await caller.put(b"are you there?")
                return
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.1)
