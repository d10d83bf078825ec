"""What is in the journal when `append` returns is there after a crash; what was cut short is not."""

import json
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue import journey
from segue.errors import OperatorError, PeerError
from segue.model.ids import ContentHash, Version
from segue.model.release import Announcement
from segue.node.journal import Journal, decode, encode
from segue.testing.disks import fill, small_disk

RELEASE = Announcement(version=Version(2), sha256=ContentHash("ab" * 32), size_bytes=1234)
AT = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)
EVENTS: list[journey.Event] = [
    journey.Learned(release=RELEASE),
    journey.Fetched(),
    journey.FetchFailed(reason="no room", final=False),
    journey.FutureInstalled(took_ms=12.5),
    journey.Carried(),
    journey.PermitGranted(permit="p1"),
    journey.Quiesced(pid=7, at=AT),
    journey.Transformed(took_ms=250.0, size_bytes=10_000),
    journey.HandedOver(pid=8, at=AT),
]


def announcements() -> st.SearchStrategy[Announcement]:
    return st.builds(
        Announcement,
        version=st.integers(min_value=1).map(Version),
        sha256=st.text("0123456789abcdef", min_size=64, max_size=64).map(ContentHash),
        size_bytes=st.integers(min_value=0),
    )


def events() -> st.SearchStrategy[journey.Event]:
    moments = st.datetimes(timezones=st.just(UTC))
    return st.one_of(
        st.builds(journey.Learned, release=announcements(), before=st.lists(announcements(), max_size=3).map(tuple)),
        st.builds(journey.FirstStarted, object_version=st.none() | st.integers(min_value=1).map(Version)),
        st.builds(journey.TransformFailed, reason=st.text(), final=st.booleans()),
        st.builds(journey.Quiesced, pid=st.integers(), at=moments),
        st.builds(journey.Transformed, took_ms=st.floats(allow_nan=False), size_bytes=st.integers(min_value=0)),
        st.just(journey.Committed()),
    )


@given(events())
def test_an_event_survives_the_way_to_json_and_back(event: journey.Event) -> None:
    """Every kind of value that an event holds comes back as it was."""
    assert decode(json.loads(json.dumps(encode(event)))) == event


def test_a_journal_of_an_earlier_segue_is_read() -> None:
    """What an event did not say then, it does not say now."""
    first = {"event": "Learned", "release": {"version": 1, "sha256": "ab" * 32, "size_bytes": 1234}}
    told = [decode(line) for line in (first, {"event": "Fetched"}, {"event": "FirstStarted"})]
    at, _ = journey.fold(told)
    assert (at.phase, at.version, at.past, at.carried) == (journey.Phase.SERVING, 1, (), ())


def test_events_are_read_back_in_order(tmp_path: Path) -> None:
    """A journal opened again holds what was appended, and goes on behind it."""
    journal = Journal(tmp_path / "journal")
    for event in EVENTS[:5]:
        journal.append(event)
    journal.close()
    again = Journal(tmp_path / "journal")
    for event in EVENTS[5:]:
        again.append(event)
    again.close()
    last = Journal(tmp_path / "journal")
    last.close()
    assert last.events == EVENTS


def test_a_line_that_a_crash_cut_short_never_happened(tmp_path: Path) -> None:
    """Cut the file at every byte: what is whole is read, and the next event follows it cleanly."""
    path = tmp_path / "journal"
    journal = Journal(path)
    for event in EVENTS:
        journal.append(event)
    journal.close()
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        recovered = Journal(path)
        kept = whole[:cut].count(b"\n")
        assert recovered.events == EVENTS[:kept]
        recovered.append(journey.Resumed())
        recovered.close()
        after = Journal(path)
        after.close()
        assert after.events == [*EVENTS[:kept], journey.Resumed()]


@pytest.mark.parametrize("line", ["{}", '{"event": "Nothing"}', '{"event": "Fetched", "x": 1}', "what"])
def test_a_line_that_is_no_event_is_refused_with_its_place(tmp_path: Path, line: str) -> None:
    """A journal that somebody wrote into is not guessed at."""
    path = tmp_path / "journal"
    path.write_text(f'{{"event": "Fetched"}}\n{line}\n')
    with pytest.raises(OperatorError, match="line 2"):
        Journal(path)


def test_a_disk_that_is_full_leaves_the_journal_as_it_was(tmp_path: Path) -> None:
    """And what did not go there goes there when there is room."""
    with ExitStack() as opened:
        try:
            opened.enter_context(small_disk(tmp_path, 1))
        except PermissionError as error:
            pytest.skip(str(error))
        journal = Journal(tmp_path / "journal.jsonl")
        opened.callback(journal.close)
        fill(tmp_path / "somebody's")
        events = [EVENTS[0]] * 100  # more than have room on the journal's last page
        with pytest.raises(PeerError, match="the disk is full"):
            append(journal, events)
        kept = len(journal.events)
        assert journal.events == read_back(tmp_path) == events[:kept]
        (tmp_path / "somebody's").unlink()
        journal.append(EVENTS[1])
        assert journal.events == read_back(tmp_path) == [*events[:kept], EVENTS[1]]


def append(journal: Journal, events: list[journey.Event]) -> None:
    for event in events:
        journal.append(event)


def read_back(folder: Path) -> list[journey.Event]:
    with closing(Journal(folder / "journal.jsonl")) as journal:
        return journal.events
