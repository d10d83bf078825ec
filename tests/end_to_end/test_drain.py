"""Calls on a connection that outlives upgrades are answered, whichever process it once led to."""

import asyncio
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from segue.layer.grpc_channel import labelled_channel
from segue.local import LocalSettings, is_alive
from segue.model.ids import NodeId, Version
from segue.release.bundle import build
from segue.testing.counting import COUNTER, SYSTEM, CountingCaller, write_counting
from segue.testing.load import Load
from segue.testing.rig import Rig, prepared

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]

SEED = 20_260_304
N1 = NodeId("n1")
LIMIT_S = 60.0
#: Longer than the test: no connection is renewed by itself.
AGE_S = 1000
PROBATION = ("--probation-s", "0.2")


async def until(holds: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(LIMIT_S):
            while not holds():  # noqa: ASYNC110 - other processes do not tell
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {LIMIT_S:g} s: {what}") from None


async def answered(load: Load) -> None:
    """Wait until some more calls were answered."""
    enough = load.outcomes["OK"] + 50
    await until(lambda: load.outcomes["OK"] >= enough or load.failed, "calls go on")


async def serving(rig: Rig, version: int) -> int:
    """Wait until the node serves a version, and return its process."""
    (now,) = (await rig.until_serving(version)).nodes
    assert now.pid is not None
    return now.pid


async def test_upgrades_while_older_processes_still_drain(tmp_path: Path) -> None:
    """Three go by while clients keep the connections that they had before each, and none of their calls fails.

    On the way the agent is killed: the next one finds all the processes, and tells each where calls go now.
    """
    releases = write_counting(tmp_path / "releases", 4)
    settings = LocalSettings(system=SYSTEM, class_name=COUNTER, nodes=1, poll_s=0.1, max_connection_age_s=AGE_S)
    async with prepared(tmp_path / "system", settings) as rig:
        await rig.server.publish(build(releases[0]))
        await rig.local.start_node(N1, *PROBATION)
        pids = [await serving(rig, 1)]
        load = Load(address=rig.local.members[N1], rng=random.Random(SEED), think_s=0.1)
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with labelled_channel(load.address, version=Version(1), options=options) as kept:
            idle = CountingCaller(1, kept, "idle", timeout_s=30)
            await idle.add(1)
            async with asyncio.TaskGroup() as clients:
                clients.create_task(load.stay(1))
                for version, (previous, release) in enumerate(pairwise(releases), start=2):
                    await rig.server.publish(build(release, previous=previous))
                    pids.append(await serving(rig, version))
                    load.newest = version
                    clients.create_task(load.stay(version))
                    await answered(load)
                    if version == 3:
                        await rig.local.kill(N1)
                        await rig.local.start_node(N1, *PROBATION)
                assert all(map(is_alive, pids))  # each has connections
                for kind in idle.kinds:  # nothing came this way since version 1
                    await kind(3)
                load.stopped = True
            assert not load.failed
            await until(lambda: not any(map(is_alive, pids[1:-1])), "processes end whose clients have left")
            for kind in idle.kinds:
                await kind(2)
            assert is_alive(pids[0])
        await until(lambda: not is_alive(pids[0]), "the last connection is closed")
        assert is_alive(pids[-1])
