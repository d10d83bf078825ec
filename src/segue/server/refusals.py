"""What the server refuses with which HTTP status, and how a wrong field is told in one line."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from segue.errors import OperatorError, PeerError, ReleaseError, SegueError, TrustError
from segue.model.ids import CONTENT_HASH_PATTERN, NAME_PATTERN
from segue.wire.messages import Refusal

Family: TypeAlias = Literal["release", "trust", "operator", "peer"]


class NotThereError(OperatorError):
    """What was asked for is not in the upgrade database."""


class ConflictError(OperatorError):
    """The request does not fit what the upgrade database says."""


class HistoryError(ReleaseError):
    """The release does not fit its system's history."""


#: The first line that fits an error counts.
_STATUS: tuple[tuple[type[SegueError], Family, int], ...] = (
    (NotThereError, "operator", 404),
    (ConflictError, "operator", 409),
    (HistoryError, "release", 409),
    (ReleaseError, "release", 422),
    (TrustError, "trust", 422),
    (OperatorError, "operator", 422),
    (PeerError, "peer", 503),
)

#: What a pattern of the wire means, for people.
_PATTERNS = {
    f"^{NAME_PATTERN}$": "should be 1 to 63 letters, digits, dots, dashes or underscores, a letter or digit first",
    f"^{CONTENT_HASH_PATTERN}$": "should be 64 hexadecimal digits in lower case",
}
#: Wrong fields that one refusal names; of the others it gives the number.
_NAMED_FIELDS = 3
_VALUE_LIMIT_CHARS = 60


def unknown_system(system: str) -> NotThereError:
    """Return the refusal of what is asked of a system that nobody published for, and no node of which reported."""
    return NotThereError(f"no system {system} is known here: publish its first release, or check the name")


def refusal_of(error: SegueError) -> tuple[int, Refusal]:
    """Return the HTTP status that goes with `error`, and what the body says."""
    for kind, family, status in _STATUS:
        if isinstance(error, kind):
            return status, Refusal(family=family, message=str(error))
    raise AssertionError(f"{error!r} is of no family")


def wrong_fields(errors: Sequence[Mapping[str, Any]]) -> str:
    """Say in one line which fields are wrong, what they are, and what was expected.

    Args:
        errors: as pydantic lists them, each with `loc`, `type`, `msg`, `input` and perhaps `ctx`.
    """
    told = [_wrong_field(error) for error in errors[:_NAMED_FIELDS]]
    more = len(errors) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more else "")


def _wrong_field(error: Mapping[str, Any]) -> str:
    context = error.get("ctx", {})
    name = _name(error["loc"])
    match error["type"]:
        case "json_invalid":
            return f"the body is not JSON: {context.get('error', 'it cannot be read')}"
        case "missing":
            return f"{name} is missing: it must be given"
        case "string_pattern_mismatch":
            expected = _PATTERNS.get(context["pattern"], f"should match {context['pattern']}")
        case _:
            expected = error["msg"].removeprefix("Input ")
            expected = expected[:1].lower() + expected[1:]
    return f"{name} is {_shortened(error['input'])}: {expected}"


def _name(place: Sequence[str | int]) -> str:
    """Turn `("body", "usage", 0, "count")` into `usage[0].count`."""
    source, *path = place
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
    if source == "body":
        return text or "the body"
    return f"{source} parameter {text}"


def _shortened(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= _VALUE_LIMIT_CHARS else f"{text[:_VALUE_LIMIT_CHARS]}…"
