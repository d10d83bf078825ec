"""A node that was away goes through all the releases at once, and starts only the last; one that joins starts there."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from segue import journey
from segue.local import LocalSettings, is_alive
from segue.local.machine import accepts
from segue.model.ids import ClassName, NodeId, SystemName
from segue.release.bundle import build
from segue.testing.crashing.points import read_journal
from segue.testing.lineage import Adding, Lineage, TallyCaller, tally_callers, write_lineage
from segue.testing.rig import Rig, changed, prepared
from segue.wire.messages import NodeStatus, PermitStatus

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]

N1, N2 = NodeId("n1"), NodeId("n2")
#: A node that has ended counts as away.
SCHEDULE = "max_unavailable = 2"
VERSIONS = range(1, 7)
LIMIT_S = 60.0

Calling = Callable[[int, str], AbstractAsyncContextManager[TallyCaller]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """A system of six versions whose objects note that they are started, and what holds it up where a test wants.

    Attributes:
        rig: its processes, with nothing published.
        folders: of its releases.
        calling: opens a caller.
        folder: of gates, and of notes.
    """

    rig: Rig
    folders: dict[int, Path]
    calling: Calling
    folder: Path

    async def publish(self, *versions: int) -> None:
        for version in versions:
            await self.rig.server.publish(build(self.folders[version], previous=self.folders.get(version - 1)))

    async def start(self, *nodes: NodeId) -> None:
        """Start nodes, or start them again."""
        for node in nodes:
            await self.rig.local.start_node(node, "--probation-s", "0.2")

    async def until(self, node: NodeId, version: int) -> NodeStatus:
        """Wait until a node serves a version and is at rest."""
        return await self.rig.until_node(
            node,
            lambda now: now.version == version and now.phase == "serving" and now.pid is not None,
            f"serves version {version}",
        )

    def started(self, node: NodeId) -> list[int]:
        """Return the versions whose objects were started on a node, each time that one was."""
        path = self.folder / f"started-{node}"
        return [int(line) for line in path.read_text().split()] if path.exists() else []

    def journal(self, node: NodeId) -> list[journey.Event]:
        return read_journal(self.rig.local.state(node) / "journal.jsonl")

    def count(self, node: NodeId, kind: type[journey.Event]) -> int:
        return sum(isinstance(event, kind) for event in self.journal(node))

    async def permits(self, node: NodeId) -> list[PermitStatus]:
        return [permit for permit in (await self.rig.server.status(SystemName("tally"))).permits if permit.node == node]

    def hold(self, version: int, file: str, before: str) -> Path:
        """Have a release wait before one of its lines until the file exists that is returned."""
        gate = self.folder / f"gate-{version}"
        path = self.folders[version] / "tally" / file
        text = path.read_text()
        assert before in text, before
        indent = before[: len(before) - len(before.lstrip())]
        wait = f"{indent}import time\n{indent}from pathlib import Path\n"
        wait += f"{indent}while not Path({str(gate)!r}).exists():\n{indent}    time.sleep(0.01)\n"
        path.write_text(text.replace(before, wait + before))
        return gate

    async def kill(self, node: NodeId, *, everything: bool) -> None:
        """Kill a node's agent, and all that it has started if told to."""
        group = self.rig.local.pid(node)
        found = {int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit() and _is_of(path, group)}
        await self.rig.local.kill(node)
        if everything:
            for pid in found - {group}:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await until(lambda: not any(map(is_alive, found - {group})), "all are gone")


def _is_of(process: Path, agent: int) -> bool:
    """Say whether a process is an agent's, or its child: those of transforms have sessions of their own."""
    try:
        parent, group = (process / "stat").read_text().rpartition(") ")[2].split()[1:3]
    except OSError:
        return False
    return agent in (int(parent), int(group))


