"""A transform's work is there whole or not at all, whatever becomes of its process, and a failure says whose it is."""

import asyncio
import errno
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from segue.errors import PeerError, ReleaseError
from segue.model.ids import Version
from segue.model.progress import Progress
from segue.node.transform_process import TransformLimits, TransformTask, warm_transform
from segue.node.transforming import run_transform

pytestmark = pytest.mark.timeout(60)

MakeTask = Callable[..., TransformTask]

LIMITS = TransformLimits(timeout_s=30)


@pytest.fixture
def task(tmp_path: Path) -> MakeTask:
    """Makes a task whose transform has this body, in a release of one module that begins with `top`."""

    def make(body: str, top: str = "") -> TransformTask:
        folder = tmp_path / "release"
        folder.mkdir()
        text = f"import os, time\n{top}\ndef transform(old, new, context):\n    {body}\n"
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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16m", "none", folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


async def run(task: TransformTask, tmp_path: Path, limits: TransformLimits = LIMITS) -> int:
    done = await run_transform(task, making=tmp_path / "making", states=tmp_path / "states", limits=limits)
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


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - another process brings it about
            await asyncio.sleep(0.01)


async def test_its_work_becomes_the_state(task: MakeTask, tmp_path: Path) -> None:
    """Once; asked again, it says what it said. What the framework needed beside it is gone."""
    done = task("(new / 'note').write_text((old / 'note').read_text()); (context.past / 'index').write_text('!')")
    assert await run(done, tmp_path) == 5
    assert (tmp_path / "states" / "object" / "note").read_text() == "kept"
    assert (tmp_path / "states" / "past" / "index").read_text() == "!"
    assert sorted(path.name for path in (tmp_path / "states").iterdir()) == ["object", "past", "transform.json"]
    assert (tmp_path / "old" / "note").read_text() == "kept"
    (done.release / "notes.py").write_text("")
    assert await run(done, tmp_path) == 5
    assert list((tmp_path / "making").iterdir()) == []


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        ("raise RuntimeError('no luck')", ReleaseError, r"notes.py:4: RuntimeError: no luck"),
        ("os._exit(0)", ReleaseError, "before it was done"),
        ("os._exit(3)", ReleaseError, "it said nothing"),
        ("new.rename(new.parent / 'other')", ReleaseError, "took .*/object away"),
        ("raise OSError(28, 'No space left on device')", PeerError, "notes.py:4: .*No space left.*make room"),
        ("raise MemoryError", PeerError, "MemoryError"),
        ("os.kill(os.getpid(), 9)", PeerError, "signal 9"),
        (
            "import sqlite3; e = sqlite3.OperationalError('full'); e.sqlite_errorcode = 13; raise e",
            PeerError,
            "OperationalError: full; make room",
        ),
    ],
)
async def test_a_failure_leaves_nothing_and_says_whose_it_is(
    body: str, kind: type[Exception], said: str, task: MakeTask, tmp_path: Path
) -> None:
    """A release is to blame for what its code does, and not for a machine that lacks something."""
    with pytest.raises(kind, match=said):
        await run(task(body), tmp_path)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    "body",
    [
        "(old / 'note').write_text('spoilt')",
        "(old / 'note').open('r+')",
        "os.truncate(old / 'note', 0)",
        "(old / 'note').unlink()",
        "(old / 'note').rename(new / 'note')",
        "(old / 'more').mkdir()",
        "(new / 'note').symlink_to(old / 'note'); (new / 'note').write_text('spoilt')",
        "os.link(old / 'note', new / 'note')",
        "import shutil; shutil.rmtree(old)",
        "import subprocess; subprocess.run(['sh', '-c', f'echo spoilt > {old}/note'], check=True)",
    ],
)
async def test_the_old_state_cannot_be_written(body: str, task: MakeTask, tmp_path: Path) -> None:
    """The author hears which line tried to, and the old state is as it was, its time of change included."""
    making = task(body)
    before = (making.old / "note").stat()
    with pytest.raises(ReleaseError, match=r"notes\.py:4: "):
        await run(making, tmp_path)
    after = (making.old / "note").stat()
    assert [path.name for path in making.old.iterdir()] == ["note"]
    assert (making.old / "note").read_text() == "kept"
    assert (after.st_mtime_ns, after.st_nlink, after.st_ino) == (before.st_mtime_ns, 1, before.st_ino)
    assert left(tmp_path) == []


