"""Transforms and copies of the same data: both are there in the end, and what is compared is each round's own."""

import hashlib
import random
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from benchmarks.transforms import (
    Amount,
    NoRoomError,
    Round,
    check_room,
    copy_state,
    make_state,
    measure_transforms,
    transform_figures,
    transform_state,
)

SMALL = Amount(files=30, database_mib=1, rounds=1)


@pytest.mark.end_to_end
@pytest.mark.alone
@pytest.mark.timeout(120)
async def test_files_are_transformed_and_copied(tmp_path: Path) -> None:
    """Each has its checksum in front, and the copy is as it was."""
    make_state("files", tmp_path, SMALL)
    assert await transform_state("files", tmp_path) > 0
    copied_s, synced_s = copy_state("files", tmp_path)
    assert 0 < copied_s <= synced_s
    files = [path.relative_to(tmp_path / "old") for path in (tmp_path / "old").rglob("*") if path.is_file()]
    assert len(files) == SMALL.files
    for path in files:
        data = (tmp_path / "old" / path).read_bytes()
        assert 4 << 10 <= len(data) <= 64 << 10
        assert (tmp_path / "copy" / path).read_bytes() == data
        assert (tmp_path / "states" / "2" / "object" / path).read_bytes() == hashlib.sha256(data).digest() + data


@pytest.mark.end_to_end
@pytest.mark.alone
@pytest.mark.timeout(120)
async def test_a_database_is_transformed_and_copied(tmp_path: Path) -> None:
    """Each row has its size, and the copy is as it was."""
    make_state("sqlite", tmp_path, SMALL)
    assert await transform_state("sqlite", tmp_path) > 0
    copy_state("sqlite", tmp_path)
    assert (tmp_path / "old" / "blocks.db").stat().st_size == pytest.approx(1 << 20, rel=0.05)
    rows = asked(tmp_path / "old", "SELECT id, data FROM blocks")
    assert asked(tmp_path / "copy", "SELECT id, data FROM blocks") == rows
    made = asked(tmp_path / "states" / "2" / "object", "SELECT id, data, size FROM blocks")
    assert made == [(number, data, 1000) for number, data in rows]


@pytest.mark.end_to_end
@pytest.mark.alone
@pytest.mark.timeout(120)
async def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each kind has figures, and its folder goes."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ticks: list[None] = []
    figures = await measure_transforms(SMALL, random.Random(1), lambda: ticks.append(None))
    assert figures.keys() == {"files", "sqlite"}
    assert len(ticks) == 2
    assert not list(tmp_path.iterdir())


def asked(folder: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(folder / "blocks.db")) as connection:
        return connection.execute(sql).fetchall()


def test_a_disk_without_room_is_said_before(tmp_path: Path) -> None:
    """With what to do."""
    check_room(tmp_path, SMALL)
    with pytest.raises(NoRoomError, match="MiB free, and 4398046511104 are needed: set TMPDIR"):
        check_room(tmp_path, Amount(files=1, database_mib=2**40, rounds=1))


def test_each_round_is_compared_with_its_own_copy() -> None:
    """A round in which the machine was slow counts as any other."""
    rounds = [
        Round(transform_s=transform_s, copy_s=copy_s, unsynced_s=copy_s / 2)
        for transform_s, copy_s in ((3.0, 2.0), (30.0, 20.0), (4.0, 2.0))
    ]
    found = transform_figures(rounds, 1 << 20)
    assert (found.median_ms, found.copy_ms, found.unsynced_copy_ms) == (4000, 2000, 1000)
    assert (found.ratio, found.ratio_low, found.ratio_high, found.ratio_to_unsynced) == (1.5, 1.5, 2.0, 3.0)
    assert (found.state_mib, found.rounds) == (1.0, 3)