async def until(holds: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(LIMIT_S):
            while not holds():  # noqa: ASYNC110 - other processes do not tell
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {LIMIT_S:g} s: {what}") from None


@pytest.fixture(scope="session")
def lineage(tmp_path_factory: pytest.TempPathFactory) -> Lineage:
    return write_lineage(tmp_path_factory.mktemp("lineage"), VERSIONS[-1], schedule=SCHEDULE)


@pytest.fixture
def calling(lineage: Lineage) -> Iterator[Calling]:
    with tally_callers(lineage, [("grpc.initial_reconnect_backoff_ms", 100)]) as call:
        yield call


@pytest.fixture
async def fleet(tmp_path: Path, lineage: Lineage, calling: Calling) -> AsyncIterator[Fleet]:
    """A system with nothing published."""
    folders = {}
    for version, release in enumerate(lineage.folders, start=1):
        note = f'open(f"{tmp_path}/started-{{self.node_id}}", "a").write("{version}\\n")'
        edits = {
            "    def __init__(self, node):\n": "    def __init__(self, node):\n        self.node_id = node.id\n",
            "    async def start(self):\n": f"    async def start(self):\n        {note}\n",
        }
        folders[version] = changed(release, tmp_path / f"tally-{version}", {"tally/node.py": edits})
    settings = LocalSettings(
        system=SystemName("tally"), class_name=ClassName("Tally"), nodes=2, poll_s=0.2, max_connection_age_s=1
    )
    async with prepared(tmp_path / "system", settings) as rig:
        yield Fleet(rig=rig, folders=folders, calling=calling, folder=tmp_path)


async def _away(fleet: Fleet, *others: NodeId) -> int:
    """Have a node run version 1 with something in its state, and end it. Returns the process that it had."""
    await fleet.publish(1)
    await fleet.start(N1, *others)
    pid = (await fleet.until(N1, 1)).pid
    assert pid is not None
    async with fleet.calling(1, fleet.rig.local.members[N1]) as caller:
        assert await caller.add("apples", 3) == 3
    assert await fleet.rig.local.end(N1) == 0
    return pid


async def _check_arrived(fleet: Fleet) -> None:
    """The node went from 1 to 6 in one upgrade, through every transform once, and has all that it had."""
    now = await fleet.until(N1, 6)
    assert [(row.from_version, row.to_version) for row in now.upgrades] == [(1, 6)]
    done = [event for event in fleet.journal(N1) if isinstance(event, journey.Transformed)]
    assert len(done) == 5
    assert [(one.from_version, one.to_version, one.failure) for one in await fleet.permits(N1)] == [(1, 6, None)]
    assert set(fleet.started(N1)) == {1, 6}
    states = fleet.rig.local.state(N1) / "states"
    assert [path.parent.name for path in states.glob("*/object")] == ["6"]
    for version in VERSIONS:
        async with fleet.calling(version, fleet.rig.local.members[N1]) as caller:
            assert await caller.read("apples") == 3
            assert await caller.add("after", 1) == version


async def test_a_node_that_was_away_for_five_releases(fleet: Fleet) -> None:
    """Others have gone through each; it goes through all at once, and its callers of every version only wait."""
    before = await _away(fleet, N2)
    for version in VERSIONS[1:]:
        await fleet.publish(version)
        await fleet.until(N2, version)
    assert fleet.started(N2) == list(VERSIONS)
    address = fleet.rig.local.members[N1]
    await fleet.start(N1)
    await until_accepts(address)
    async with AsyncExitStack() as callers, asyncio.TaskGroup() as running:
        loads = []
        for version in VERSIONS:
            caller = await callers.enter_async_context(fleet.calling(version, address))
            loads.append(Adding(caller, f"by-{version}"))
            running.create_task(loads[-1].run())
        now = await fleet.until(N1, 6)
        await until(lambda: all(load.outcomes for load in loads), "each was answered")
        for load in loads:
            load.stopped = True
    assert sum((load.outcomes for load in loads), Counter()).keys() == {"OK"}
    assert before not in now.upgrades[0].pids
    assert fleet.started(N1) == [1, 1, 6]
    await _check_arrived(fleet)


async def until_accepts(address: str) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not await accepts(address):  # noqa: ASYNC110 - the other process does not tell
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("everything", [False, True], ids=["the agent", "everything"])
@pytest.mark.parametrize("moment", ["between two transforms", "during one"])
async def test_a_crash_on_the_way(fleet: Fleet, moment: str, everything: bool) -> None:
    """What was transformed is not transformed again, and what was not done is done anew."""
    if moment == "during one":  # all is written; the process of this one is started when it is its turn
        version, last_line = 5, "    if context.simulation and"
    else:  # nothing of it has begun
        version, last_line = 4, '    path = old / "totals.json"'
    gate = fleet.hold(version, "upgrade.py", last_line)
    await _away(fleet)
    await fleet.publish(*VERSIONS[1:])
    await fleet.start(N1)
    making, done = fleet.rig.local.state(N1) / "making", version - 2
    await until(lambda: fleet.count(N1, journey.Transformed) == done, f"{done} transforms are done")
    if moment == "during one":
        await until(lambda: list(making.glob(f"{version}-*/object/totals.json")), "the next one has written")
    await fleet.kill(N1, everything=everything)
    assert fleet.count(N1, journey.Transformed) == done
    gate.touch()
    await fleet.start(N1)
    await _check_arrived(fleet)
    assert fleet.started(N1) == [1, 1, 6]
    assert not list(making.iterdir())


async def test_a_schedule_that_lets_it_go_part_of_the_way(fleet: Fleet) -> None:
    """The canary of version 4 soaks: the node goes to 3 in one upgrade, and answers all of them there."""
    manifest = fleet.folders[4] / "release.toml"
    text = manifest.read_text()
    assert SCHEDULE in text
    manifest.write_text(text.replace(SCHEDULE, 'max_unavailable = 2\ncanary = { nodes = 1, soak = "1d" }'))
    await _away(fleet, N2)
    await fleet.publish(*VERSIONS[1:])
    await fleet.until(N2, VERSIONS[-1])
    await fleet.start(N1)
    now = await fleet.rig.until_node(
        N1,
        lambda node: node.version == 3 and bool(node.upgrades) and "canary n2 soaks" in (node.waits_for or ""),
        "runs version 3 and waits for the canary of version 4",
    )
    assert [(row.from_version, row.to_version) for row in now.upgrades] == [(1, 3)]
    assert fleet.count(N1, journey.Transformed) == 2
    assert fleet.started(N1) == [1, 1, 3]
    assert [one.to_version for one in await fleet.permits(N1)] == [3]
    for version in VERSIONS:
        async with fleet.calling(version, now.address) as caller:
            assert await caller.read("apples") == 3


@pytest.mark.parametrize("everything", [False, True], ids=["the agent", "everything"])
async def test_a_node_that_joins_starts_at_the_newest(fleet: Fleet, everything: bool) -> None:
    """Also if it crashes in the middle of its first start."""
    gate = fleet.hold(6, "node.py", "        if self.path.exists():")
    await fleet.publish(*VERSIONS)
    await fleet.start(N1)
    await until(lambda: fleet.started(N1), "its object starts")
    await fleet.kill(N1, everything=everything)
    gate.touch()
    await fleet.start(N1)
    now = await fleet.until(N1, 6)
    assert fleet.started(N1) == ([6, 6] if everything else [6])
    assert (now.upgrades, await fleet.permits(N1)) == ((), [])
    for total, version in enumerate(VERSIONS, start=1):
        async with fleet.calling(version, now.address) as caller:
            assert await caller.add("apples", 1) == total