async def test_code_at_the_top_of_a_module_cannot_write_either(task: MakeTask, tmp_path: Path) -> None:
    making = task("pass", top=f"open({str(tmp_path / 'elsewhere')!r}, 'w')")
    with pytest.raises(ReleaseError, match=r"notes\.py:2: PermissionError.*only below its new folder"):
        await run(making, tmp_path)


async def test_a_file_can_be_taken_over_without_a_copy(task: MakeTask, tmp_path: Path) -> None:
    """It appears once the transform has returned, so that the transform cannot write to it."""
    making = task("context.link(old / 'note', new / 'note'); assert not (new / 'note').exists()")
    assert await run(making, tmp_path) == 4
    assert (tmp_path / "states/object/note").stat().st_ino == (making.old / "note").stat().st_ino


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("context.link(old / 'none', new / 'note')", "FileNotFoundError"),
        ("context.link(old, new / 'note')", "is no file"),
        ("(new / 'note').touch(); context.link(old / 'note', new / 'note')", "FileExistsError"),
        ("context.link(old / 'note', new / 'note'); (new / 'note').touch()", "FileExistsError"),
        ("context.link(old / 'note', new / 'nowhere' / 'note')", "FileNotFoundError"),
        ("context.link(old / 'note', old / 'other')", "is not below a folder of the new state"),
        ("context.link('/etc/passwd', new / 'note')", "is not below a folder of the old state"),
        (
            "(new / 'd').mkdir(); context.link(old / 'note', new / 'd' / 'x'); (new / 'd').rmdir(); "
            "(new / 'd').symlink_to(old)",
            "is not below a folder of the new state",
        ),
    ],
)
async def test_a_link_that_cannot_be_made_fails_it(body: str, said: str, task: MakeTask, tmp_path: Path) -> None:
    making = task(body)
    with pytest.raises(ReleaseError, match=said):
        await run(making, tmp_path)
    assert [path.name for path in making.old.iterdir()] == ["note"]


async def test_temporary_files_are_its_own(task: MakeTask, tmp_path: Path) -> None:
    making = task(
        "import subprocess, tempfile; open(tempfile.mkstemp()[0], 'w').write('x'); "
        "found = subprocess.run(['sh', '-c', 'mktemp'], check=True, capture_output=True, text=True).stdout; "
        "(new / 'where').write_text(found)"
    )
    await run(making, tmp_path)
    assert str(tmp_path / "making") in (tmp_path / "states/object/where").read_text()
    assert list((tmp_path / "making").iterdir()) == []


async def test_it_is_ended_when_its_time_is_over(task: MakeTask, tmp_path: Path) -> None:
    """With all that it started, and what they started."""
    body = "import subprocess; subprocess.Popen(['sh', '-c', 'sleep 600 & sleep 600']); os.fork(); time.sleep(600)"
    making = task(body)
    process = await warm_transform(making, making=tmp_path / "making", limits=TransformLimits(timeout_s=10))
    group = process.pid
    with pytest.raises(ReleaseError, match=r"not do its work within 10 s \(--transform-timeout-s\)"):
        await run_transform(
            making,
            making=tmp_path / "making",
            states=tmp_path / "states",
            limits=TransformLimits(timeout_s=10),
            warmed=process,
        )
    await until(lambda: not alive_in_group(group))
    assert left(tmp_path) == []


async def test_a_release_that_takes_for_ever_to_import_is_ended(task: MakeTask, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="not import what it needs within 3 s"):
        await run(task("pass", top="time.sleep(600)"), tmp_path, TransformLimits(timeout_s=3))
    assert left(tmp_path) == []


async def test_a_child_that_holds_its_pipes_does_not_hold_up_its_end(task: MakeTask, tmp_path: Path) -> None:
    """The parent was killed, as by a machine out of memory: that is known at once."""
    body = "time.sleep(600) if os.fork() == 0 else os.kill(os.getpid(), 9)"
    async with asyncio.timeout(30):
        with pytest.raises(PeerError, match="signal 9"):
            await run(task(body), tmp_path, TransformLimits(timeout_s=600))


async def test_much_that_is_printed_does_not_stop_it(task: MakeTask, tmp_path: Path) -> None:
    """The log has the end of it."""
    with pytest.raises(ReleaseError, match="no luck") as raised:
        await run(task("print('x' * 10_000_000); raise RuntimeError('no luck')"), tmp_path)
    assert len(getattr(raised.value, "details", "")) <= 1 << 16


