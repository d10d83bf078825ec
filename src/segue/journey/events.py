"""What happened to a node, in the past tense: the entries of its journal."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from segue.model.ids import Version
from segue.model.release import Announcement


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """The node heard of a release: the first it will run, or the one after the newest that it answers.

    Also what begins an attempt anew that was given up: then the release is the next one that the node answers
    already, by its future simulation.

    Attributes:
        release: what the node heard of.
        before: on a node that never ran, all releases before it, oldest first; else nothing.
    """

    release: Announcement
    before: tuple[Announcement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """Every bundle is here, whole and as published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchFailed:
    """A bundle is not here; `final` as in every failure: True if the node does not try this release again by itself."""

    reason: str
    final: bool
    details: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstStarted:
    """A node that never ran before serves.

    Attributes:
        object_version: the newest release that touches the node's class, whose code it runs; None if that is
            the release that it learned of.
    """

    object_version: Version | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstStartFailed:
    """A node that never ran before could not start; `final`: the agent ends, and does not try again by itself."""

    reason: str
    final: bool = True
    details: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FutureInstalled:
    """The running process answers the new version's calls; it took `took_ms` milliseconds."""

    took_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """The running process answers the new version's calls as it is, since the release leaves the class untouched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FutureRefused:
    """The future simulation could not be installed; the chain is as it was. `details` as elsewhere: a traceback."""

    reason: str
    final: bool
    details: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FutureLost:
    """The running process was started again, and could not have its future simulations back.

    Attributes:
        reason: for the operator.
        version: the oldest version that is not answered any more, nor is any above it; None for all futures.
    """

    reason: str
    version: Version | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RestartOrdered:
    """Somebody wants the node's process replaced by a new one of the same release."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryOrdered:
    """Somebody wants the node to try once more what it has given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitGranted:
    """The node may go away now.

    Attributes:
        permit: the permit's id.
        to_version: the newest version that it may go to; None for the next one.
    """

    permit: str
    to_version: Version | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmed:
    """The new process, `pid`, waits for its state."""

    pid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmFailed:
    """The new process could not import its release, or did not start."""

    reason: str
    final: bool
    details: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiesced:
    """No call is inside the old process, `pid`, and no state is open, since `at` (UTC)."""

    pid: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class QuiesceFailed:
    """Calls inside did not end in time."""

    reason: str
    final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Transformed:
    """One step's new folder is complete and on disk: `size_bytes` of it, made in `took_ms` milliseconds."""

    took_ms: float
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformFailed:
    """The new folder could not be made; the old one is as it was."""

    reason: str
    final: bool
    details: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The new object is on its state and has tested itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFailed:
    """The new object did not start, or its test of itself failed."""

    reason: str
    final: bool
    details: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandedOver:
    """The new process, `pid`, has the port, since `at` (UTC); 0 if it has ended, and does not come back."""

    pid: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOverFailed:
    """The new process could not take the port; it has answered no call."""

    reason: str
    final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """The new process has stood its probation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disproven:
    """The new process ended within its probation.

    Attributes:
        reason: for the operator.
        answered: whether it may have answered a call: then there is no way back that would lose nothing.
    """

    reason: str
    answered: bool
    final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """The old version serves again, or was tried so often that something else must bring it back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """There is no way back, and none is needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PermitReturned:
    """The upgrade server knows how it went."""


Event: TypeAlias = (
    Learned
    | Fetched
    | FetchFailed
    | FirstStarted
    | FirstStartFailed
    | FutureInstalled
    | Carried
    | FutureRefused
    | FutureLost
    | RestartOrdered
    | RetryOrdered
    | PermitGranted
    | Warmed
    | WarmFailed
    | Quiesced
    | QuiesceFailed
    | Transformed
    | TransformFailed
    | Started
    | StartFailed
    | HandedOver
    | HandOverFailed
    | Proven
    | Disproven
    | Resumed
    | Committed
    | PermitReturned
)
