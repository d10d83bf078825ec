"""Times and lists of names, as the server says them to people."""

from collections.abc import Iterable
from datetime import UTC, datetime

#: Names that are listed one by one; of the others the number is given.
_NAMED = 6


def moment(at: datetime, now: datetime) -> str:
    """Return a time in UTC, without the day if that is today's."""
    at, now = at.astimezone(UTC), now.astimezone(UTC)
    return f"{at:%H:%M:%S} UTC" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M:%S} UTC"


def named(names: Iterable[str], limit: int = _NAMED) -> str:
    """Return the first names, and how many more there are."""
    listed = list(names)
    rest = len(listed) - limit
    return ", ".join(listed[:limit]) + (f" and {rest} more" if rest > 0 else "")


def counted(count: int, noun: str) -> str:
    """Return how many there are, such as `1 node` or `2,000 nodes`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
