"""Under a supervisor: signals, exit codes, readiness and logs are as the documentation tells those who write units."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from segue.local import LocalSettings, LocalSystem, is_alive
from segue.model.ids import ClassName, NodeId, SystemName
from segue.testing.rig import LIMIT_S, Rig, changed
from segue.wire.client import UpgradeServer

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(120)]

N1 = NodeId("n1")
NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
SETTINGS = LocalSettings(system=SystemName("blockstore"), class_name=ClassName("BlockNode"), nodes=1, poll_s=0.2)

#: Runs a release on one node, with further options of its command: `supervised(release, *options)`.
Supervised = Callable[..., AbstractAsyncContextManager[Rig]]


@pytest.fixture
def supervised(tmp_path: Path) -> Supervised:
    @asynccontextmanager
    async def run(release: Path, *options: str, settings: LocalSettings = SETTINGS) -> AsyncIterator[Rig]:
        local = LocalSystem(tmp_path / "system", settings)
        async with local, UpgradeServer(local.url) as server:
            rig = Rig(local, server, settings)
            await local.start_server()
            await local.until_listening()
            await rig.publish(release)
            await local.start_node(N1, *options)
            await rig.until_serving(1)
            yield rig

    return run


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[str]]]:
    """Returns what a supervisor was told since it was asked last."""
    name = f"segue-test-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as listener:
        listener.bind(f"\0{name}")
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")

        def told() -> list[str]:
            found = []
            with suppress(BlockingIOError):
                while True:
                    found.append(listener.recv(4096).decode())
            return found

        yield told


async def application(rig: Rig) -> int:
    """Return the id of the application's process."""
    pid = (await rig.until_serving(1)).nodes[0].pid
    assert pid is not None
    return pid


async def until_logged(rig: Rig, words: str) -> None:
    async with asyncio.timeout(LIMIT_S):
        while words not in rig.local.log(N1):  # noqa: ASYNC110 - of a file
            await asyncio.sleep(0.05)


async def test_a_node_under_a_supervisor(
    supervised: Supervised, notes: Callable[[], list[str]], releases: dict[int, Path], tmp_path: Path
) -> None:
    """It says when it is ready and what it does, goes on after a hangup, ends with 0, and logs for programs."""
    edits = {"self.blocks.open()": 'self.blocks.open()\n        print("blocks are open")'}
    release = changed(releases[1], tmp_path / "printing", {"blockstore/node.py": edits})
    async with supervised(release, "--log-format", "json") as rig:
        pid = await application(rig)
        told = notes()
        assert (told[0], told[-1]) == ("READY=1", "STATUS=runs version 1, serving")

        # A terminal that closes sends it to both.
        os.kill(pid, signal.SIGHUP)
        rig.local.tell(N1, signal.SIGHUP)
        await until_logged(rig, "SIGHUP")
        seen = (await rig.until_serving(1)).nodes[0].last_seen
        after = await rig.until_node(N1, lambda node: node.last_seen > seen, "reports on")
        assert after.pid == pid

        refused = await rig.local.run(
            "second", "node", "--system", "blockstore", "--class", "BlockNode", "--id", "n1", "--listen",
            rig.local.members[N1], "--state", str(rig.local.state(N1)), "--log-format", "json",
        )  # fmt: skip
        assert refused.status == 1
        said = json.loads(refused.output.splitlines()[-1])
        assert (said["level"], "is in use by another agent" in said["message"]) == ("critical", True)

        assert await rig.local.end(N1) == 0
        assert not is_alive(pid)
        assert notes()[-1] == "STOPPING=1"
        check_lines([json.loads(line) for line in rig.local.log(N1).splitlines()])


def check_lines(lines: list[dict[str, Any]]) -> None:
    """Each says whose it is: the agent's, the application's, with what the author's code prints."""
    for line in lines:
        assert set(line) >= {"time", "level", "logger", "message", "pid"}
        assert (line["system"], line["node"]) == ("blockstore", "n1")
    assert {line["process"] for line in lines} == {"agent", "application"}
    assert "SIGTERM: told to end" in [line["message"] for line in lines]
    (printed,) = (line for line in lines if line["logger"] == "stdout")
    assert (printed["process"], printed["message"]) == ("application", "blocks are open")


async def test_told_to_end_again(supervised: Supervised, releases: dict[int, Path], tmp_path: Path) -> None:
    """An object that does not stop keeps nobody waiting any longer."""
    edits = {"await self.replicas.close()": "import asyncio\n        await asyncio.sleep(3600)"}
    release = changed(releases[1], tmp_path / "stuck", {"blockstore/node.py": edits})
    async with supervised(release) as rig:
        pid = await application(rig)
        rig.local.tell(N1, signal.SIGINT)
        await until_logged(rig, "SIGINT: told to end")
        await asyncio.sleep(1.1)  # one that comes sooner is taken for the same
        rig.local.tell(N1, signal.SIGTERM)
        assert await rig.local.ended(N1, timeout_s=10) == 0
        assert not is_alive(pid)
        assert "SIGTERM: told to end again" in rig.local.log(N1)


def _can_unshare() -> bool:
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not _can_unshare(), reason="a PID namespace takes unshare(1) and the right to use it")
async def test_as_process_1_of_a_container(supervised: Supervised, releases: dict[int, Path], tmp_path: Path) -> None:
    """What the author's code leaves behind is reaped; SIGTERM ends the node in order, and the container with 0."""
    started = tmp_path / "started"
    orphan = f'import subprocess\n        subprocess.run(["sh", "-c", "(sleep 0.5; touch {started}) &"], check=True)'
    edits = {"self.blocks.open()": f"self.blocks.open()\n        {orphan}"}
    release = changed(releases[1], tmp_path / "leaving", {"blockstore/node.py": edits})
    contained = replace(SETTINGS, command=(*NAMESPACE, sys.executable, "-m", "segue"))
    async with supervised(release, settings=contained) as rig:
        (first,) = _children(rig.local.pid(N1))
        async with asyncio.timeout(LIMIT_S):
            while not started.exists() or len(_children(first)) > 1:  # noqa: ASYNC110 - of a file, and of the kernel
                await asyncio.sleep(0.05)
        (agent,) = _children(first)
        (serving,) = _children(agent)
        os.kill(first, signal.SIGTERM)
        assert await rig.local.ended(N1) == 0
        assert not is_alive(serving)
        assert "SIGTERM: told to end" in rig.local.log(N1)


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