async def test_memory_is_limited(task: MakeTask, tmp_path: Path) -> None:
    """In the author's Python the limit is an error with a line, and the reason names the option."""
    limits = TransformLimits(timeout_s=30, memory_mib=100)
    with pytest.raises(PeerError, match=r"notes.py:4: MemoryError; .* 100 MiB \(--transform-memory-mib\): allow more"):
        await run(task("found = bytearray(200 << 20)"), tmp_path, limits)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("body", "top"), [("os.abort()", ""), ("pass", "found = bytearray(200 << 20)")], ids=["killed", "imports"]
)
async def test_memory_that_ends_it_otherwise_names_the_limit(
    body: str, top: str, task: MakeTask, tmp_path: Path
) -> None:
    with pytest.raises(PeerError, match=r"100 MiB.*--transform-memory-mib"):
        await run(task(body, top), tmp_path, TransformLimits(timeout_s=30, memory_mib=100))


async def test_progress_is_told(task: MakeTask, tmp_path: Path) -> None:
    """Not each time, but what was said last in any case."""
    told: list[Progress] = []
    body = "[context.progress(items_done=n, items_total=1000, bytes_done=2 * n) for n in range(1001)]"
    await run_transform(
        task(body), making=tmp_path / "making", states=tmp_path / "states", limits=LIMITS, on_progress=told.append
    )
    assert told[-1] == Progress(items_done=1000, items_total=1000, bytes_done=2000, seconds_left=0)
    assert len(told) < 500


@pytest.mark.parametrize("body", ["pass", "raise ValueError('no')", "os._exit(0)"])
async def test_no_group_is_signalled_whose_id_may_be_anothers(
    body: str, task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ended keeps its id until it is reaped; after that, the id is that of whoever gets it next."""
    signalled: list[bool] = []
    killpg = os.killpg

    def watched(group: int, number: int) -> None:
        signalled.append(Path(f"/proc/{group}").exists())
        killpg(group, number)

    monkeypatch.setattr(os, "killpg", watched)
    with suppress(ReleaseError):
        await run(task(body), tmp_path)
    assert signalled == [True]


async def test_no_transform_fails_for_how_it_counts(task: MakeTask, tmp_path: Path) -> None:
    """A share of nothing is no number; neither that nor more than all there is may cost a node its upgrade."""
    told: list[Progress] = []
    body = "context.progress(items_done=float('nan'), items_total=float('inf'), bytes_done=-1, bytes_total=2.5)"
    await run_transform(
        task(body), making=tmp_path / "making", states=tmp_path / "states", limits=LIMITS, on_progress=told.append
    )
    assert told[-1] == Progress(items_done=0, items_total=None, bytes_done=0, bytes_total=2)


async def test_a_process_that_was_started_early_waits_for_its_order(task: MakeTask, tmp_path: Path) -> None:
    """What was imported is what runs, and the old state and the simulation's may come later."""
    making = task("(new / 'found').write_text((context.simulation / 'note').read_text())")
    later = tmp_path / "later"
    making = replace(making, old=later)
    process = await warm_transform(making, making=tmp_path / "making", limits=LIMITS)
    assert process.alive
    (making.release / "notes.py").write_text("raise RuntimeError('read again')")
    later.mkdir()
    (later / "note").write_text("simulated")
    ordered = replace(making, old=tmp_path / "old", simulation=later)
    await run_transform(ordered, making=tmp_path / "making", states=tmp_path / "states", limits=LIMITS, warmed=process)
    assert (tmp_path / "states/object/found").read_text() == "simulated"
    assert not process.alive
    assert list((tmp_path / "making").iterdir()) == []


async def test_a_release_that_does_not_import_is_known_early(task: MakeTask, tmp_path: Path) -> None:
    """Before the old object goes quiet; and nothing of it stays."""
    with pytest.raises(ReleaseError, match=r"notes\.py:2: RuntimeError: no luck"):
        await warm_transform(
            task("pass", top="raise RuntimeError('no luck')"), making=tmp_path / "making", limits=LIMITS
        )
    assert left(tmp_path) == []


async def test_one_that_died_while_it_waited_is_replaced(task: MakeTask, tmp_path: Path) -> None:
    making = task("(new / 'note').touch()")
    process = await warm_transform(making, making=tmp_path / "making", limits=LIMITS)
    os.kill(process.pid, signal.SIGKILL)
    await until(lambda: not process.alive)
    await run_transform(making, making=tmp_path / "making", states=tmp_path / "states", limits=LIMITS, warmed=process)
    assert (tmp_path / "states/object/note").exists()
    assert list((tmp_path / "making").iterdir()) == []


async def test_one_that_is_not_needed_is_ended(task: MakeTask, tmp_path: Path) -> None:
    process = await warm_transform(task("pass"), making=tmp_path / "making", limits=LIMITS)
    await process.end()
    await process.end()
    assert not alive_in_group(process.pid)
    assert left(tmp_path) == []


_AGENT = """
import asyncio, sys
from pathlib import Path
from segue.model.ids import Version
from segue.node.transform_process import TransformLimits, TransformTask, warm_transform

async def main(release, making):
    task = TransformTask(function="notes:transform", release=release, version=Version(2), previous=release,
                         previous_version=Version(1), old=release, simulation=None)
    process = await warm_transform(task, making=making, limits=TransformLimits(timeout_s=60))
    print(process.pid, flush=True)
    if sys.argv[3] == "run":
        await process.run(task, None)
    await asyncio.sleep(600)

asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
"""


@pytest.mark.parametrize("what", ["wait", "run"])
async def test_it_ends_when_nobody_waits_for_it(what: str, task: MakeTask, tmp_path: Path) -> None:
    """A transform whose agent is killed does not write on beside the next one's; nor does what it started."""
    release = task("os.fork(); time.sleep(600)").release
    agent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _AGENT, str(release), str(tmp_path / "making"), what, stdout=asyncio.subprocess.PIPE
    )
    assert agent.stdout is not None
    group = int(await agent.stdout.readline())
    assert alive_in_group(group)
    if what == "run":
        await until(lambda: len(alive_in_group(group)) == 2)
    agent.kill()
    await agent.wait()
    await until(lambda: not alive_in_group(group))


