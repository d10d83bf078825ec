"""What it means when uv has failed: who must act, and in which line of the lock.

uv has no codes for its failures, only words and two statuses: 1 where it found that the requirements cannot be
fulfilled, 2 where it could not find out. Words change between versions of uv: those that are not known here count
as its status says.
"""

import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segue.errors import OperatorError, PeerError, ReleaseError, SegueError, is_passing
from segue.release.requirements import Requirement, normal_name

_FOUND_IMPOSSIBLE = 1
#: Of what uv said, so much is in the message; the details have it whole.
_SUMMARY_LIMIT = 500

_AUTHENTICATION = re.compile(r"401 Unauthorized|403 Forbidden|407 Proxy|valid authentication credentials")
_NETWORK = re.compile(
    r"Failed to fetch|Request failed|error sending request|HTTP status|network timeout|operation timed out|"
    r"connection (?:reset|closed)|dns error"
)
_NO_NETWORK_BY_ORDER = re.compile(r"network was disabled|network connectivity is disabled|not found in the cache")
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_OPERATORS = {errno.EACCES, errno.EPERM, errno.EROFS}


class RequirementsError(ReleaseError):
    """What a release requires cannot be installed, here or on any node like this one.

    Args:
        message: one line.
        details: all that uv said.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class NotInstalledError(PeerError):
    """What a release requires could not be installed this time.

    Args:
        message: one line.
        details: all that uv said.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message, retry_after_s=10.0)
        self.details = details


class OperatorMustActError(OperatorError):
    """What a release requires cannot be installed until this machine's owner has acted.

    Args:
        message: one line.
        details: all that uv said.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """How one run of uv ended.

    Attributes:
        status: its exit status; negative if a signal killed it.
        said: what it said.
        offline: True if it was told to use no network.
    """

    status: int
    said: str
    offline: bool


def failure(
    attempt: Attempt, from_bundle: Attempt | None, lock: Path, requirements: Sequence[Requirement]
) -> SegueError:
    """Return the error that a failed run of uv stands for.

    Args:
        attempt: the run, as the operator says where to install from.
        from_bundle: the run before it with the bundle's wheels alone; None if there are none.
        lock: the lock that was installed.
        requirements: what it says.

    Returns:
        A `RequirementsError` (a `ReleaseError`) if another attempt cannot do better, an `OperatorError` or
        `PeerError` if it may.
    """
    said = attempt.said
    at, what = _where(said, lock, requirements), _summary(said)
    details = said if from_bundle is None else f"with the bundle's wheels:\n{from_bundle.said}\n\nthen:\n{said}"
    wheels = "" if from_bundle is None else f" (its wheels do not do: {_summary(from_bundle.said)})"
    numbers = {int(number) for number in _OS_ERROR.findall(said)}
    if attempt.status < 0:
        return NotInstalledError(f"{at}: uv was killed by signal {-attempt.status}", details)
    if numbers & _OPERATORS:
        return OperatorMustActError(f"{at}: {what}: let the node's user read and write there", details)
    if any(is_passing(OSError(number, "")) for number in numbers):
        return NotInstalledError(f"{at}: {what}: the machine could not; it is tried again", details)
    if _AUTHENTICATION.search(said):
        return OperatorMustActError(f"{at}: {what}: give the agent what the index asks for, as uv takes it", details)
    if _NO_NETWORK_BY_ORDER.search(said) and (attempt.offline or "network" in said):
        return OperatorMustActError(
            f"{at}: {what}: this node uses no network{wheels}: publish the release with a wheel for this machine in "
            "wheels/, or start the agent without --offline and UV_OFFLINE",
            details,
        )
    if _NETWORK.search(said):
        return NotInstalledError(f"{at}: {what}: the index cannot be used now{wheels}; it is tried again", details)
    if attempt.status == _FOUND_IMPOSSIBLE:
        return RequirementsError(f"{at}: {what}; correct the lock, or ship a wheel for this machine", details)
    return NotInstalledError(f"{at}: uv could not do its work: {what}; it is tried again", details)


def _where(said: str, lock: Path, requirements: Sequence[Requirement]) -> str:
    """Return `FILE:LINE` of the first requirement that uv named, the file alone if none."""
    named = set()
    # uv breaks lines where it finds a terminal's width, or what it takes for one.
    for name in re.findall(r"`([\w.-]+)==|require\s+([\w.-]+)==|/([\w.-]+)/(?:\)|\s|$)", said):
        named |= {normal_name(part) for part in name if part}
    for requirement in requirements:
        if requirement.name in named:
            return f"{lock}:{requirement.line}: {requirement}"
    return str(lock)


def _summary(said: str) -> str:
    """Return what uv said from its first error on, in one line."""
    _, found, error = f"\n{said}".partition("\nerror: ")
    joined = re.sub(r"\s*\nhint: ", "; hint: ", re.sub(r"\n  cause: ", ": ", error if found else said))
    text = " ".join(joined.split())
    return text[:_SUMMARY_LIMIT] or "it said nothing"
