"""The order of system calls is told from a trace, and what is out of order is found."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from segue import journey
from segue.model.ids import ContentHash, Version
from segue.model.release import Announcement
from segue.testing.crashing.disk import faults
from segue.testing.crashing.system_calls import read

STATE = Path("/node")
LEARNED = journey.Learned(release=Announcement(version=Version(1), sha256=ContentHash("a" * 64), size_bytes=1))
NOW = datetime(2030, 1, 1, tzinfo=UTC)

#: A folder is made with a file in it, put in its place, and told of in the journal.
IN_ORDER = """\
7 mkdir("/node/making/2-x", 0700) = 0
7 openat(AT_FDCWD</>, "/node/making/2-x/file", O_WRONLY|O_CREAT|O_TRUNC|O_CLOEXEC, 0666) = 3</node/making/2-x/file>
7 write(3</node/making/2-x/file>, "con)tent = 1", 12) = 12
7 fsync(3</node/making/2-x/file>) = 0
7 fsync(4</node/making/2-x>) = 0
7 rename("/node/making/2-x", "/node/states/2") = 0
7 fsync(5</node/states>) = 0
7 write(9</node/journal.jsonl>, "{\\"event\\": \\"Learned\\"}\\n", 21) = 21
7 fsync(9</node/journal.jsonl>) = 0
7 mkdir("/node/making/3-x", 0700) = 0
"""


def found(trace: str) -> list[str]:
    return list(faults(read(trace.splitlines()), STATE, 0, [LEARNED]))


def test_what_is_in_order() -> None:
    assert found(IN_ORDER) == []


@pytest.mark.parametrize(
    ("missing", "fault"),
    [
        ("3</node/making/2-x/file>) = 0", "was named before the content of /node/making/2-x/file was on disk"),
        ("4</node/making/2-x>) = 0", "was named before the name of /node/making/2-x/file was on disk"),
        ("5</node/states>) = 0", "Learned came to the journal before the name of /node/states/2 to disk"),
        ("9</node/journal.jsonl>) = 0", "make of /node/making/3-x came before the event that led to it was on disk"),
    ],
)
def test_a_sync_that_is_missing(missing: str, fault: str) -> None:
    lines = IN_ORDER.splitlines()
    (left_out,) = (line for line in lines if line == f"7 fsync({missing}")
    wrong = found("\n".join(line for line in lines if line != left_out))
    assert any(fault in one for one in wrong), wrong


def test_a_sync_that_comes_too_late() -> None:
    """One that had not ended, or had begun before the file was written last, is none."""
    sync = "7 fsync(3</node/making/2-x/file>) = 0\n"
    rename = '7 rename("/node/making/2-x", "/node/states/2") = 0\n'
    begun, ended = "8 fsync(3</node/making/2-x/file> <unfinished ...>\n", "8 <... fsync resumed>) = 0\n"
    late = IN_ORDER.replace(sync, begun).replace(rename, rename + ended)
    assert any("the content of" in one for one in found(late))
    write = '7 write(3</node/making/2-x/file>, "con)tent = 1", 12) = 12\n'
    early = IN_ORDER.replace(sync, ended).replace(write, begun + write)
    assert any("the content of" in one for one in found(early))
    in_time = IN_ORDER.replace(sync, begun + ended)
    assert found(in_time) == []


def test_one_sync_of_all() -> None:
    """It stands for one of each."""
    kept = [line for line in IN_ORDER.splitlines() if "2-x/file>) = 0" not in line and "2-x>) = 0" not in line]
    kept.insert(3, "7 syncfs(4</node/making/2-x>) = 0")
    assert found("\n".join(kept)) == []


def test_an_old_folder_that_goes_too_early() -> None:
    """It may be put away when the journal says that the node stays on the new one."""
    gone = '7 rename("/node/states/1/object", "/node/old/1-1") = 0\n7 fsync(6</node/old>) = 0\n'
    release = Announcement(version=Version(2), sha256=ContentHash("b" * 64), size_bytes=1)
    events: list[journey.Event] = [
        LEARNED,
        journey.Fetched(),
        journey.FirstStarted(),
        journey.Learned(release=release),
        journey.Fetched(),
        journey.FutureInstalled(took_ms=1),
        journey.PermitGranted(permit="p"),
        journey.Warmed(pid=8),
        journey.Quiesced(pid=7, at=NOW),
        journey.Transformed(took_ms=1, size_bytes=1),
        journey.Started(),
        journey.HandedOver(pid=8, at=NOW),
        journey.Proven(),
    ]
    entry = '7 write(9</node/journal.jsonl>, "…", 1) = 1\n7 fsync(9</node/journal.jsonl>) = 0\n'
    for before in range(3, len(events)):
        trace = entry * before + gone
        wrong = list(faults(read(trace.splitlines()), STATE, 0, events[:before]))
        assert any("/node/states/1/object went away while" in one for one in wrong), events[before - 1]
    assert not list(faults(read((entry * len(events) + gone).splitlines()), STATE, 0, events))
