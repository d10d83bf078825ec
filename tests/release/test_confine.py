"""A process that is confined writes below its own folder and nowhere else, whatever the kernel helps with."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from segue.release.confine import landlock_abi

#: Runs each piece of code in a process of its own: what came of it, and what was then in `old`.
Confined = Callable[..., list[tuple[str, dict[str, str]]]]

pytestmark = pytest.mark.timeout(60)

needs_landlock = pytest.mark.skipif(landlock_abi() < 3, reason="this kernel has no Landlock, or an old one")

#: What a kernel without Landlock, an old one and this one would do.
ABIS = pytest.mark.parametrize(
    "abi", [0, pytest.param(2, marks=needs_landlock), pytest.param(landlock_abi(), marks=needs_landlock)]
)

_CODE = """
import json, os, subprocess, sys
from pathlib import Path
from segue.release.confine import confine

def outcome(code, old, new):
    try:
        exec(code)
    except subprocess.CalledProcessError:
        return "failed"
    except OSError as error:
        return type(error).__name__
    return "done"

for number, code in enumerate(json.loads(sys.argv[3])):
    old, new = (Path(sys.argv[1], str(number), name) for name in ("old", "new"))
    for folder in (old, new / "a", new / "b"):
        folder.mkdir(parents=True)
    (old / "file").write_text("kept")
    os.chdir(old)
    if os.fork() == 0:
        print(confine(new, abi=int(sys.argv[2])), outcome(code, old, new), flush=True)
        os._exit(0)
    os.wait()
"""

FORBIDDEN = [
    "(old / 'file').write_text('spoilt')",
    "(old / 'file').open('a')",
    "os.open('file', os.O_RDWR)",
    "os.open(b'new', os.O_CREAT | os.O_WRONLY)",
    "os.truncate(old / 'file', 0)",
    "(old / 'file').unlink()",
    "os.unlink('file', dir_fd=os.open(old, os.O_RDONLY))",
    "(old / 'file').rename(new / 'file')",
    "(new / 'x').touch(); (new / 'x').rename(old / 'x')",
    "(new / 'x').touch(); (new / 'x').replace(old / 'file')",
    "os.link(old / 'file', new / 'file')",
    "(new / 'x').touch(); os.link(new / 'x', old / 'x')",
    "os.symlink('x', old / 'x')",
    "(old / 'x').mkdir()",
    "(new / 'x').symlink_to(old / 'file'); (new / 'x').write_text('spoilt')",
    "(new / 'x').symlink_to(old); (new / 'x' / 'file').unlink()",
    "(new / '..' / 'old' / 'file').unlink()",
]

#: What only the kernel sees.
FORBIDDEN_TO_OTHERS = [
    "subprocess.run(['sh', '-c', f'echo spoilt > {old}/file'], check=True, stderr=subprocess.DEVNULL)",
    "os.mknod(old / 'x')",
]

FREE = [
    "assert (old / 'file').read_text() == 'kept'",
    "(new / 'a' / 'x').write_text('x'); (new / 'a' / 'x').rename(new / 'b' / 'x'); (new / 'b' / 'x').unlink()",
    "(new / 'a' / 'x').touch(); os.link(new / 'a' / 'x', new / 'b' / 'x'); os.truncate(new / 'b' / 'x', 9)",
    "(new / 'a').rmdir(); (new / 'c').mkdir(); os.mkfifo(new / 'c' / 'pipe')",
    "(new / 'x').symlink_to(old); (new / 'x').unlink()",
    "open('/dev/null', 'w').write('x')",
    "subprocess.run(['true'], stdout=subprocess.DEVNULL, check=True)",
    "import multiprocessing; multiprocessing.Lock()",
    "import shutil; shutil.rmtree(new / 'a'); shutil.copytree(old, new / 'copy')",
    "os.write(os.open(new / 'x', os.O_WRONLY | os.O_CREAT), b'x')",
]


@pytest.fixture
def confined(tmp_path: Path) -> Confined:
    """Runs code that may write below `new` only, with `old` beside it, each piece on folders of its own."""

    def run(codes: list[str], abi: int) -> list[tuple[str, dict[str, str]]]:
        command = [sys.executable, "-c", _CODE, str(tmp_path), str(abi), json.dumps(codes)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
        outcomes = ended.stdout.splitlines()
        assert len(outcomes) == len(codes), ended.stderr
        guard = "python" if abi < 2 else "kernel"
        assert all(outcome.startswith(f"{guard} ") for outcome in outcomes)
        return [
            (
                outcome.removeprefix(f"{guard} "),
                {path.name: path.read_text() for path in (tmp_path / str(n) / "old").iterdir()},
            )
            for n, outcome in enumerate(outcomes)
        ]

    return run


@ABIS
def test_nothing_else_is_written(abi: int, confined: Confined) -> None:
    codes = FORBIDDEN + (FORBIDDEN_TO_OTHERS if abi >= 2 else [])
    for code, (outcome, old) in zip(codes, confined(codes, abi), strict=True):
        assert outcome in ("PermissionError", "OSError", "failed"), code
        assert old == {"file": "kept"}, code


@ABIS
def test_what_is_its_own_is_free(abi: int, confined: Confined) -> None:
    for code, (outcome, old) in zip(FREE, confined(FREE, abi), strict=True):
        assert outcome == "done", code
        assert old == {"file": "kept"}, code


@ABIS
def test_a_thread_from_before_may_link_old_files(abi: int, tmp_path: Path) -> None:
    """The framework's own, which makes the links that a transform asked for: on every kernel."""
    code = "import os, sys, threading; from concurrent.futures import ThreadPoolExecutor; from pathlib import Path; "
    code += "from segue.release.confine import confine; pool = ThreadPoolExecutor(1); os.chdir(sys.argv[1]); "
    code += "confine(Path('new'), free=(pool.submit(threading.get_ident).result(),), abi=int(sys.argv[2])); "
    code += "pool.submit(os.link, 'old', 'new/x').result(); os.link('old', 'new/y')"
    (tmp_path / "new").mkdir()
    (tmp_path / "old").touch()
    command = [sys.executable, "-c", code, str(tmp_path), str(abi)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert "Error" in ended.stderr.splitlines()[-1], "this thread is held"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["x"], ended.stderr


@needs_landlock
def test_what_lies_in_memory_is_held_too() -> None:
    """State may be below /dev/shm, which is open to writers otherwise."""
    folder = Path(f"/dev/shm/segue-test-{os.getpid()}")
    (folder / "new").mkdir(parents=True)
    code = "from pathlib import Path; from segue.release.confine import confine; import sys; f = Path(sys.argv[1]); "
    code += "confine(f / 'new'); (f / 'new' / 'x').touch(); (f / 'old').touch()"
    try:
        ended = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=False)
        assert "PermissionError" in ended.stderr
        assert (folder / "new/x").exists()
        assert not (folder / "old").exists()
    finally:
        for path in (folder / "new/x", folder / "old"):
            path.unlink(missing_ok=True)
        (folder / "new").rmdir()
        folder.rmdir()
