"""What all tables of a manifest are made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from segue.model.ids import NAME_PATTERN

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
#: Ten years: a time later than the year 9999 cannot be told.
LONGEST_S = 3660 * 86400.0
DURATION_PATTERN = r"[0-9]{1,9}(ms|s|m|h|d)"
_REFERENCE_PATTERN = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*"

Name = Annotated[str, Field(pattern=f"^{NAME_PATTERN}$")]
Reference = Annotated[str, Field(pattern=f"^{_REFERENCE_PATTERN}$")]
#: The upgrade server keeps it in a database column, hence the upper end.
WholeNumber = Annotated[int, Field(ge=1, le=2**31 - 1)]

NAME = "1 to 63 letters, digits, dots, dashes or underscores, a letter or digit first"
CODE = "MODULE:NAME in this release, such as"
DURATION = 'a duration such as "500ms", "30s", "5m", "2h" or "1d", at most "3660d"'


class Section(BaseModel):
    """What all tables of a manifest share: frozen, no unknown keys, no silent conversions.

    `model_dump_json` and `model_validate_json` are each other's inverse.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


def seconds(duration: str) -> float:
    """Return how many seconds a duration lasts, which is as `DURATION_PATTERN` says."""
    number = duration.rstrip("smhd")
    return int(number) * _SECONDS[duration.removeprefix(number)]
