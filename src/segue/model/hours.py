"""Hours of the week and days of the year in a place's own time, and when they begin and end for all the world.

A window or a freeze begins the first time that a clock on the wall shows its beginning or a later time, and ends the
first time after that that it shows its end or later. So an hour that the clock goes through twice counts as one window
that is an hour longer, or ends the first time; and what falls into an hour that the clock leaves out begins or ends
when the clock goes on.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_HOURS = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-(?:([01][0-9]|2[0-3]):([0-5][0-9])|24:00)", re.ASCII)
_DAY = timedelta(days=1)
#: Windows come back each week; a day more on either side, since zones differ by more than a day.
_AHEAD_DAYS = 9


def zone_named(name: str) -> ZoneInfo:
    """Return the zone of this IANA name, such as `Europe/Berlin`.

    Raises:
        ValueError: there is none.
    """
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError) as error:  # ZoneInfoNotFoundError is a KeyError
        raise ValueError(f"{name!r} is no time zone") from error


def days_named(given: object) -> tuple[int, ...]:
    """Take days of the week, `["mon", "sat-sun"]` or `"mon-fri"`, as numbers from Monday, which is 0.

    Raises:
        ValueError: one is no day, or there is none.
    """
    parts = [given] if isinstance(given, str) else given
    if not isinstance(parts, list | tuple) or not parts:
        raise ValueError(f"{given!r} are no days")
    days: set[int] = set()
    for part in parts:
        first, dash, last = part.partition("-") if isinstance(part, str) else ("", "", "")
        if first not in DAYS or (dash and last not in DAYS):
            raise ValueError(f"{part!r} is no day")
        begin = DAYS.index(first)
        length = (DAYS.index(last) - begin) % 7 if dash else 0
        days.update((begin + number) % 7 for number in range(length + 1))
    return tuple(sorted(days))


def hours_named(given: object) -> tuple[time, time]:
    """Take hours such as `"22:00-06:00"`: from the first until just before the second, the next day if it is no later.

    Raises:
        ValueError: they are no such hours, or none at all.
    """
    found = _HOURS.fullmatch(given) if isinstance(given, str) else None
    if found is None:
        raise ValueError(f"{given!r} are no hours")
    begin = time(int(found[1]), int(found[2]))
    end = time(int(found[3]), int(found[4])) if found[3] else time(0)
    if begin == end and found[3]:
        raise ValueError(f"{given!r} are no hours: leave them out for the whole day")
    return begin, end


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Hours in which nodes may go.

    Attributes:
        zone: whose clock it is.
        days: on which it begins, as numbers from Monday, which is 0.
        begin: when it begins on each of them.
        end: when it ends; the next day, if that is no later than `begin`.
    """

    zone: ZoneInfo
    days: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)
    begin: time = time(0)
    end: time = time(0)

    def intervals(self, around: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Yield the times (UTC) that are open, oldest first: those around a moment, and at least the next after it."""
        today = around.astimezone(self.zone).date()
        for number in range(-2, _AHEAD_DAYS):
            day = today + number * _DAY
            if day.weekday() in self.days:
                until = day if self.end > self.begin else day + _DAY
                begin, end = moment_of(day, self.begin, self.zone), moment_of(until, self.end, self.zone)
                if begin < end:
                    yield begin, end


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """Days in which no node may go.

    Attributes:
        zone: whose days they are.
        first: the first of them.
        last: the last of them.

    Raises:
        ValueError: the last comes before the first.
    """

    zone: ZoneInfo
    first: date
    last: date

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise ValueError(f"a freeze from {self.first} to {self.last} ends before it begins")

    @property
    def interval(self) -> tuple[datetime, datetime]:
        """When it begins and ends (UTC)."""
        return moment_of(self.first, time(0), self.zone), moment_of(self.last + _DAY, time(0), self.zone)


def moment_of(day: date, at: time, zone: ZoneInfo) -> datetime:
    """Return the first moment (UTC) at which the zone's clock shows this time of this day, or a later one."""
    local = datetime.combine(day, at, tzinfo=zone)
    moment = local.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return moment
    # The clock leaves it out: `moment` is after the change, and the other reading of the time is before it.
    before, after = local.replace(fold=1).astimezone(UTC), moment
    offset = after.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) // 2
        middle = middle.replace(microsecond=0)
        if middle.astimezone(zone).utcoffset() == offset:
            after = middle
        else:
            before = middle
    return after


def closed_by_freeze(freezes: tuple[Freeze, ...], now: datetime) -> datetime | None:
    """Return when the freeze ends that `now` is in, the latest if several; None if it is in none."""
    ends = [end for begin, end in (freeze.interval for freeze in freezes) if begin <= now < end]
    return max(ends, default=None)


def is_open(windows: tuple[Window, ...], now: datetime) -> bool:
    """Say whether `now` is in one of the windows; without any, it is always open."""
    return not windows or any(begin <= now < end for window in windows for begin, end in window.intervals(now))


def opens_at(windows: tuple[Window, ...], freezes: tuple[Freeze, ...], now: datetime) -> datetime | None:
    """Return the first moment (UTC) from `now` on that is in a window and in no freeze; None if none is found."""
    at = now
    for _ in range(2 * len(freezes) + 2):
        frozen_until = closed_by_freeze(freezes, at)
        if frozen_until is not None:
            at = frozen_until
        elif is_open(windows, at):
            return at
        else:
            begins = [begin for window in windows for begin, _ in window.intervals(at) if begin > at]
            if not begins:
                return None
            at = min(begins)
    return None
