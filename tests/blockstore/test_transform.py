"""The transform checks each block, gives it version 2's name and form, and keeps both names for version 1's callers."""

import hashlib
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from segue.author import TransformContext
from segue.model.ids import Version

BLOCKS = [b"", b"short", b"repeated " * 1000, bytes(range(256)) * 4096]


@dataclass
class Folders:
    old: Path
    new: Path
    simulation: Path
    past: Path
    run: Callable[..., None]

    def transform(self, *, use_simulation: bool = True) -> None:
        simulation = self.simulation if use_simulation else None
        context = TransformContext(
            from_version=Version(1), to_version=Version(2), simulation=simulation, past=self.past
        )
        self.run(self.old, self.new, context)

    def file(self, data: bytes, digest: bytes | None = None) -> Path:
        position = hashlib.sha1(data).hexdigest()[:16]
        digest = digest or hashlib.sha256(data).digest()
        return self.new / "ring" / position[:2] / f"{position}-{digest.hex()}.z"


@pytest.fixture
def folders(tmp_path: Path, upgrade: ModuleType) -> Folders:
    """A state of version 1 with `BLOCKS`, written here by hand: its layout is a promise."""
    old, new, simulation, past = (tmp_path / name for name in ("old", "new", "simulation", "past"))
    made = Folders(old, new, simulation, past, upgrade.transform)
    for folder in (old, new, simulation, past):
        folder.mkdir()
    for number, data in enumerate(BLOCKS):
        name = hashlib.sha1(data).hexdigest()
        path = made.old / "blocks" / name[:2] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, ns=(number * 1_000_000_007,) * 2)
    return made


def contents(folder: Path) -> dict[Path, tuple[bytes, int]]:
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("use_simulation", [True, False])
def test_blocks_are_named_anew_and_compressed(folders: Folders, use_simulation: bool) -> None:
    """And keep the time when they were stored. The old folder stays as it was."""
    before = contents(folders.old)
    folders.transform(use_simulation=use_simulation)
    after = contents(folders.new)
    assert {path: (zlib.decompress(data), time) for path, (data, time) in after.items()} == {
        folders.file(data): (data, number * 1_000_000_007) for number, data in enumerate(BLOCKS)
    }
    assert len(after[folders.file(BLOCKS[2])][0]) < len(BLOCKS[2]) / 10
    assert contents(folders.old) == before


def test_the_past_simulation_is_left_both_names_of_each_block(folders: Folders, index: ModuleType) -> None:
    folders.transform()
    assert index.known_names(folders.past) == {
        hashlib.sha1(data).digest(): hashlib.sha256(data).digest() for data in BLOCKS
    }


def test_a_name_that_the_future_simulation_knows_is_taken_as_it_is(folders: Folders, index: ModuleType) -> None:
    """The planted name shows where it came from; the block that is not in the index is hashed."""
    planted = b"planted by the future simulation"
    names = index.Names(folders.simulation)
    names.add(hashlib.sha1(BLOCKS[1]).digest(), planted)
    names.close()
    folders.transform()
    assert folders.file(BLOCKS[1], planted).exists()
    assert not folders.file(BLOCKS[1]).exists()
    assert folders.file(BLOCKS[2]).exists()
    assert index.known_names(folders.past)[hashlib.sha1(BLOCKS[1]).digest()] == planted


def test_a_damaged_block_fails_it(folders: Folders, releases: dict[int, Any]) -> None:
    """With a message that names the file and what to do."""
    name = hashlib.sha1(BLOCKS[2]).hexdigest()
    path = folders.old / "blocks" / name[:2] / name
    path.write_bytes(BLOCKS[2][:-1])
    damaged = releases[2].resolve("blockstore.block:DamagedError")
    with pytest.raises(damaged, match=f"{path} is damaged, .* put another node's copy in its place, or remove it"):
        folders.transform()


def test_what_a_crash_left_half_written_is_not_taken_for_a_block(folders: Folders) -> None:
    (folders.old / "incoming").mkdir()
    (folders.old / "incoming" / "tmp1234").write_bytes(b"half a blo")
    folders.transform()
    assert len(contents(folders.new)) == len(BLOCKS)
