"""The rule: a window is open while a clock on the wall there says so, also when that clock is set."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.model.hours import (
    Freeze,
    Window,
    closed_by_freeze,
    days_named,
    hours_named,
    is_open,
    moment_of,
    opens_at,
    zone_named,
)

BERLIN, NEW_YORK, KOLKATA = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), ZoneInfo("Asia/Kolkata")
LORD_HOWE, APIA = ZoneInfo("Australia/Lord_Howe"), ZoneInfo("Pacific/Apia")
STEADY = settings(derandomize=True, deadline=None, max_examples=150)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def window(hours: str, days: str = "mon-sun", zone: ZoneInfo = BERLIN) -> Window:
    begin, end = hours_named(hours)
    return Window(zone=zone, days=days_named(days), begin=begin, end=end)


@pytest.mark.parametrize(
    ("zone", "day", "at", "moment"),
    [
        (BERLIN, "2026-07-01", time(2, 30), "2026-07-01 00:30"),
        (BERLIN, "2026-03-29", time(2, 30), "2026-03-29 01:00"),  # the clock goes from 2 to 3
        (BERLIN, "2026-03-29", time(3), "2026-03-29 01:00"),
        (BERLIN, "2026-10-25", time(2, 30), "2026-10-25 00:30"),  # the first of two
        (BERLIN, "2026-10-25", time(3), "2026-10-25 02:00"),
        (NEW_YORK, "2026-03-08", time(2, 1), "2026-03-08 07:00"),
        (NEW_YORK, "2026-11-01", time(1, 30), "2026-11-01 05:30"),
        (LORD_HOWE, "2026-10-04", time(2, 15), "2026-10-03 15:30"),  # half an hour only
        (APIA, "2011-12-30", time(12), "2011-12-30 10:00"),  # a day that never was
        (KOLKATA, "2026-03-29", time(2, 30), "2026-03-28 21:00"),
    ],
)
def test_the_first_moment_at_which_a_clock_shows_a_time(zone: ZoneInfo, day: str, at: time, moment: str) -> None:
    assert moment_of(date.fromisoformat(day), at, zone) == utc(moment)


@pytest.mark.parametrize(
    ("hours", "days", "now", "opened"),
    [
        ("22:00-06:00", "mon-sun", "2026-07-01 20:00", True),
        ("22:00-06:00", "mon-sun", "2026-07-01 19:59", False),
        ("22:00-06:00", "mon-sun", "2026-07-01 03:59", True),
        ("22:00-06:00", "mon-sun", "2026-07-01 04:00", False),
        ("22:00-06:00", "fri", "2026-07-03 23:00", True),  # until Saturday's morning
        ("22:00-06:00", "fri", "2026-07-04 03:00", True),
        ("22:00-06:00", "fri", "2026-07-04 20:30", False),
        ("00:00-24:00", "sat-sun", "2026-07-04 21:59", True),
        ("00:00-24:00", "sat-sun", "2026-07-05 22:00", False),
        # The hour that is left out: open from when the clock goes on.
        ("02:15-02:45", "mon-sun", "2026-03-29 01:10", False),
        ("02:15-04:00", "mon-sun", "2026-03-29 00:59", False),
        ("02:15-04:00", "mon-sun", "2026-03-29 01:00", True),
        ("02:15-04:00", "mon-sun", "2026-03-29 02:00", False),
        # The hour that comes twice: one window of two hours, and one that ends the first time.
        ("02:00-03:00", "mon-sun", "2026-10-25 01:30", True),
        ("01:00-02:30", "mon-sun", "2026-10-25 00:29", True),
        ("01:00-02:30", "mon-sun", "2026-10-25 01:10", False),
    ],
)
def test_open_or_not(hours: str, days: str, now: str, opened: bool) -> None:
    assert is_open((window(hours, days),), utc(now)) is opened


def test_several_windows_are_open_when_one_is() -> None:
    two = (window("01:00-02:00"), window("12:00-13:00"))
    assert is_open(two, utc("2026-07-01 10:30"))
    assert not is_open(two, utc("2026-07-01 12:30"))
    assert opens_at(two, (), utc("2026-07-01 12:30")) == utc("2026-07-01 23:00")


def test_without_windows_it_is_always_open() -> None:
    assert is_open((), utc("2026-07-01 10:30"))


def test_a_freeze_takes_whole_days_of_its_zone() -> None:
    freeze = (Freeze(zone=BERLIN, first=date(2026, 12, 20), last=date(2027, 1, 6)),)
    assert closed_by_freeze(freeze, utc("2026-12-19 22:59")) is None
    assert closed_by_freeze(freeze, utc("2026-12-19 23:00")) == utc("2027-01-06 23:00")
    assert closed_by_freeze(freeze, utc("2027-01-06 22:59")) == utc("2027-01-06 23:00")
    assert closed_by_freeze(freeze, utc("2027-01-06 23:00")) is None


def test_after_a_freeze_the_next_window_is_waited_for() -> None:
    freezes = (
        Freeze(zone=BERLIN, first=date(2026, 12, 20), last=date(2027, 1, 6)),
        Freeze(zone=BERLIN, first=date(2027, 1, 7), last=date(2027, 1, 9)),
    )
    night = (window("22:00-06:00", "mon-fri"),)
    assert opens_at(night, freezes, utc("2026-12-21 00:00")) == utc("2027-01-11 21:00")


@pytest.mark.parametrize(
    ("given", "days"),
    [("mon-fri", (0, 1, 2, 3, 4)), ("sat-mon", (0, 5, 6)), (["tue", "thu-fri"], (1, 3, 4)), ("sun", (6,))],
)
def test_days(given: object, days: tuple[int, ...]) -> None:
    assert days_named(given) == days


@pytest.mark.parametrize("given", ["", "monday", "mon-", "-mon", [], [1], 3, None])
def test_what_are_no_days(given: object) -> None:
    with pytest.raises(ValueError, match="no day"):
        days_named(given)


@pytest.mark.parametrize("given", ["22-06", "24:00-01:00", "10:00-10:00", "1:00-2:00", "10:00-11:60", 10, ""])
def test_what_are_no_hours(given: object) -> None:
    with pytest.raises(ValueError, match="no hours"):
        hours_named(given)


@pytest.mark.parametrize("name", ["Europe/Bielefeld", "", "../../etc/passwd", "/etc/passwd", "Europe"])
def test_what_is_no_zone(name: str) -> None:
    with pytest.raises(ValueError, match="no time zone"):
        zone_named(name)


def test_a_freeze_ends_after_it_begins() -> None:
    with pytest.raises(ValueError, match="ends before it begins"):
        Freeze(zone=BERLIN, first=date(2026, 12, 20), last=date(2026, 12, 19))


@STEADY
@given(
    zone=st.sampled_from([BERLIN, NEW_YORK, KOLKATA, LORD_HOWE, APIA]),
    days=st.sets(st.integers(0, 6), min_size=1),
    begin=st.integers(0, 95),
    length=st.integers(1, 95),
    frozen=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5)), max_size=2),
    now=st.integers(0, 60 * 24 * 365),
)
def test_what_is_said_to_open_does_and_not_before(
    zone: ZoneInfo, days: set[int], begin: int, length: int, frozen: list[tuple[int, int]], now: int
) -> None:
    """For a year of minutes that has changes of clocks in all these zones: Samoa left out a day in 2011."""
    at = datetime(2011, 1, 1, tzinfo=UTC) + timedelta(minutes=now)
    times = [time(quarter // 4, quarter % 4 * 15) for quarter in (begin, (begin + length) % 96)]
    windows = (Window(zone=zone, days=tuple(sorted(days)), begin=times[0], end=times[1]),)
    freezes = tuple(
        Freeze(zone=zone, first=at.date() + timedelta(days=after), last=at.date() + timedelta(days=after + more))
        for after, more in frozen
    )

    def is_time(moment: datetime) -> bool:
        return is_open(windows, moment) and closed_by_freeze(freezes, moment) is None

    opened = opens_at(windows, freezes, at)
    assert opened is not None
    assert opened >= at
    assert is_time(opened)
    if opened > at:
        assert not is_time(at)
        assert not is_time(opened - timedelta(seconds=1))
        hours = int((opened - at).total_seconds() // 3600)
        assert not any(is_time(at + timedelta(hours=hour)) for hour in range(hours))
