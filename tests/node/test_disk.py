"""A node does not go away for an upgrade that its disk has no room for, and says how much is missing where."""

import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from segue.model.ids import Version
from segue.node.disk import NoRoomError, check_disk, size_on_disk
from segue.node.transform_process import TransformTask

MIB = 1 << 20


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.fixture
def task(tmp_path: Path) -> TransformTask:
    """A task whose old state takes 8 MiB and whose simulation's takes 2."""
    for name, size_bytes in (("old", 8 * MIB), ("simulation", 2 * MIB)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(bytes(size_bytes))
    return TransformTask(
        function="notes:transform", release=tmp_path, version=Version(2), previous=tmp_path,
        previous_version=Version(1), old=tmp_path / "old", simulation=tmp_path / "simulation",
    )  # fmt: skip


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the disk has free, in MiB."""
    free = [0]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(0, 0, free[0] * MIB))
    return free


@pytest.mark.parametrize(("share", "needed"), [(1.0, 10 + 5), (0.1, 1 + 5), (0, 5), (2, 20 + 5)])
def test_the_room_is_a_share_of_the_state_and_the_reserve(
    share: float, needed: int, task: TransformTask, free: list[int], tmp_path: Path
) -> None:
    task = replace(task, disk=share)
    free[0] = needed + 1
    state_bytes = check_disk(task, making=tmp_path, reserve_mib=5)
    assert 10 * MIB <= state_bytes < 10.1 * MIB
    free[0] = needed - 1
    roughly = f"({needed}|{needed + 1})"  # folders take some room too
    said = rf"{re.escape(str(tmp_path))} has {needed - 1} MiB free, .* version 2 needs {roughly}: .*; make room there"
    with pytest.raises(NoRoomError, match=said):
        check_disk(task, making=tmp_path, reserve_mib=5)


def test_a_size_that_is_known_is_not_measured_again(task: TransformTask, free: list[int], tmp_path: Path) -> None:
    """In the pause, a walk through the state would be felt."""
    shutil.rmtree(task.old)
    free[0] = 20
    assert check_disk(task, making=tmp_path, reserve_mib=5, state_bytes=15 * MIB) == 15 * MIB
    with pytest.raises(NoRoomError):
        check_disk(task, making=tmp_path, reserve_mib=5, state_bytes=16 * MIB)


def test_a_file_with_two_names_counts_once_and_what_is_not_there_nothing(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/file").write_bytes(bytes(MIB))
    before = size_on_disk(tmp_path)
    os.link(tmp_path / "deep/file", tmp_path / "other")
    os.symlink("nowhere", tmp_path / "link")
    assert size_on_disk(tmp_path) == before
    assert size_on_disk(tmp_path / "nowhere") == 0
