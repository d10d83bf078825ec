"""Transforms of much state with the helpers that authors have, against a plain copy of the same data.

There are two kinds of state: many files, each of which gets a checksum in front; and a SQLite database, of which each
row gets a new column, filled. A transform runs as on a node, so with the start of its process, the sync, and the
rename; a copy is made by the tool that one would take, and then synced, so that both are on disk. Round by round, one
and the other are made of the same data, which was read before, and taken away again.
"""

import random
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from segue.model.ids import Version
from segue.node.transform_process import TransformLimits, TransformTask
from segue.node.transforming import run_transform
from segue.release.durable import sync_path

_CODE = '''
"""Transforms of two kinds of state."""

import hashlib

import segue


def with_checksum(source, target):
    data = source.read_bytes()
    target.write_bytes(hashlib.sha256(data).digest() + data)


def files(old, new, context):
    segue.transform_files(old, new, with_checksum, context=context)


def sqlite(old, new, context):
    change = ("ALTER TABLE blocks ADD COLUMN size INTEGER", "UPDATE blocks SET size = length(data)")
    segue.transform_sqlite(old / "blocks.db", new / "blocks.db", change, context=context)
'''
_LIMITS = TransformLimits(timeout_s=600.0)
#: Sizes of files are from the first to the second, each power of two as often as the next.
_SMALLEST_BYTES, _LARGEST_BYTES = 4 << 10, 64 << 10
_FILES_A_FOLDER = 100
_ROW_BYTES = 1000
#: What a row takes in the file.
_ROW_TAKES_BYTES = 1027
#: Old data, new data, and what the transform needs besides.
_ROOM = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How much is transformed.

    Attributes:
        files: how many, of 4 to 64 KiB, 22 on average.
        database_mib: the size of the database.
        rounds: how many times.
    """

    files: int
    database_mib: int
    rounds: int

    @property
    def needed_bytes(self) -> int:
        """Return the room on the disk that it takes."""
        return _ROOM * max(self.files * _LARGEST_BYTES // 2, self.database_mib << 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One transform and one copy, in seconds; `unsynced_s` is the copy before the sync."""

    transform_s: float
    copy_s: float
    unsynced_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformFigures:
    """Medians over rounds, in milliseconds.

    Attributes:
        median_ms: the transform, with its process, the sync and the rename.
        copy_ms: the plain copy, synced.
        unsynced_copy_ms: of that, the copy alone: after it, nothing is on disk for certain.
        ratio: the median of each round's transform by its copy, both on disk.
        ratio_low, ratio_high: the least and the greatest.
        ratio_to_unsynced: the same, to the copy alone.
        state_mib: the size of the data.
        rounds: how many.
    """

    median_ms: float
    copy_ms: float
    unsynced_copy_ms: float
    ratio: float
    ratio_low: float
    ratio_high: float
    ratio_to_unsynced: float
    state_mib: float
    rounds: int


class NoRoomError(Exception):
    """The disk has not the room that the transforms take."""


async def measure_transforms(
    amount: Amount, shuffle: random.Random, tick: Callable[[], None]
) -> Mapping[str, TransformFigures]:
    """Transform and copy data of each kind: `{kind: figures}`.

    Args:
        amount: how much.
        shuffle: where randomness comes from.
        tick: is called after each round, of each kind.

    Raises:
        NoRoomError: there is not enough room where temporary files go.
    """
    figures = {}
    for kind in KINDS:
        with tempfile.TemporaryDirectory(prefix="segue-bench-") as temporary:
            folder = Path(temporary)
            check_room(folder, amount)
            make_state(kind, folder, amount)
            rounds = []
            for _ in range(amount.rounds):
                rounds.append(await _round(kind, folder, shuffle))
                tick()
            size_bytes = sum(path.stat().st_size for path in (folder / "old").rglob("*") if path.is_file())
        figures[kind] = transform_figures(rounds, size_bytes)
    return figures


def check_room(folder: Path, amount: Amount) -> None:
    """Make sure that the disk has room.

    Raises:
        NoRoomError: it has not.
    """
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < amount.needed_bytes:
        raise NoRoomError(
            f"{folder.parent} has {free_bytes >> 20} MiB free, and {amount.needed_bytes >> 20} are needed: "
            "set TMPDIR to a folder on a larger disk"
        )