async def test_a_disk_that_is_full_is_the_machines_fault(task: MakeTask, tmp_path: Path, small_disk: Path) -> None:
    """And the room is there again when it is known, for the old version to go on."""
    making = task("[(new / str(n)).write_bytes(bytes(1 << 20)) for n in range(100)]")
    for name in ("making", "states"):
        (small_disk / name).mkdir()
    before = os.statvfs(small_disk).f_bavail
    with pytest.raises(PeerError, match=r"notes\.py:4: OSError: \[Errno 28\] .*make room on the disk"):
        await run_transform(making, making=small_disk / "making", states=small_disk / "states" / "2", limits=LIMITS)
    assert os.statvfs(small_disk).f_bavail == before
    assert list((small_disk / "making").iterdir()) == []


async def test_a_disk_that_is_full_at_the_end_leaves_no_state(
    task: MakeTask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing can be mounted, the same is seen where the agent itself writes."""

    def full(path: Path, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    making = task("(new / 'note').touch()")
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space left"):
        await run(making, tmp_path)
    assert left(tmp_path) == []


_HELPED = """
import segue
def each(source, target):
    if int(source.name) % 2:
        context_of["it"].link(source, target)
    else:
        target.write_bytes(source.read_bytes() * 2)
context_of = {}
"""


async def test_helpers_work_where_a_transform_is_held(task: MakeTask, tmp_path: Path) -> None:
    """Forked processes can write and ask for links; a database is made whose journal and log need room of their own."""
    making = task(
        "context_of['it'] = context; (old / 'note').stat(); "
        "segue.transform_files(old / 'many', new, each, context=context, workers=2); "
        "segue.transform_sqlite(old / 'a.db', new / 'a.db', lambda c: c.execute('DELETE FROM t'), context=context)",
        top=_HELPED,
    )
    (making.old / "many").mkdir()
    for number in range(400):
        (making.old / "many" / str(number)).write_text("ab")
    with closing(sqlite3.connect(making.old / "a.db", isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE t AS SELECT name FROM pragma_function_list")
    told: list[Progress] = []
    states = tmp_path / "states"
    await run_transform(making, making=tmp_path / "making", states=states, limits=LIMITS, on_progress=told.append)
    new = states / "object"
    assert sorted(path.name for path in new.iterdir() if path.is_file()) == sorted([*map(str, range(400)), "a.db"])
    assert (new / "8").read_text() == "abab"
    assert (new / "9").stat().st_ino == (making.old / "many" / "9").stat().st_ino
    with closing(sqlite3.connect(new / "a.db")) as connection:
        assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
    assert told[-1].items_done == told[-1].items_total == 400
