"""The parent's side of a worker waits for no answer for ever."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from segue.demo.clients import Clients, Heard
from segue.errors import SegueError
from segue.model.ids import Version

#: A worker that takes commands and answers none, but for what is put in.
WORKER = """
import json, sys, time
tally = {"from_s": 0, "to_s": 1, "calls": 1, "failed": 0, "size_bytes": 0, "failures": [], "put": []}
tally |= {"put_private": [], "admitted": 0, "refused": {}, "leaked": 0}
def say(**line):
    print(json.dumps(line), flush=True)
print("deaf today", file=sys.stderr, flush=True)
command = json.loads(sys.stdin.readline())
%s
sys.stdin.read()
"""
BUSY = """
for _ in range(8):
    time.sleep(0.1)
    say(tally=tally)
say(id=command["id"], done=True, faults=[])
"""

COMMANDS: dict[str, Callable[[Clients], Awaitable[Any]]] = {
    "store": lambda clients: clients.store(["a"]),
    "read": lambda clients: clients.read(["a"]),
    "load": lambda clients: clients.load(["a"]),
    "stop": lambda clients: clients.stop_load(),
}


@asynccontextmanager
async def worker(code: str, log: Path) -> AsyncIterator[Clients]:
    pipe = asyncio.subprocess.PIPE
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WORKER % code, stdin=pipe, stdout=pipe, stderr=errors
        )
    heard = Heard(tally=lambda _: None, put=lambda *_: None, progress=lambda *_: None)
    clients = Clients(Version(1), process, heard, log)
    try:
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(clients.listen())
            yield clients
            listening.cancel()
    finally:
        process.kill()
        await process.wait()


@pytest.mark.parametrize("name", COMMANDS)
async def test_a_worker_that_does_not_answer(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it was told; it ends with what was asked and the worker's last words."""
    monkeypatch.setattr("segue.demo.clients._ANSWER_S", 0.5)
    async with worker("", tmp_path / "log") as clients:
        with pytest.raises(SegueError, match=f"version 1 clients has not answered to '{name}' for 0.5 s"):
            await COMMANDS[name](clients)


async def test_a_worker_that_is_busy_has_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it makes calls; a folder may be large."""
    monkeypatch.setattr("segue.demo.clients._ANSWER_S", 0.5)
    async with worker(BUSY, tmp_path / "log") as clients:
        assert await clients.store(["a"]) == ()
