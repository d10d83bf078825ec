"""Where a node is on its way, and all that is known of it: what its journal folds to."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from itertools import dropwhile, takewhile

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
    PROVING = "proving"
    RESUMING = "resuming"
    COMMITTING = "committing"
    RETURNING = "returning"
    RESTART_WARMING = "restarting: warming"
    RESTART_QUIESCING = "restarting: quiescing"
    RESTART_STARTING = "restarting: starting"
    RESTART_HANDING_OVER = "restarting: handing over"
    RESTART_RESUMING = "restarting: resuming"

    @property
    def is_restart(self) -> bool:
        """Whether the node's process is being replaced by another of the same release."""
        return self.name.startswith("RESTART_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgrade:
    """What is known of the upgrade under way; each part is None until its step has been taken.

    Attributes:
        release: where the upgrade leads.
        through: the releases between whose transforms are run and whose objects are never started, oldest first.
        from_version: the release whose code the object is or was; None until the way is known.
        permit: the permit's id.
        transformed: how many of the transforms on the way are done.
        old_pid: the process that served the old version.
        new_pid: the process that serves the new one.
        quiesced_at: when the object was closed (UTC).
        serving_at: when the new process had the port (UTC).
        install_future_ms: how long the installation of the future simulation took.
        transform_ms: how long the transforms took.
        transform_bytes: the size of what the last one wrote.
        failed_version: the release on the way that it failed by.
        answered: whether calls were answered by an object that then failed its probation.
        failure: why it was given up; after a commit, why the release failed its probation.
    """

    release: Announcement
    through: tuple[Announcement, ...] = ()
    from_version: Version | None = None
    permit: str | None = None
    transformed: int = 0
    old_pid: int | None = None
    new_pid: int | None = None
    quiesced_at: datetime | None = None
    serving_at: datetime | None = None
    install_future_ms: float | None = None
    transform_ms: float | None = None
    transform_bytes: int | None = None
    failed_version: Version | None = None
    answered: bool = False
    failure: str | None = None

    @property
    def way(self) -> tuple[Announcement, ...]:
        """The releases whose transforms lead there, oldest first."""
        return (*self.through, self.release)

    @property
    def versions(self) -> tuple[Version, ...]:
        """The versions on the way, oldest first."""
        return tuple(release.version for release in self.way)

    @property
    def held(self) -> str:
        """The permit's id, once there is one."""
        assert self.permit is not None, self
        return self.permit


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
        upgrade: the attempt under way, to one of `futures`.
        rejected: releases that this node does not try again by itself.
        failure: why the last attempt ended without success, for the operator.
        failure_details: the traceback behind it, if there was one; it may be long.
        failed: which release that attempt was to; None for none, or all.
        failures: how many attempts failed that were to it, since one succeeded.
        others: `(release, how many attempts to it failed since then)` for the releases that failed before that one.
        completed: the upgrades that this node has committed, oldest first.
        generation: the number of the node's process: each hand-over of the port adds one.
    """

    phase: Phase = Phase.NEW
    generation: int = 1
    running: Announcement | None = None
    carried: tuple[Announcement, ...] = ()
    past: tuple[Announcement, ...] = ()
    futures: tuple[Future, ...] = ()
    learning: tuple[Announcement, ...] = ()
    upgrade: Upgrade | None = None
    rejected: frozenset[ContentHash] = frozenset()
    failure: str | None = None
    failure_details: str = ""
    failed: ContentHash | None = None
    failures: int = 0
    others: tuple[tuple[ContentHash, int], ...] = ()
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
    def runs(self) -> Announcement:
        """The release whose code the object is, on a node that has run."""
        assert self.running is not None, self
        return self.running

    @property
    def learnt(self) -> Announcement:
        """The newest of what is being fetched, installed or started, while something is."""
        assert self.learning, self
        return self.learning[-1]

    @property
    def under_way(self) -> Upgrade:
        """The attempt under way, while there is one."""
        assert self.upgrade is not None, self
        return self.upgrade

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
                again = self.target is not None and release == self.target.release
                return again or release.version == self.newest + 1
            case Phase.WAITING:
                return release.version == self.newest + 1
            case _:
                return False

    @property
    def target(self) -> Future | None:
        """The newest release that the next attempt may lead to; None if there is none."""
        may_be = [one for one in self.futures if not _is_untouched(one) and one.release.sha256 not in self.rejected]
        return may_be[-1] if may_be else None

    @property
    def reach(self) -> Version:
        """The newest version that the object would answer after the longest upgrade there may be."""
        target = self.target
        if target is None:
            return self.version
        above = [future for future in self.futures if future.release.version > target.release.version]
        carried = list(takewhile(_is_untouched, above))
        return carried[-1].release.version if carried else target.release.version

    @property
    def avoided(self) -> tuple[Version, ...]:
        """The versions that this node does not stop at, oldest first: rejected, or carried by what is."""
        found, rejected = [], False
        for future in self.futures:
            if not _is_untouched(future):
                rejected = future.release.sha256 in self.rejected
            if rejected:
                found.append(future.release.version)
        return tuple(found)

    @property
    def gave_up(self) -> bool:
        """Whether the node goes nowhere by itself any more: it waits for the operator, or for the next release."""
        stuck = self.failed in self.rejected or (self.running is not None and self.running.sha256 in self.rejected)
        return stuck and self.phase is Phase.SERVING

    def failures_of(self, release: Announcement) -> int:
        """Return how often it was tried to get to `release`, and was not possible, since an attempt succeeded."""
        return self.failures if self.failed == release.sha256 else dict(self.others).get(release.sha256, 0)

    def ahead(self) -> "Journey":
        """Return the node as it will be once what is under way is done: an upgrade, else a restart."""
        if self.phase.is_restart:
            return replace(self, generation=self.generation + 1)
        upgrade = self.under_way
        above = tuple(dropwhile(lambda one: one.release.version <= upgrade.release.version, self.futures))
        below = tuple(one.release for one in self.futures if one.release.version < upgrade.release.version)
        carried = tuple(future.release for future in takewhile(_is_untouched, above))
        return replace(
            self,
            generation=self.generation + 1,
            running=upgrade.release,
            carried=carried,
            past=(*self.past, *([self.running] if self.running else []), *self.carried, *below),
            futures=above[len(carried) :],
        )


def _is_untouched(future: Future) -> bool:
    return future.install_ms is None
