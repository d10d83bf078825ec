"""A transform's work is there whole or not at all, whatever becomes of its process, and a failure says whose it is."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from segue.errors import PeerError, ReleaseError
from segue.model.ids import Version
from segue.node.transforming import TransformTask, run_transform

pytestmark = pytest.mark.timeout(60)

MakeTask = Callable[[str], TransformTask]


@pytest.fixture
def task(tmp_path: Path) -> MakeTask:
    """Makes a task whose transform has this body, in a release of one module."""

    def make(body: str) -> TransformTask:
        folder = tmp_path / "release"
        folder.mkdir()
        text = f"import os, time\ndef transform(old, new, context):\n    {body}\n"
        (folder / "notes.py").write_text(text)
        old = tmp_path / "old"
        old.mkdir()
        (old / "note").write_text("kept")
        return TransformTask(
            function="notes:transform", release=folder, version=Version(2), previous=folder,
            previous_version=Version(1), old=old, simulation=None,
        )  # fmt: skip

    (tmp_path / "making").mkdir()
    return make


async def run(task: TransformTask, tmp_path: Path, timeout_s: float = 30) -> int:
    done = await run_transform(task, making=tmp_path / "making", states=tmp_path / "states", timeout_s=timeout_s)
    return done.size_bytes


def left(tmp_path: Path) -> list[Path]:
    return [*(tmp_path / "making").iterdir(), *tmp_path.glob("states")]


def alive_in_group(group: int) -> list[str]:
    """Return the processes of a group that are not ended, reaped or not."""
    stats = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            stats.append(path.read_text())
    fields = [stat.rpartition(")")[2].split() for stat in stats]
    return [state for state, _, pgrp, *_ in fields if int(pgrp) == group and state != "Z"]


async def test_its_work_becomes_the_state(task: MakeTask, tmp_path: Path) -> None:
    """Once; asked again, it says what it said."""
    done = task("(new / 'note').write_text((old / 'note').read_text()); (context.past / 'index').write_text('!')")
    assert await run(done, tmp_path) == 5
    assert (tmp_path / "states" / "object" / "note").read_text() == "kept"
    assert (tmp_path / "states" / "past" / "index").read_text() == "!"
    assert (tmp_path / "old" / "note").read_text() == "kept"
    (done.release / "notes.py").write_text("")
    assert await run(done, tmp_path) == 5
    assert list((tmp_path / "making").iterdir()) == []


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        ("raise RuntimeError('no luck')", ReleaseError, r"notes.py:3: RuntimeError: no luck"),
        ("os._exit(0)", ReleaseError, "before it was done"),
        ("os._exit(3)", ReleaseError, "it said nothing"),
        ("raise OSError(28, 'No space left on device')", PeerError, "No space left"),
        ("raise MemoryError", PeerError, "MemoryError"),
        ("os.kill(os.getpid(), 9)", PeerError, "signal 9"),
    ],
)
async def test_a_failure_leaves_nothing_and_says_whose_it_is(
    body: str, kind: type[Exception], said: str, task: MakeTask, tmp_path: Path
) -> None:
    """A release is to blame for what its code does, and not for a machine that lacks something."""
    with pytest.raises(kind, match=said):
        await run(task(body), tmp_path)
    assert left(tmp_path) == []


async def test_it_is_ended_when_its_time_is_over(task: MakeTask, tmp_path: Path) -> None:
    """With all that it started."""
    body = f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); os.fork(); time.sleep(600)"
    with pytest.raises(ReleaseError, match="not done within 2 s"):
        await run(task(body), tmp_path, timeout_s=2)
    assert not alive_in_group(int((tmp_path / "pid").read_text()))
    assert left(tmp_path) == []


async def test_a_child_that_holds_its_pipes_does_not_hold_up_its_end(task: MakeTask, tmp_path: Path) -> None:
    """The parent was killed, as by a machine out of memory: that is known at once."""
    body = "time.sleep(600) if os.fork() == 0 else os.kill(os.getpid(), 9)"
    async with asyncio.timeout(20):
        with pytest.raises(PeerError, match="signal 9"):
            await run(task(body), tmp_path, timeout_s=600)


async def test_it_ends_when_nobody_waits_for_it(task: MakeTask, tmp_path: Path) -> None:
    """A transform whose agent dies does not write on beside the next one's."""
    pid = tmp_path / "pid"
    body = f"open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    order = (
        f'{{"release": "{task(body).release}", "version": 2, "previous": null, "previous_version": 1, '
        f'"transform": "notes:transform", "old": "{tmp_path}/old", "new": "{tmp_path}/new", "simulation": null, '
        f'"past": "{tmp_path}/past", "leash": true}}\n'
    )
    code = "import sys; from segue.release.transform import main; sys.exit(main())"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL
    )
    assert process.stdin is not None
    process.stdin.write(order.encode())
    async with asyncio.timeout(30):
        while not pid.exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.01)
        process.stdin.close()
        assert await process.wait() == 1
