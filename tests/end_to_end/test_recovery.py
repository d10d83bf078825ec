"""After a crash the node goes on from its journal's last step, and nothing is lost."""

import asyncio
import json
import os
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from segue.journey import HandedOver
from segue.local import is_alive
from segue.model.ids import NodeId
from segue.node.journal import decode
from segue.testing.rig import Rig, changed

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(120)]

N1 = NodeId("n1")


@pytest.fixture
def gated(releases: dict[int, Path], tmp_path: Path) -> tuple[Path, Path]:
    """Version 2 with a transform that waits for a file, and that file: a moment that can be hit."""
    gate = tmp_path / "gate"
    wait = (
        "import time\n"
        f"    while not os.path.exists({str(gate)!r}):\n"
        "        time.sleep(0.01)\n"
        "    known = known_names(context.simulation)"
    )
    edits = {"blockstore/upgrade/state.py": {"known = known_names(context.simulation)": wait}}
    return changed(releases[2], tmp_path / "gated-2", edits), gate


@pytest.mark.parametrize("victims", ["agent", "application", "both", "told to end"])
async def test_a_crash_inside_the_transform(
    victims: str,
    start: Callable[[int], AbstractAsyncContextManager[Rig]],
    calling: Callable[[int, str], AbstractAsyncContextManager[Any]],
    releases: dict[int, Path],
    gated: tuple[Path, Path],
) -> None:
    """Whoever dies while the state is transformed, the node arrives at the new version with every block.

    So it does if a supervisor ends it in order, as it does before the machine starts anew.
    """
    release, gate = gated
    async with start(1) as rig, calling(1, rig.local.members[N1]) as old, calling(2, rig.local.members[N1]) as new:
        blocks = {await old.put(data): data for data in (b"", b"one", b"two" * 1000)}
        pid = (await rig.until_serving(1)).nodes[0].pid
        assert pid is not None
        await rig.publish(release, releases[1])
        await rig.until_node(N1, lambda node: node.phase == "transforming", "transforms")
        if victims in ("agent", "both"):
            await rig.local.kill(N1)
        if victims in ("application", "both"):
            os.kill(pid, signal.SIGKILL)
        if victims == "told to end":
            assert await rig.local.end(N1) == 0
            assert not is_alive(pid)
        gate.touch()
        if victims in ("agent", "both", "told to end"):
            await rig.local.start_node(N1)
        await rig.until_serving(2)
        for key, data in blocks.items():
            assert await old.get(key) == data
        assert await new.get(await new.put(b"one")) == b"one"


async def test_the_application_outlives_its_agent(
    start: Callable[[int], AbstractAsyncContextManager[Rig]],
    calling: Callable[[int, str], AbstractAsyncContextManager[Any]],
    releases: dict[int, Path],
) -> None:
    """Callers do not notice that the agent died; the next one finds the process, and upgrades it."""
    async with start(1) as rig, calling(1, rig.local.members[N1]) as old:
        before = (await rig.until_serving(1)).nodes[0]
        pid = before.pid
        await rig.local.kill(N1)
        key = await old.put(b"nobody is looking")
        await rig.local.start_node(N1)
        found = await rig.until_node(N1, lambda node: node.last_seen > before.last_seen and bool(node.pid), "is back")
        assert found.pid == pid
        await rig.publish(releases[2], releases[1])
        after = await rig.until_serving(2)
        assert after.nodes[0].upgrades[0].pids[0] == pid
        assert await old.get(key) == b"nobody is looking"


async def test_an_application_that_dies_is_started_again(
    start: Callable[[int], AbstractAsyncContextManager[Rig]],
    calling: Callable[[int, str], AbstractAsyncContextManager[Any]],
) -> None:
    """With the state that it had."""
    async with start(1) as rig:
        async with calling(1, rig.local.members[N1]) as old:
            key = await old.put(b"acknowledged")
        pid = (await rig.until_serving(1)).nodes[0].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await rig.until_node(N1, lambda node: node.pid not in (None, pid), "has a new process")
        async with calling(1, rig.local.members[N1]) as old:
            assert await old.get(key) == b"acknowledged"


async def test_a_node_that_is_told_to_end_leaves_nothing_running(
    start: Callable[[int], AbstractAsyncContextManager[Rig]],
    calling: Callable[[int, str], AbstractAsyncContextManager[Any]],
) -> None:
    """The application's process ends with its agent, and both are there again with the same state after a start."""
    async with start(1) as rig:
        async with calling(1, rig.local.members[N1]) as old:
            key = await old.put(b"kept")
        pid = (await rig.until_serving(1)).nodes[0].pid
        assert pid is not None
        assert await rig.local.end(N1) == 0
        assert not is_alive(pid)
        await rig.local.start_node(N1)
        await rig.until_node(N1, lambda node: node.pid not in (None, pid), "is back")
        async with calling(1, rig.local.members[N1]) as old:
            assert await old.get(key) == b"kept"


async def test_agents_wait_for_an_upgrade_server_that_is_away(
    start: Callable[[int], AbstractAsyncContextManager[Rig]],
    calling: Callable[[int, str], AbstractAsyncContextManager[Any]],
    releases: dict[int, Path],
) -> None:
    """The node serves on without it, and upgrades when it is back with all that it knew."""
    async with start(1) as rig, calling(1, rig.local.members[N1]) as old:
        await rig.publish(releases[2], releases[1])
        await rig.local.kill("server")
        key = await old.put(b"without a server")
        await rig.local.start_server()
        await rig.until_serving(2)
        assert await old.get(key) == b"without a server"


async def test_a_node_that_cannot_return_its_permit_looks_after_its_application(
    start: Callable[[int], AbstractAsyncContextManager[Rig]],
    calling: Callable[[int, str], AbstractAsyncContextManager[Any]],
    releases: dict[int, Path],
) -> None:
    """The upgrade server is away when the upgrade ends; an application that dies then is started again meanwhile."""
    async with start(1) as rig:
        async with calling(1, rig.local.members[N1]) as old:
            key = await old.put(b"before")
        await rig.publish(releases[2], releases[1])
        await rig.until_node(N1, lambda node: node.phase == "proving", "proves")
        await rig.local.kill("server")
        await _until(lambda: "returning (Committed)" in rig.local.log(N1))
        lines = (rig.local.state(N1) / "journal.jsonl").read_text().splitlines()
        (pid,) = (event.pid for event in map(decode, map(json.loads, lines)) if isinstance(event, HandedOver))
        os.kill(pid, signal.SIGKILL)
        async with calling(1, rig.local.members[N1]) as old, asyncio.timeout(30):
            while True:
                try:
                    assert await old.get(key) == b"before"
                    break
                except grpc.aio.AioRpcError:
                    await asyncio.sleep(0.1)
        await rig.local.start_server()
        await rig.until_serving(2)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - a log tells nobody of a change
            await asyncio.sleep(0.1)
