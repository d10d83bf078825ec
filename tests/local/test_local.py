"""A local system starts what it is told, waits for nothing for ever, and ends what is its own and nothing else."""

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from segue.errors import SegueError
from segue.local import LocalSettings, LocalSystem, free_ports, is_alive, last_line
from segue.model.ids import ClassName, NodeId, SystemName

N1 = NodeId("n1")
SILENT = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('no', flush=True); time.sleep(60)"
PARENT = (
    "import subprocess, sys, time\n"
    "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid, flush=True)\n"
    "time.sleep(60)"
)

Make = Callable[[str], LocalSystem]


@pytest.fixture
def running(tmp_path: Path) -> Make:
    """Makes a local system whose `segue` is a line of Python."""

    def make(code: str) -> LocalSystem:
        settings = LocalSettings(
            system=SystemName("s"), class_name=ClassName("C"), nodes=1, command=(sys.executable, "-c", code)
        )
        return LocalSystem(tmp_path / "system", settings)

    return make


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The process groups that were killed."""
    groups: list[int] = []
    killpg = os.killpg

    def recorded(group: int, number: int) -> None:
        if number:
            groups.append(group)
        killpg(group, number)

    monkeypatch.setattr(os, "killpg", recorded)
    return groups


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


async def until_said(local: LocalSystem, name: str) -> str:
    await until(lambda: local.log(name).endswith("\n"))
    return local.log(name).strip()


def runs(pid: int) -> bool:
    """Say whether the process runs; one that nobody reaps has ended all the same."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


async def test_a_command_that_ended_is_not_killed_later(running: Make, killed: list[int]) -> None:
    """Its id may be somebody else's by then; this holds however it ended."""
    for code in ("pass", "raise SystemExit(3)", "import os; os.abort()"):
        async with running(code) as local:
            await local.run("once")
            await local.start_node(N1)
            await local.end(N1)
            await local.start_node(N1)
            await local.kill(N1)
        (local.logs / "once.log").unlink()
        (local.logs / f"{N1}.log").unlink()
        local.logs.rmdir()
    assert killed == []


async def test_what_a_killed_process_left_behind_is_killed(running: Make) -> None:
    async with running(PARENT) as local:
        await local.start_node(N1)
        child = int(await until_said(local, N1))
        await local.kill(N1)
        assert is_alive(child)
    await until(lambda: not runs(child))


async def test_what_ignores_its_end_is_killed_when_the_context_is_left(
    running: Make, monkeypatch: pytest.MonkeyPatch, killed: list[int]
) -> None:
    monkeypatch.setattr("segue.local.system._END_S", 0.2)
    async with running(STUBBORN) as local:
        await local.start_node(N1)
        await until_said(local, N1)
    assert len(killed) == 1
    assert not is_alive(killed[0])


async def test_to_end_a_process_has_a_limit(running: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was said last is told, and the process is still one of the system's."""
    monkeypatch.setattr("segue.local.system._END_S", 0.2)
    async with running(STUBBORN) as local:
        await local.start_node(N1)
        await until_said(local, N1)
        with pytest.raises(SegueError, match=r"n1 was told to end and has not after 0\.1 s: no"):
            await local.end(N1, timeout_s=0.1)
        await local.kill(N1)


async def test_a_command_has_a_limit(running: Make, killed: list[int]) -> None:
    async with running(SILENT) as local:
        with pytest.raises(SegueError, match=r"takes longer than 0\.1 s"):
            await local.run("once", timeout_s=0.1)
        assert len(killed) == 1
        assert not is_alive(killed[0])


@pytest.mark.parametrize("name", ["nowhere", "file", "relative"])
async def test_a_runtime_folder_that_is_none(
    running: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """The temporary folder does as well."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_RUNTIME_DIR", "run" if name == "relative" else str(tmp_path / name))
    async with running("import os; print(os.environ['XDG_RUNTIME_DIR'])") as local:
        sockets = Path((await local.run("once")).output.strip())
        assert sockets.parent == Path(tempfile.gettempdir())
    assert not sockets.exists()


async def test_a_runtime_folder_is_used(running: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    async with running("import os; print(os.environ['XDG_RUNTIME_DIR'])") as local:
        assert Path((await local.run("once")).output.strip()).parent == tmp_path


async def test_a_server_that_ends_before_it_listens(running: Make) -> None:
    async with running("raise SystemExit('the disk is full')") as local:
        await local.start_server()
        with pytest.raises(SegueError, match="server has ended with status 1: the disk is full"):
            await local.until_listening()


async def test_a_server_that_listens(running: Make) -> None:
    code = (
        "import socket, sys, time\n"
        "host, port = sys.argv[-1].split(':')\n"
        "listener = socket.create_server((host, int(port)))\n"
        "time.sleep(60)"
    )
    async with running(code) as local:
        await local.start_server()
        await local.until_listening()
        assert await local.end("server") == -signal.SIGTERM


async def test_a_command_that_fails_is_told_by_its_last_words(running: Make, tmp_path: Path) -> None:
    async with running("raise SystemExit('segue: no such folder')") as local:
        with pytest.raises(SegueError, match=r"`segue build .*` failed: segue: no such folder"):
            await local.build(tmp_path / "release")


def test_free_ports_are_free_and_different() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        with closing(socket.create_server(("127.0.0.1", port))):
            pass


def test_more_ports_than_there_are() -> None:
    with pytest.raises(SegueError, match="no 100000 free ports"):
        free_ports(100_000)


@pytest.mark.parametrize(("content", "told"), [(b"a\nb\n\n  \n", "b"), (b"a", "a"), (b"a\n\xff\n", "\ufffd")])
def test_the_last_line_that_says_something(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "log").write_bytes(content)
    assert last_line(tmp_path / "log") == told


def test_the_last_line_of_a_log_that_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"\n \n")
    assert last_line(tmp_path / "log") == f"it said nothing in {tmp_path / 'log'}"
