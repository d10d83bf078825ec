"""Ten versions, on real processes: releases come faster than nodes upgrade, and no client can tell."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from segue.local import LocalSettings, LocalSystem
from segue.model.ids import ClassName, NodeId, SystemName
from segue.release.bundle import build
from segue.testing.lineage import Adding, Lineage, TallyCaller, tally_callers, write_lineage
from segue.testing.rig import Rig
from segue.wire.client import UpgradeServer

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(400)]

#: One node goes through every version, and the others wait for a day; one that joins does not.
ONE_A_DAY = 'rate = "1/d"'
#: The same, and as long as the canary soaks, a node that joins begins with the version before.
SCHEDULE = 'canary = { nodes = 1, soak = "1d" }'
N1, N2, N3 = NodeId("n1"), NodeId("n2"), NodeId("n3")

Calling = Callable[[int, str], AbstractAsyncContextManager[TallyCaller]]


@asynccontextmanager
async def system(folder: Path, nodes: int) -> AsyncIterator[Rig]:
    """Run an upgrade server, and no node yet of so many."""
    settings = LocalSettings(
        system=SystemName("tally"), class_name=ClassName("Tally"), nodes=nodes, max_connection_age_s=1
    )
    local = LocalSystem(folder, settings)
    async with local, UpgradeServer(local.url) as server:
        await local.start_server()
        await local.until_listening()
        yield Rig(local, server, settings)


async def publish(rig: Rig, folders: Sequence[Path], *versions: int) -> None:
    for version in versions:
        previous = folders[version - 2] if version > 1 else None
        await rig.server.publish(build(folders[version - 1], previous=previous))


async def start(rig: Rig, *nodes: NodeId) -> None:
    for node in nodes:
        await rig.local.start_node(node)
    for node in nodes:
        await rig.until_node(node, lambda now: now.phase == "serving" and now.pid is not None, "serves")


async def test_ten_versions(tmp_path: Path) -> None:
    """One node goes to version 10, one stays at 1, one joins at the end; each answers all versions at all times."""
    versions = range(1, 11)
    lineage = write_lineage(tmp_path / "releases", len(versions), schedule=ONE_A_DAY)
    with tally_callers(lineage) as calling:
        async with system(tmp_path / "system", 3) as rig, AsyncExitStack() as callers, asyncio.TaskGroup() as running:
            await publish(rig, lineage.folders, 1)
            await start(rig, N1, N2)
            loads: list[Adding] = []
            for version in versions:
                if version > 1:
                    await publish(rig, lineage.folders, version)
                for node in (N1, N2):
                    caller = await callers.enter_async_context(calling(version, rig.local.members[node]))
                    loads.append(Adding(caller, f"by-{version}"))
                    running.create_task(loads[-1].run())
            for version in versions:
                await rig.until(
                    lambda now, version=version: any(one.version >= version for one in now.nodes),  # type: ignore[misc]
                    f"a node runs version {version}",
                )
            now = await rig.until(
                lambda now: any(one.phase == "serving" and one.version == 10 and one.upgrades for one in now.nodes),
                "it rests",
            )
            for load in loads:
                load.stopped = True
            assert sum((load.outcomes for load in loads), Counter()).keys() == {"OK"}
            (ahead,) = (node for node in now.nodes if node.version == 10)
            (behind,) = (node for node in now.nodes if node.version == 1)
            # Each upgrade leads as far as was published by then.
            assert [row.from_version for row in ahead.upgrades] == [1, *(row.to_version for row in ahead.upgrades[:-1])]
            assert ahead.upgrades[-1].to_version == 10
            assert (behind.phase, behind.target_version, behind.upgrades) == ("waiting", 10, ())
            assert await _right(calling, lineage, ahead.address) == await _right(calling, lineage, behind.address)
            await start(rig, N3)
            await _right(calling, lineage, rig.local.members[N3])
            assert now.usage


async def _right(calling: Calling, lineage: Lineage, address: str) -> list[int]:
    """Return the versions that were answered at `address`, by their own types and in one sum."""
    answered = []
    for total, version in enumerate(range(1, 11), start=1):
        async with calling(version, address) as caller:
            assert await caller.add("in the end", 1) == total
            assert (await caller.trace())[0] == lineage.code_of(version)
            answered.append(version)
    return answered


async def test_a_release_that_leaves_the_class_untouched(tmp_path: Path) -> None:
    """The process goes on, answers the new number, and is upgraded by the next release that touches its class."""
    lineage = write_lineage(tmp_path / "releases", 3, untouched=(2,))
    with tally_callers(lineage) as calling:
        async with system(tmp_path / "system", 1) as rig:
            address = rig.local.members[N1]
            await publish(rig, lineage.folders, 1)
            await start(rig, N1)
            async with calling(1, address) as first, calling(2, address) as second, calling(3, address) as third:
                assert await first.add("apples", 1) == 1
                pid = (await rig.until_serving(1)).nodes[0].pid
                await publish(rig, lineage.folders, 2)
                carried = await rig.until_serving(2)
                assert (carried.nodes[0].pid, carried.nodes[0].upgrades, carried.permits) == (pid, (), ())
                assert await second.add("apples", 1) == 2
                assert await first.read("apples") == 2
                await publish(rig, lineage.folders, 3)
                upgraded = await rig.until_serving(3)
                (row,) = upgraded.nodes[0].upgrades
                assert (row.from_version, row.to_version, row.pids[0]) == (2, 3, pid)
                for caller in (first, second, third):
                    assert await caller.read("apples") == 2


async def test_a_further_release_that_is_wrong(tmp_path: Path) -> None:
    """A node that waits for its permit serves on with all that it answered, and says what is wrong; so do others."""
    lineage = write_lineage(tmp_path / "releases", 3, schedule=SCHEDULE)
    wrong = lineage.folders[2] / "tally" / "upgrade.py"
    wrong.write_text(wrong.read_text().replace("import segue\n", "import segue\nimport no_such_module\n"))
    with tally_callers(lineage) as calling:
        async with system(tmp_path / "system", 2) as rig:
            await publish(rig, lineage.folders, 1)
            await start(rig, N1, N2)
            await publish(rig, lineage.folders, 2, 3)
            now = await rig.until(
                lambda now: (
                    sorted((one.version, one.phase) for one in now.nodes) == [(1, "waiting"), (2, "serving")]
                    and all("no_such_module" in (one.failure or "") for one in now.nodes)
                ),
                "one node waits, one is upgraded, and both refuse version 3",
            )
            assert [permit.failure for permit in now.permits] == [None]
            for node in now.nodes:
                assert "Traceback" in rig.local.log(node.id)
                async with calling(1, node.address) as first, calling(2, node.address) as second:
                    assert await first.add("apples", 1) == 1
                    assert await second.add("apples", 1) == 2
