"""The kinds of columns, each the same on this side whichever database is behind it."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, String, Text, TypeDecorator

#: Stands in PostgreSQL before `_NUL` for the character 0, which it cannot keep, and before `_ITSELF` for itself.
_ESCAPE, _NUL, _ITSELF = "\x1b", "0", "1"

#: A name: ordered by its bytes, as Python does, whatever order the database's owner chose.
Name = String().with_variant(String(collation="C"), "postgresql")
#: A number up to 2^63 - 1.
Big = BigInteger().with_variant(Integer, "sqlite")
#: JSON, or what else has no character 0 in it.
Document = Text()


def as_utc(at: datetime) -> datetime:
    """Return a time that a database gave as aware UTC."""
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


class UtcTime(TypeDecorator[datetime]):
    """A time, aware and UTC on this side; SQLite has no zones, so there it is UTC by this rule."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Turn an aware time into UTC."""
        if value is None:
            return None
        assert value.tzinfo is not None, f"{value!r} has no time zone: store aware times only"
        return value.astimezone(UTC)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give back a time as aware UTC."""
        if value is None:
            return None
        assert isinstance(value, datetime)
        return as_utc(value)


class Words(TypeDecorator[str]):
    """Any text, ordered as a `Name` is; somebody's error may well have the character 0 in it."""

    impl = Name
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Write the character 0 as PostgreSQL can keep it."""
        if value is None or dialect.name != "postgresql" or not (_ESCAPE in value or "\0" in value):
            return value
        return value.replace(_ESCAPE, _ESCAPE + _ITSELF).replace("\0", _ESCAPE + _NUL)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> str | None:
        """Give back what was written."""
        if value is None or dialect.name != "postgresql" or _ESCAPE not in value:
            return value
        return str(value).replace(_ESCAPE + _NUL, "\0").replace(_ESCAPE + _ITSELF, _ESCAPE)
