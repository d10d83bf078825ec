"""The rule: a transform ends with all that it wrote on disk, or with one line that says what to correct."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from segue.release import durable
from segue.release.durable import sync_tree

Write = Callable[[str, Mapping[str, str]], Path]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a transform's process ended."""

    status: int
    out: str
    err: str
    folder: Path

    @property
    def size_bytes(self) -> int:
        return int(json.loads(self.out.splitlines()[-1])["done"]["size_bytes"])

    @property
    def done(self) -> bool:
        return self.out.splitlines()[-1:] != [] and "done" in json.loads(self.out.splitlines()[-1])

    @property
    def last_line(self) -> str:
        return self.err.rstrip("\n").splitlines()[-1]


Run = Callable[..., Ended]


@pytest.fixture
def run(write: Write, tmp_path: Path) -> Run:
    """Runs a transform with this code, as the agent does, on the old file `name` with the content `old`."""
    write("old", {"name": "old"})
    (tmp_path / "work").mkdir()
    write("simulation", {"index": "known"})
    write("one", {"kv/__init__.py": "", "kv/types.py": "WHO = 'one'"})

    def run(code: str, **order: Any) -> Ended:
        release = write("two", {"kv/__init__.py": "", "kv/types.py": "WHO = 'two'", "kv/upgrade.py": code})
        folders = {name: str(tmp_path / name) for name in ("old", "work", "simulation")}
        given = {
            "release": str(release),
            "version": 2,
            "previous": str(tmp_path / "one"),
            "previous_version": 1,
            "transform": "kv.upgrade:transform",
            **folders,
            **order,
        }
        return start(f"{json.dumps(given)}\n{json.dumps(given)}\n")

    def start(order: str) -> Ended:
        ended = subprocess.run(
            [sys.executable, "-m", "segue.release.transform"],
            input=order,
            capture_output=True,
            text=True,
            timeout=15,
            check=False,
        )
        return Ended(status=ended.returncode, out=ended.stdout, err=ended.stderr, folder=tmp_path)

    return run


def test_a_transform_reads_the_old_folder_and_writes_the_new_ones(run: Run) -> None:
    ended = run(
        """
        from kv.types import WHO
        from previous.kv.types import WHO as BEFORE

        def transform(old, new, context):
            assert list(new.iterdir()) == list(context.past.iterdir()) == []
            (new / "deep").mkdir()
            (new / "deep" / "name").write_text((old / "name").read_text() + WHO + BEFORE)
            (context.past / "index").write_text((context.simulation / "index").read_text())
            (new / "versions").write_text(f"{context.from_version}{context.to_version}")
        """
    )
    assert (ended.status, ended.err) == (0, "")
    assert ended.size_bytes == len("oldtwoone" + "known" + "12")
    assert (ended.folder / "work/object/deep/name").read_text() == "oldtwoone"
    assert (ended.folder / "work/past/index").read_text() == "known"
    assert (ended.folder / "work/object/versions").read_text() == "12"


def test_what_an_earlier_attempt_left_is_gone(run: Run, write: Write) -> None:
    write("work", {"object/deep/left": "x", "past/left": "x", "left": "x"})
    ended = run("def transform(old, new, context): (new / 'made').touch()")
    assert ended.status == 0, ended.err
    assert [path.name for path in (ended.folder / "work/object").iterdir()] == ["made"]
    assert list((ended.folder / "work/past").iterdir()) == []
    assert not (ended.folder / "work/left").exists()


def test_a_transform_twice_is_a_transform_once(run: Run) -> None:
    code = "def transform(old, new, context): (new / 'made').write_text((old / 'name').read_text())"
    assert run(code) == run(code)


def test_a_memory_limit_is_the_authors_and_not_that_of_having_all_on_disk(run: Run) -> None:
    code = "def transform(old, new, context): [(new / str(n)).touch() for n in range(100)]"
    ended = run(code, memory_mib=64)
    assert ended.done, ended.err


def test_there_need_be_no_simulation(run: Run) -> None:
    code = "def transform(old, new, context): (new / 'made').write_text(str(context.simulation))"
    assert run(code, simulation=None).status == 0


def test_without_the_release_before_it_uses_what_the_bundle_brought(run: Run, write: Write) -> None:
    write("two", {"previous/kv/types.py": "WHO = 'brought'"})
    code = "def transform(old, new, context):\n    from previous.kv.types import WHO\n    (new / WHO).touch()"
    ended = run(code, previous=None)
    assert ended.status == 0, ended.err
    assert (ended.folder / "work/object/brought").exists()


def test_what_the_authors_code_prints_does_not_spoil_the_answer(run: Run) -> None:
    code = """
        import os
        print("at import")
        def transform(old, new, context):
            print("printed")
            os.system("echo from a child")
        """
    ended = run(code)
    assert ended.size_bytes == 0
    assert {"at import", "printed", "from a child"} <= set(ended.err.splitlines())


