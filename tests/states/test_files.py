"""Every file is given to the function once, what comes of it is the same in any number of processes, errors name it."""

import errno
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segue.author import TransformContext
from segue.errors import PeerError, ReleaseError
from segue.states.files import transform_files

Tree = Callable[[int], Path]

WORKERS = pytest.mark.parametrize("workers", [1, 3])


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Makes a folder `old` of so many files in a few folders, a link and an empty folder."""

    def tree(count: int) -> Path:
        old = tmp_path / "old"
        for number in range(count):
            file = old / f"d{number % 7}" / "deep" / f"f{number:04}"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"%d" % number * 3)
        (old / "empty").mkdir(parents=True)
        (old / "link").symlink_to("d0")
        os.mkfifo(old / "pipe")
        return old

    return tree


def shout(source: Path, target: Path) -> str:
    target.write_bytes(source.read_bytes() + b"!")
    return target.name


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("f*") if path.is_file()}


@WORKERS
def test_every_file_is_made_anew(workers: int, tree: Tree, tmp_path: Path, context: TransformContext) -> None:
    old, new = tree(500), tmp_path / "new"
    transform_files(old, new, shout, context=context, workers=workers)
    assert content(new) == {path: data + b"!" for path, data in content(old).items()}
    assert (new / "empty").is_dir()
    assert os.readlink(new / "link") == "d0"
    assert not (new / "pipe").exists()


@WORKERS
def test_what_it_returns_is_collected_in_order(
    workers: int, tree: Tree, tmp_path: Path, context: TransformContext
) -> None:
    found: list[tuple[Path, str]] = []
    old = tree(500)
    transform_files(
        old, tmp_path / "new", shout, context=context, workers=workers, collect=lambda *what: found.append(what)
    )
    expected = sorted(path for path in old.rglob("f*") if path.is_file())
    assert found == [(path, path.name) for path in expected]


@WORKERS
def test_files_may_be_left_out_renamed_and_linked(
    workers: int, tree: Tree, tmp_path: Path, context: TransformContext
) -> None:
    def some(source: Path, target: Path) -> None:
        if source.name == "f0001":
            target.with_name("renamed").write_bytes(source.read_bytes())
        elif source.name == "f0002":
            context.link(source, target)

    old, new = tree(100), tmp_path / "new"
    transform_files(old, new, some, context=context, workers=workers)
    assert {path.name for path in new.rglob("*") if path.is_file()} == {"renamed", "f0002"}
    assert (new / "d2/deep/f0002").stat().st_ino == (old / "d2/deep/f0002").stat().st_ino


@WORKERS
@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("bad"), ReleaseError),
        (OSError(errno.ENOSPC, "No space left"), OSError),
        (MemoryError("full"), MemoryError),
        (TimeoutError("slow"), PeerError),
    ],
)
def test_the_first_failure_in_order_is_raised_with_its_file(
    workers: int, error: Exception, kind: type[Exception], tree: Tree, tmp_path: Path, context: TransformContext
) -> None:
    """Whichever process comes to it first; and it is the machine's fault where it was."""

    def fail(source: Path, target: Path) -> None:
        if int(source.name[1:]) >= 100:
            raise error

    old = tree(1000)
    with pytest.raises(kind) as raised:
        transform_files(old, tmp_path / "new", fail, context=context, workers=workers)
    assert "d0/deep/f0105: " in str(raised.value)
    assert f"(at {__file__}:" in str(raised.value)
    assert "in fail" in str(raised.value.__cause__)


def test_a_worker_that_is_killed_is_the_machines_fault(tree: Tree, tmp_path: Path, context: TransformContext) -> None:
    def end(source: Path, target: Path) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(PeerError, match="killed by signal 9"):
        transform_files(tree(500), tmp_path / "new", end, context=context, workers=2)


def test_a_worker_that_ends_itself_is_the_authors_fault(tree: Tree, tmp_path: Path, context: TransformContext) -> None:
    with pytest.raises(ReleaseError, match="ended itself with status 3"):
        transform_files(tree(500), tmp_path / "new", lambda *_: os._exit(3), context=context, workers=2)


@WORKERS
def test_progress_is_told_in_files_and_bytes(
    workers: int, tree: Tree, tmp_path: Path, context: TransformContext, told: list[dict[str, Any]]
) -> None:
    old = tree(1000)
    size_bytes = sum(len(data) for data in content(old).values())
    transform_files(old, tmp_path / "new", shout, context=context, workers=workers)
    assert told[-1] == {"items_done": 1000, "bytes_done": size_bytes}
    assert {"items_total": 1000, "bytes_total": size_bytes} in told


def test_no_process_and_no_pipe_is_left(tree: Tree, tmp_path: Path, context: TransformContext) -> None:
    def there() -> tuple[list[str], str]:
        return sorted(os.listdir("/proc/self/fd")), Path(f"/proc/self/task/{os.getpid()}/children").read_text()

    old, before = tree(500), there()
    transform_files(old, tmp_path / "new", shout, context=context, workers=3)
    assert there() == before


@pytest.mark.parametrize("count", [0, 1, 64, 65])
def test_any_number_of_files_will_do(count: int, tree: Tree, tmp_path: Path, context: TransformContext) -> None:
    old, new = tree(count), tmp_path / "new"
    transform_files(old, new, shout, context=context)
    assert len(content(new)) == count
