"""`segue restart` replaces a node's process as an upgrade does, and no client can tell."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from segue import journey
from segue.local import Ended, LocalSettings, is_alive
from segue.model.ids import NodeId
from segue.release.bundle import build
from segue.testing.counting import COUNTER, SYSTEM, write_counting
from segue.testing.crashing.points import read_journal
from segue.testing.load import AT_ONCE, Load
from segue.testing.rig import Rig, changed, prepared
from segue.wire.messages import NodeStatus

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]

SEED = 20_260_303
RESTARTS = 6
N1, N2 = NodeId("n1"), NodeId("n2")
LIMIT_S = 60.0
#: One node goes to version 2, and the other answers it by its future simulation for a day.
CANARY = {"max_unavailable = 1": 'canary = { nodes = 1, soak = "1d" }'}


@dataclass(slots=True, kw_only=True)
class Node:
    """A node that runs version 1, and is ordered about.

    Attributes:
        id: which.
        rig: of its system.
        stop: while this file is there, no object of version 1 starts, but in the process whose id it holds.
        hold: while this file is there, one that starts waits.
    """

    rig: Rig
    stop: Path
    hold: Path
    id: NodeId = N1

    async def restart(self, name: str) -> Ended:
        return await self.rig.local.run(name, "restart", "--state", str(self.rig.local.state(self.id)))

    async def pid(self) -> int:
        """Return the process that serves, by the upgrade server."""
        now = await self.rig.until_node(self.id, _is_at_rest, "is at rest")
        assert now.pid is not None
        return now.pid

    def events(self) -> Sequence[journey.Event]:
        return read_journal(self.rig.local.state(self.id) / "journal.jsonl")

    @asynccontextmanager
    async def load(self, newest: int) -> AsyncIterator[Load]:
        """Have clients of all versions call the node for the time of the block, and none fail."""
        load = Load(address=self.rig.local.members[self.id], rng=random.Random(SEED), newest=newest)
        async with asyncio.TaskGroup() as clients:
            for version in range(1, newest + 1):
                for _ in range(3):
                    clients.create_task(load.stay(version))
            clients.create_task(load.come())
            await self.answered(load)
            yield load
            await self.answered(load)
            load.stopped = True
        assert not load.failed
        assert load.connections > 2 * AT_ONCE

    async def answered(self, load: Load, more: int = 100) -> None:
        """Wait until so many more calls were answered."""
        enough = load.outcomes["OK"] + more
        await until(lambda: load.outcomes["OK"] >= enough or load.failed, "calls are answered")
        assert not load.failed


def _is_at_rest(node: NodeStatus) -> bool:
    return node.version == 1 and node.phase in ("serving", "waiting") and node.pid is not None


async def until(holds: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(LIMIT_S):
            while not holds():  # noqa: ASYNC110 - other processes do not tell
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {LIMIT_S:g} s: {what}") from None


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """Two nodes' system, of which the first runs."""
    stop, hold = tmp_path / "stop", tmp_path / "hold"
    edits = {
        "import json\n": "import asyncio\nimport json\nimport os\nfrom pathlib import Path\n",
        "    async def start(self):\n": (
            "    async def start(self):\n"
            f"        while Path({str(hold)!r}).exists():\n"
            "            await asyncio.sleep(0.01)\n"
            f"        if Path({str(stop)!r}).exists() and Path({str(stop)!r}).read_text() != str(os.getpid()):\n"
            '            raise RuntimeError("told not to start")\n'
        ),
    }
    first, second = write_counting(tmp_path / "releases", 2)
    releases = (
        changed(first, tmp_path / "counting-1", {"counting/node.py": edits}),
        changed(second, tmp_path / "counting-2", {"release.toml": CANARY}),
    )
    settings = LocalSettings(system=SYSTEM, class_name=COUNTER, nodes=2, poll_s=0.1, max_connection_age_s=1)
    async with prepared(tmp_path / "system", settings) as rig:
        await rig.server.publish(build(releases[0]))
        await rig.local.start_node(N1)
        await rig.until_node(N1, _is_at_rest, "serves")
        yield Node(rig=rig, stop=stop, hold=hold)


