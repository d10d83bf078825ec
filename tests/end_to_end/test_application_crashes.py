"""An application that does not stay is started again, the later the more often, with the state that it had."""

import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from segue.testing.keeping import N1, NODE, OBJECT, keeping

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(120)]

Segue = Callable[..., Awaitable[str]]


async def test_three_crashes_in_a_row(segue: Segue, tmp_path: Path) -> None:
    """No upgrade is under way: nobody but the process is to blame, and each start waits longer than the one before."""
    async with keeping(tmp_path) as rig:
        await rig.put("a", "b", "c")
        took_s = []
        for crash in range(1, 4):
            pid = (await rig.until_serving(1)).nodes[0].pid
            assert pid is not None
            killed_at = time.monotonic()
            os.kill(pid, signal.SIGKILL)
            node = await rig.until_node(N1, lambda node: node.pid not in (None, pid), "has another process")  # noqa: B023
            took_s.append(time.monotonic() - killed_at)
            assert (node.crashes, node.failure, node.waits_for_operator) == (crash, None, False)
            await rig.put(f"after{crash}")
        assert took_s[1] >= 0.5, took_s
        assert took_s[2] >= 1.0, took_s
        await rig.check_values(1)
        shown = await segue("status", "--system", "crashing", "--server", rig.local.url)
        assert "its process crashed 3 times since the agent began, and was started again" in shown
        assert rig.local.log(N1).count("ended by itself") == 3


async def test_an_object_that_does_not_start_again(segue: Segue, tmp_path: Path) -> None:
    """The status says why the node is down; it is tried on and on, and serves when the cause is mended."""
    broken = tmp_path / "broken"
    code = f"""{OBJECT}    async def start(self):
        if os.path.exists({str(broken)!r}):
            raise RuntimeError("no start")
        await super().start()
"""
    async with keeping(tmp_path, edits={NODE: {OBJECT: code, "from .kept": "import os\nfrom .kept"}}) as rig:
        await rig.put("a", "b", "c")
        pid = (await rig.until_serving(1)).nodes[0].pid
        assert pid is not None
        broken.touch()
        os.kill(pid, signal.SIGKILL)
        await rig.until_node(N1, lambda node: "no start" in (node.failure or ""), "says why it is down")
        shown = await segue("status", "--system", "crashing", "--server", rig.local.url)
        assert "version 1 is not in service: " in shown
        broken.unlink()
        await rig.until_node(N1, lambda node: node.failure is None and node.pid is not None, "serves again")
        await rig.check_values(1)


async def test_a_first_start_that_fails_in_passing(tmp_path: Path) -> None:
    """The agent tries again: nobody would have to do anything."""
    began = tmp_path / "began"
    code = f"""{OBJECT}    async def start(self):
        import os
        if not os.path.exists({str(began)!r}):
            open({str(began)!r}, "w").close()
            os.kill(os.getpid(), 9)
        await super().start()
"""
    async with keeping(tmp_path, "--retry-s", "0.2", edits={NODE: {OBJECT: code}}) as rig:
        await rig.put("a")
        await rig.check_values(1)
        assert "new (FirstStartFailed)" in rig.local.log(N1)


@pytest.mark.parametrize(
    ("does", "said", "times"),
    [
        ('raise RuntimeError("no start")', "cannot start: ", 1),
        ("import os; os._exit(9)", "cannot start: the application's process ended while it was asked 'start'", 2),
    ],
)
async def test_a_first_start_that_fails_for_good(does: str, said: str, times: int, tmp_path: Path) -> None:
    """By what the release's own code does, or once too often: the agent ends, and says that somebody must act."""
    code = f"{OBJECT}    async def start(self):\n        {does}\n"
    options = ("--retries", "1", "--retry-s", "0.2")
    async with keeping(tmp_path, *options, edits={NODE: {OBJECT: code}}, first=False) as rig:
        assert await rig.local.ended(N1) == 1
        log = rig.local.log(N1)
        assert said in log.splitlines()[-1]
        assert log.count("starting first, version 1 (Fetched)") == times
