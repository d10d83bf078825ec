"""What a node does next, in the imperative. Each is answered by one event of `events`.

A crash can come between a command's end and its event's place in the journal, so the command is then
issued a second time: whoever runs commands makes each of them safe to run twice.
"""

from dataclasses import dataclass
from typing import TypeAlias

from segue.model.ids import Version
from segue.model.release import Announcement


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetch:
    """Bring the bundles here, check their hashes, unpack them: `Fetched | FetchFailed`."""

    releases: tuple[Announcement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFirst:
    """Start a node that never ran before; its folder is empty the first time: `FirstStarted | FirstStartFailed`.

    Attributes:
        releases: all that the node simulates, oldest first; the last is its version.
    """

    releases: tuple[Announcement, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallFuture:
    """Have the running process answer the release's version: `FutureInstalled | Carried | FutureRefused`."""

    release: Announcement


@dataclass(frozen=True, slots=True, kw_only=True)
class AskPermit:
    """Ask for leave until it comes: `PermitGranted | Learned | FutureLost | RestartOrdered | RetryOrdered`.

    Attributes:
        from_version: the newest version that the node's object answers.
        to_version: the newest that the node could go to.
        avoided: versions on the way that the node does not stop at, as it failed to run them.
    """

    from_version: Version
    to_version: Version
    avoided: tuple[Version, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Warm:
    """Start the new process, and the transforms', with all imported and no state open: `Warmed | WarmFailed`."""

    release: Announcement


@dataclass(frozen=True, slots=True, kw_only=True)
class Quiesce:
    """Let calls inside end, park those that come, close the object: `Quiesced | QuiesceFailed`.

    In this and all that follow, `version` and `from_version` are of the release whose code the object is: what
    is on disk goes by that number.
    """

    version: Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Transform:
    """Make the folder of `release` from that of `from_version`, a step of the way: `Transformed | TransformFailed`."""

    from_version: Version
    release: Announcement


@dataclass(frozen=True, slots=True, kw_only=True)
class StartObject:
    """Start the new object on the new folder and let it test itself: `Started | StartFailed`."""

    release: Announcement


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """Give the port and the parked calls to the new process: `HandedOver | HandOverFailed`."""

    from_version: Version
    to_version: Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Prove:
    """Watch the new process through its probation: `Proven | Disproven`."""

    to_version: Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume:
    """Put the process from before back in service, nothing lost: `Resumed`.

    Attributes:
        version: of the release whose code the object is.
        abandoned: the versions whose new folders are of no use now; none after a restart.
    """

    version: Version
    abandoned: tuple[Version, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """Let go of what only the old version needs: `Committed`."""

    from_version: Version
    through: tuple[Version, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnPermit:
    """Tell the upgrade server that the node is back, and how it went: `PermitReturned`.

    Attributes:
        permit: the permit's id.
        failure: why the upgrade was given up, or the release failed its probation; None after a commit without.
        final: True if this node will not try the release again by itself.
        failed_version: the release on the way that it failed by.
    """

    permit: str
    failure: str | None
    final: bool
    failed_version: Version | None = None


Command: TypeAlias = (
    Fetch
    | StartFirst
    | InstallFuture
    | AskPermit
    | Warm
    | Quiesce
    | Transform
    | StartObject
    | HandOver
    | Prove
    | Resume
    | Commit
    | ReturnPermit
)