async def test_a_restart_under_load(node: Node, tmp_path: Path) -> None:
    """No call of any kind fails, each time there is a new process, and it has the state of the one before."""
    async with node.load(1) as load:
        pids = [await node.pid()]
        for number in range(RESTARTS):
            ended = await node.restart(f"restart-{number}")
            assert (ended.status, ended.output) == (0, "node n1 has a new process of version 1\n")
            pids.append(await node.pid())
            await node.answered(load)
    assert len(set(pids)) == RESTARTS + 1
    await until(lambda: not any(map(is_alive, pids[:-1])), "the processes before have left")
    assert is_alive(pids[-1])
    assert sum(isinstance(event, journey.RestartOrdered) for event in node.events()) == RESTARTS
    assert not any(isinstance(event, journey.PermitGranted) for event in node.events())


async def test_a_restart_of_a_node_that_waits_for_its_permit(node: Node, tmp_path: Path) -> None:
    """What it answered before by a future simulation it answers, with no call of that version failing."""
    releases = tmp_path / "counting-1", tmp_path / "counting-2"
    await node.rig.local.start_node(N2)
    await node.rig.until_node(N2, _is_at_rest, "serves")
    await node.rig.server.publish(build(releases[1], previous=releases[0]))
    now = await node.rig.until(
        lambda now: sorted((one.version, one.phase) for one in now.nodes) == [(1, "waiting"), (2, "serving")],
        "one node is the canary, and one waits",
    )
    (node.id,) = (NodeId(one.id) for one in now.nodes if one.version == 1)
    async with node.load(2) as load:
        pids = [await node.pid()]
        for number in range(2):
            ended = await node.restart(f"restart-{number}")
            assert ended.status == 0, ended.output
            pids.append(await node.pid())
            await node.answered(load)
        assert len(set(pids)) == 3
        waits = await node.rig.until_node(node.id, _is_at_rest, "is at rest")
        assert (waits.phase, waits.answers) == ("waiting", (1, 2))
    # What the future simulation was asked before and since is in one sum, and it was never lost.
    assert not any(isinstance(event, journey.FutureLost) for event in node.events())
    assert sum(isinstance(event, journey.FutureInstalled) for event in node.events()) == 1


async def test_a_restart_whose_object_does_not_start(node: Node) -> None:
    """The process before serves on, whoever gave the order hears why, and the next order goes well."""
    async with node.load(1) as load:
        before = await node.pid()
        node.stop.write_text(str(before))
        ended = await node.restart("refused")
        assert (ended.status, ended.output) == (1, "segue: not restarted: RuntimeError: told not to start\n")
        assert await node.pid() == before
        await node.answered(load)
        node.stop.unlink()
        assert (await node.restart("done")).status == 0
        assert await node.pid() != before


async def test_a_restart_whose_process_does_not_come_up(node: Node) -> None:
    """Its release is not there any more: no call has to wait, and the process before serves on with what it has."""
    async with node.load(1) as load:
        before = await node.pid()
        (release,) = (node.rig.local.state(node.id) / "releases").iterdir()
        (release / "counting").rename(release / "mislaid")
        ended = await node.restart("refused")
        assert ended.status == 1
        assert ended.output.startswith("segue: not restarted: ")
        assert "counting" in ended.output
        assert not any(isinstance(event, journey.Quiesced) for event in node.events())
        assert await node.pid() == before
        await node.answered(load)


async def test_a_restart_after_which_nothing_starts(node: Node) -> None:
    """Whoever gave the order hears of it, and the node tries on until something helps."""
    before = await node.pid()
    node.stop.touch()
    ended = await node.restart("refused")
    assert (ended.status, ended.output) == (1, "segue: not restarted: RuntimeError: told not to start\n")
    node.stop.unlink()
    await node.rig.until_node(node.id, lambda now: now.pid not in (None, before), "serves again")


async def test_an_agent_that_is_killed_in_the_middle_of_a_restart(node: Node) -> None:
    """Calls wait until there is an agent again; that goes on with the restart. Who gave the order hears what was."""
    async with node.load(1) as load:
        before = await node.pid()
        node.hold.touch()
        async with asyncio.TaskGroup() as orders:
            order = orders.create_task(node.restart("cut-off"))
            await until(lambda: isinstance(node.events()[-1], journey.Quiesced), "the process before is quiet")
            await node.rig.local.kill(N1)
        assert order.result().status == 1
        assert "ended before it had answered" in order.result().output
        node.hold.unlink()
        await node.rig.local.start_node(N1)
        await until(lambda: isinstance(node.events()[-1], journey.HandedOver), "the restart goes on")
        await node.answered(load)
        assert await node.pid() != before
    await until(lambda: not is_alive(before), "the process before has left")