def transform_figures(rounds: Sequence[Round], size_bytes: int) -> TransformFigures:
    """Put several rounds together."""
    ratios = [one.transform_s / one.copy_s for one in rounds]
    return TransformFigures(
        median_ms=round(statistics.median(one.transform_s for one in rounds) * 1000, 1),
        copy_ms=round(statistics.median(one.copy_s for one in rounds) * 1000, 1),
        unsynced_copy_ms=round(statistics.median(one.unsynced_s for one in rounds) * 1000, 1),
        ratio=round(statistics.median(ratios), 3),
        ratio_low=round(min(ratios), 3),
        ratio_high=round(max(ratios), 3),
        ratio_to_unsynced=round(statistics.median(one.transform_s / one.unsynced_s for one in rounds), 3),
        state_mib=round(size_bytes / 2**20, 1),
        rounds=len(rounds),
    )


async def _round(kind: str, folder: Path, shuffle: random.Random) -> Round:
    """Make a transform and a copy, in random order, and take both away."""
    transform_s, copied = 0.0, (0.0, 0.0)
    for what in shuffle.sample(("transform", "copy"), 2):
        _settle()
        if what == "copy":
            copied = copy_state(kind, folder)
            shutil.rmtree(folder / "copy")
        else:
            transform_s = await transform_state(kind, folder)
            shutil.rmtree(folder / "states")
    return Round(transform_s=transform_s, copy_s=copied[1], unsynced_s=copied[0])


def make_state(kind: str, folder: Path, amount: Amount) -> None:
    """Make the data, in `old/` of a folder."""
    (folder / "old").mkdir()
    KINDS[kind].make(folder / "old", amount)


async def transform_state(kind: str, folder: Path) -> float:
    """Run the transform as a node does, from `old/` to `states/2/object/`, and return how many seconds that took."""
    release, making, states = (folder / name for name in ("release", "making", "states"))
    _write_release(release)
    making.mkdir(exist_ok=True)
    states.mkdir(exist_ok=True)
    task = TransformTask(
        function=f"much.upgrade:{kind}",
        release=release,
        version=Version(2),
        previous=release,
        previous_version=Version(1),
        old=folder / "old",
        simulation=None,
    )
    began = time.perf_counter()
    await run_transform(task, making=making, states=states / "2", limits=_LIMITS)
    return time.perf_counter() - began


def copy_state(kind: str, folder: Path) -> tuple[float, float]:
    """Copy the data from `old/` to `copy/`, and return the seconds until it was there, and until it was on disk."""
    began = time.perf_counter()
    KINDS[kind].copy(folder / "old", folder / "copy")
    copied = time.perf_counter()
    KINDS[kind].sync(folder / "copy")
    return copied - began, time.perf_counter() - began


def _settle() -> None:
    """Have nothing left to be written of what was before."""
    subprocess.run(["sync"], check=True)


def _write_release(folder: Path) -> None:
    package = folder / "much"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").touch()
    (package / "upgrade.py").write_text(_CODE)


def _make_files(folder: Path, amount: Amount) -> None:
    """Write files of random bytes, and sizes that are the same in each run."""
    generator = random.Random(1)
    block = generator.randbytes(_LARGEST_BYTES * 2)
    for number in range(amount.files):
        size = int(_SMALLEST_BYTES * (_LARGEST_BYTES / _SMALLEST_BYTES) ** generator.random())
        begin = generator.randrange(len(block) - size)
        path = folder / str(number // _FILES_A_FOLDER) / str(number)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(block[begin : begin + size])


def _copy_files(old: Path, new: Path) -> None:
    subprocess.run(["cp", "-r", old, new], check=True)


def _make_database(folder: Path, amount: Amount) -> None:
    """Write a database of rows of a kilobyte."""
    rows = (amount.database_mib << 20) // _ROW_TAKES_BYTES
    with closing(sqlite3.connect(folder / "blocks.db")) as connection, connection:
        connection.execute("CREATE TABLE blocks (id INTEGER PRIMARY KEY, data BLOB NOT NULL)")
        connection.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
            "INSERT INTO blocks SELECT i, randomblob(?) FROM n",
            (rows, _ROW_BYTES),
        )


def _sync_files(folder: Path) -> None:
    subprocess.run(["sync", "--file-system", folder], check=True)


def _copy_database(old: Path, new: Path) -> None:
    """Copy it in a process of its own, as `cp` has one too."""
    new.mkdir()
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('VACUUM INTO ?', [sys.argv[2]])"
    subprocess.run([sys.executable, "-c", code, old / "blocks.db", new / "blocks.db"], check=True)


def _sync_database(folder: Path) -> None:
    sync_path(folder / "blocks.db")
    sync_path(folder)


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of state: what makes it in a folder, copies it to another, and has that on disk."""

    make: Callable[[Path, Amount], None]
    copy: Callable[[Path, Path], None]
    sync: Callable[[Path], None]


KINDS: Mapping[str, _Kind] = {
    "files": _Kind(_make_files, _copy_files, _sync_files),
    "sqlite": _Kind(_make_database, _copy_database, _sync_database),
}