@pytest.mark.parametrize(
    ("code", "summary"),
    [
        (
            "def transform(o, n, c):\n    x = 1\n    raise ValueError('bad\\nblock')",
            "two/kv/upgrade.py:3: ValueError: bad block",
        ),
        ("def helper():\n    {}['k']\ndef transform(o, n, c):\n    helper()", "two/kv/upgrade.py:2: KeyError: 'k'"),
        ("def transform(o, n, c):\n    open(o / 'nope')", "two/kv/upgrade.py:2: FileNotFoundError: "),
        ("import sys\ndef transform(o, n, c):\n    sys.exit(0)", "two/kv/upgrade.py:3: SystemExit: 0"),
        ("def transform():\n    pass", "TypeError: transform() takes 0 positional arguments but 3 were given"),
        ("\nimport nope_nowhere", "two/kv/upgrade.py:2: ModuleNotFoundError: No module named 'nope_nowhere'"),
        ("x = = 1", "two/kv/upgrade.py:1: SyntaxError: invalid syntax"),
        ("def other(): ...", "module kv.upgrade of release 2 has no transform"),
        (
            "async def transform(o, n, c): ...",
            "kv.upgrade:transform of release 2 is a coroutine function: a transform is a",
        ),
        ("def transform(o, n, c): yield", "is a generator function: a transform is a plain function"),
        ("transform = 3", "is of type int: a transform is a plain function"),
        ("async def f(): ...\ndef transform(o, n, c): return f()", "returned something to be awaited"),
    ],
)
def test_a_failure_is_a_traceback_and_one_line(code: str, summary: str, run: Run) -> None:
    ended = run(code)
    assert (ended.status, ended.done) == (1, False)
    assert summary in ended.last_line
    assert "Traceback (most recent call last)" in ended.err
    assert "segue_release" not in ended.last_line


def test_the_traceback_shows_the_authors_own_lines(run: Run) -> None:
    ended = run("def transform(old, new, context):\n    first = 1\n    raise ValueError('bad block')")
    assert f'File "{ended.folder}/two/kv/upgrade.py", line 3, in transform\n    raise ValueError' in ended.err


def test_a_transform_that_cannot_say_goodbye_gives_no_answer(run: Run) -> None:
    """An answer is what tells the agent that all is on disk."""
    assert not run("import os\ndef transform(o, n, c): os._exit(0)").done
    killed = run("import os, signal\ndef transform(o, n, c): os.kill(os.getpid(), signal.SIGKILL)")
    assert (killed.status, killed.done) == (-signal.SIGKILL, False)


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("work", "two"),
        ("work", "one/kv"),
        ("work", "."),
        ("old", "work"),
        ("old", "work/object"),
        ("old", "."),
        ("simulation", "work/past"),
    ],
)
def test_folders_that_are_read_are_never_written(name: str, folder: str, run: Run, tmp_path: Path) -> None:
    ended = run("def transform(o, n, c): ...", **{name: str(tmp_path / folder)})
    assert ended.status == 1
    assert "a transform cannot work in" in ended.last_line
    assert (tmp_path / "old/name").read_text() == "old"
    assert (tmp_path / "simulation/index").exists()


@pytest.mark.parametrize("order", [{"version": None}, {"version": "x"}, {"old": 3}, {"transform": None}])
def test_an_order_that_is_none_is_refused(order: dict[str, Any], run: Run) -> None:
    ended = run("def transform(o, n, c): ...", **order)
    assert (ended.status, ended.done) == (1, False)
    assert len(ended.last_line) > 10


def test_every_file_and_folder_is_synced_and_folders_after_their_files(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {f"d{number % 7}/deep/f{number}": "x" * number for number in range(300)}
    folder = write("tree", files)
    (folder / "empty").mkdir()
    (folder / "link").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    assert sync_tree(folder) == sum(range(300))
    folders = {str(path) for path in folder.rglob("*") if path.is_dir() and not path.is_symlink()}
    assert set(synced[:300]) == {str(folder / file) for file in files}
    assert set(synced[300:-1]) == folders
    assert synced[-1] == str(folder)


def test_many_files_are_synced_as_one_file_system(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """On file systems that are known to wait for the disk, and only with a descriptor from before the first write."""
    folder = write("tree", {f"f{number}": "xx" for number in range(300)})
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    whole: list[int] = []
    monkeypatch.setattr(durable, "_sync_file_system", whole.append)
    monkeypatch.setattr(durable, "_can_be_synced_whole", lambda _: True)
    assert sync_tree(folder, since=7) == 600
    assert (whole, synced) == ([7], [])
    sync_tree(folder)
    assert (len(whole), len(synced)) == (1, 301)
    monkeypatch.setattr(durable, "_can_be_synced_whole", lambda _: False)
    sync_tree(folder, since=7)
    assert (len(whole), len(synced)) == (1, 602)


def test_a_file_system_is_synced_whole_only_if_it_is_known(tmp_path: Path) -> None:
    """`/proc` is one that is not; a descriptor that is none is told."""
    assert not durable._can_be_synced_whole(Path("/proc"))
    with pytest.raises(OSError, match="syncfs: Bad file descriptor"):
        durable._sync_file_system(-1)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        durable._sync_file_system(descriptor)
    finally:
        os.close(descriptor)


def test_a_file_that_cannot_be_synced_fails_it(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError("the disk is full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="full"):
        sync_tree(write("tree", {"a": "x"}))
