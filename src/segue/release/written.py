"""The values of a schedule as an author writes them: each is kept as it is written, once it was understood."""

import re
from datetime import date, datetime
from typing import Annotated, Any, TypeAlias
from urllib.parse import urlsplit

from pydantic import PlainValidator

from segue.model.amount import Percent, amount
from segue.model.hours import days_named, hours_named, zone_named
from segue.model.ids import NAME_PATTERN
from segue.release.section import DURATION_PATTERN, LONGEST_S, seconds

#: The longest URL that every server takes.
_URL_LIMIT_CHARS = 2000
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


def _amount(given: Any) -> int | str:
    amount(given)
    kept: int | str = given
    return kept


def _nodes(given: Any) -> int | str | list[str]:
    if not isinstance(given, list):
        return _amount(given)
    if not given or len(set(map(str, given))) < len(given):
        raise ValueError(given)
    if not all(isinstance(name, str) and re.fullmatch(NAME_PATTERN, name) for name in given):
        raise ValueError(given)
    return given


def _sizes(given: Any) -> list[int | str]:
    if not isinstance(given, list) or not given:
        raise ValueError(given)
    amounts = [amount(one) for one in given]
    values = [one.value if isinstance(one, Percent) else one for one in amounts]
    if len({type(one) for one in amounts}) > 1 or sorted(set(values)) != values:
        raise ValueError(given)
    return list(given)


def _limits(given: Any) -> int | str | dict[str, int | str]:
    if not isinstance(given, dict):
        return _amount(given)
    if not given:
        raise ValueError(given)
    for one in given.values():
        amount(one)
    return dict(given)


def _soak(duration: Any) -> str:
    if not isinstance(duration, str) or not re.fullmatch(DURATION_PATTERN, duration):
        raise ValueError(duration)
    if seconds(duration) > LONGEST_S:
        raise ValueError(duration)
    return duration


def _positive(duration: Any) -> str:
    if seconds(_soak(duration)) == 0:
        raise ValueError(duration)
    return str(duration)


def _deadline(given: Any) -> str:
    """Take a duration, or a moment with its offset: as TOML has it, or as text."""
    if isinstance(given, str) and given[:1].isdigit() and "T" not in given:
        return _positive(given)
    moment = given if isinstance(given, datetime) else datetime.fromisoformat(str(given))
    if moment.tzinfo is None:
        raise ValueError(given)
    return moment.isoformat()


def _day(given: Any) -> str:
    if isinstance(given, datetime) or not isinstance(given, date | str):
        raise ValueError(given)
    return (given if isinstance(given, date) else date.fromisoformat(given)).isoformat()


def _zone(given: Any) -> str:
    return str(zone_named(given))


def _days(given: Any) -> str | list[str]:
    days_named(given)
    kept: str | list[str] = given
    return kept


def _hours(given: Any) -> str:
    hours_named(given)
    return str(given)


def _url(given: Any) -> str:
    parts = urlsplit(given) if isinstance(given, str) and len(given) <= _URL_LIMIT_CHARS else urlsplit("")
    safe = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)
    if not (safe and parts.hostname and parts.username is None and re.fullmatch(r"[!-~]+", str(given))):
        raise ValueError(given)
    return str(given)


def _gate(given: Any) -> str:
    if isinstance(given, str) and re.fullmatch(NAME_PATTERN, given):
        return given
    return _url(given)


WrittenAmount: TypeAlias = Annotated[int | str, PlainValidator(_amount)]
WrittenNodes: TypeAlias = Annotated[int | str | list[str], PlainValidator(_nodes)]
WrittenSizes: TypeAlias = Annotated[list[int | str], PlainValidator(_sizes)]
WrittenLimits: TypeAlias = Annotated[int | str | dict[str, int | str], PlainValidator(_limits)]
WrittenSoak: TypeAlias = Annotated[str, PlainValidator(_soak)]
WrittenSpan: TypeAlias = Annotated[str, PlainValidator(_positive)]
WrittenDeadline: TypeAlias = Annotated[str, PlainValidator(_deadline)]
WrittenDay: TypeAlias = Annotated[str, PlainValidator(_day)]
WrittenZone: TypeAlias = Annotated[str, PlainValidator(_zone)]
WrittenDays: TypeAlias = Annotated[str | list[str], PlainValidator(_days)]
WrittenHours: TypeAlias = Annotated[str, PlainValidator(_hours)]
WrittenGate: TypeAlias = Annotated[str, PlainValidator(_gate)]
