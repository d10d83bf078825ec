"""Where a node is on its way, and all that is known of it: what its journal folds to."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import takewhile

from segue.model.ids import ContentHash, Version
from segue.model.release import Announcement


class Phase(StrEnum):
    """Where a node is on its way; the value is what people read."""

    NEW = "new"
    FETCHING_FIRST = "fetching first"
    STARTING_FIRST = "starting first"
    SERVING = "serving"
    FETCHING = "fetching"
    INSTALLING = "installing"
    WAITING = "waiting"
    WARMING = "warming"
    QUIESCING = "quiescing"
    TRANSFORMING = "transforming"
    STARTING = "starting"
    HANDING_OVER = "handing over"
    RESUMING = "resuming"
    COMMITTING = "committing"
    RETURNING = "returning"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """What is known of the upgrade under way; each part is None until its step has been taken.

    Attributes:
        release: where the upgrade leads.
        permit: the permit's id.
        old_pid: the process that served the old version.
        new_pid: the process that serves the new one.
        quiesced_at: when the object was closed (UTC).
        serving_at: when the new process had the port (UTC).
        install_future_ms: how long the installation of the future simulation took.
        transform_ms: how long the transform took.
        transform_bytes: the size of what it wrote.
        failure: why it was given up.
    """

    release: Announcement
    permit: str | None = None
    old_pid: int | None = None
    new_pid: int | None = None
    quiesced_at: datetime | None = None
    serving_at: datetime | None = None
    install_future_ms: float | None = None
    transform_ms: float | None = None
    transform_bytes: int | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Future:
    """A release above the node's version whose calls the node answers.

    Attributes:
        release: which.
        install_ms: how long the installation of its future simulation took; None if there is none, as the
            release leaves the class untouched: then the object or simulation below carries its number.
    """

    release: Announcement
    install_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """All that a node's journal says, folded.

    Attributes:
        phase: where it is.
        running: the release whose code the object is; None on a node that never ran.
        carried: the releases since that leave the class untouched, whose numbers the object carries.
        past: all releases before `running` whose calls past simulations answer, oldest first, with those
            whose numbers they carry.
        futures: the releases above, whose calls are answered, oldest first; they stay when an attempt is given
            up, since upgraded nodes go on calling with these versions. The first has a future simulation.
        learning: what is being fetched and installed, or started for the first time; oldest first.
        upgrade: the attempt under way, to the first of `futures`.
        rejected: releases that this node will not try again.
        failure: why the last attempt ended without success, for the operator.
        failure_details: the traceback behind it, if there was one; it may be long.
        failures: how many did, one after the other.
        completed: the upgrades that this node has committed, oldest first.
    """

    phase: Phase = Phase.NEW
    running: Announcement | None = None
    carried: tuple[Announcement, ...] = ()
    past: tuple[Announcement, ...] = ()
    futures: tuple[Future, ...] = ()
    learning: tuple[Announcement, ...] = ()
    upgrade: Upgrade | None = None
    rejected: frozenset[ContentHash] = frozenset()
    failure: str | None = None
    failure_details: str = ""
    failures: int = 0
    completed: tuple[Upgrade, ...] = ()

    @property
    def version(self) -> Version:
        """The newest version that the object answers; 0 on a node that never ran."""
        return self.carried[-1].version if self.carried else self.object_version

    @property
    def object_version(self) -> Version:
        """The version of the release whose code the object is, which its folder goes by; 0 on a node that never ran."""
        return self.running.version if self.running else Version(0)

    @property
    def newest(self) -> Version:
        """The newest version that the node answers."""
        return self.futures[-1].release.version if self.futures else self.version

    def wants(self, release: Announcement) -> bool:
        """Say whether `Learned(release)` is news: the node can take it in, and this is its next step."""
        if release.sha256 in self.rejected:
            return False
        match self.phase:
            case Phase.NEW:
                return True
            case Phase.SERVING:
                again = bool(self.futures) and release == self.futures[0].release
                return again or release.version == self.newest + 1
            case Phase.WAITING:
                return release.version == self.newest + 1
            case _:
                return False

    def ahead(self) -> "Journey":
        """Return the node as it will be once the upgrade under way is committed."""
        upgrade, above = self.upgrade, self.futures[1:]
        assert upgrade is not None, self
        carried = tuple(future.release for future in takewhile(_is_untouched, above))
        return replace(
            self,
            running=upgrade.release,
            carried=carried,
            past=(*self.past, *([self.running] if self.running else []), *self.carried),
            futures=above[len(carried) :],
        )


def _is_untouched(future: Future) -> bool:
    return future.install_ms is None
