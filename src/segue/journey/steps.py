"""The table of a node's upgrade, and the two functions that read it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, TypeAlias

from segue.journey import commands as do
from segue.journey import events as on
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Journey:
    """All that a node's journal says, folded.

    Attributes:
        phase: where it is.
        running: the release whose object owns the state; None on a node that never ran.
        before: the release that ran before it, whose calls the past simulation answers.
        future: the release whose future simulation is installed; it stays when an attempt is given up,
            since upgraded nodes go on calling with that version.
        upgrade: what is under way; None while serving undisturbed.
        rejected: releases that this node will not try again.
        failure: why the last attempt ended without an upgrade, for the operator.
        completed: the upgrades that this node has committed, oldest first.
    """

    phase: Phase = Phase.NEW
    running: Announcement | None = None
    before: Announcement | None = None
    future: Announcement | None = None
    upgrade: Upgrade | None = None
    rejected: frozenset[ContentHash] = frozenset()
    failure: str | None = None
    completed: tuple[Upgrade, ...] = ()

    @property
    def version(self) -> Version:
        """The version that owns the node's state; 0 on a node that never ran."""
        return self.running.version if self.running else Version(0)

    def wants(self, release: Announcement) -> bool:
        """Say whether `Learned(release)` is news: the node is at rest, and this is its next step."""
        if release.sha256 in self.rejected:
            return False
        if self.phase is Phase.NEW:
            return True
        return self.phase is Phase.SERVING and release.version == self.version + 1


class UnexpectedEventError(AssertionError):
    """An event came in a phase that has no place for it: a bug of ours, or a journal of somebody else's."""


Step: TypeAlias = tuple[Journey, tuple[do.Command, ...]]


def advance(journey: Journey, event: on.Event) -> Step:
    """Say where `event` leads, and which commands to issue there.

    Args:
        journey: where the node is.
        event: what happened to it.

    Returns:
        Where the node is now; the commands that lead on, none when it is at rest.

    Raises:
        UnexpectedEventError: the table has no row for this event in this phase, or the event is
            `Learned` of a release that the node does not want.

    Source: DESIGN's "A node's upgrade"; docs/decisions/0004.
    """
    try:
        after, learn = TABLE[journey.phase, type(event)]
    except KeyError:
        raise UnexpectedEventError(f"no row of the table takes {event!r} while {journey.phase.value}") from None
    following = replace(learn(journey, event), phase=after)
    return following, pending(following)


def fold(events: Iterable[on.Event]) -> Step:
    """Say where a journal leads: the same as to `advance` through it from the start."""
    journey = Journey()
    for event in events:
        journey, _ = advance(journey, event)
    return journey, pending(journey)


def pending(journey: Journey) -> tuple[do.Command, ...]:
    """Return the commands that lead on from where the node is: none when it is at rest."""
    command = COMMANDS.get(journey.phase)
    return (command(journey),) if command else ()


# What an event adds to what is known.  Each takes (journey, event).
# mypy cannot see that a row's event is of the row's type; the tests go through every row.


def _begin(journey: Journey, event: on.Learned) -> Journey:
    if not journey.wants(event.release):
        raise UnexpectedEventError(f"{event!r} is no next step of {journey!r}")
    return replace(journey, upgrade=Upgrade(release=event.release), failure=None)


def _nothing(journey: Journey, event: on.Event) -> Journey:  # noqa: ARG001 - rows have one signature
    return journey


def _know(**parts: str) -> Callable[[Journey, Any], Journey]:
    """Copy fields of the event into the upgrade under way: `{upgrade's field: event's field}`."""

    def learn(journey: Journey, event: object) -> Journey:
        known = {ours: getattr(event, theirs) for ours, theirs in parts.items()}
        return replace(journey, upgrade=replace(_upgrade(journey), **known))

    return learn


def _first_started(journey: Journey, event: on.FirstStarted) -> Journey:  # noqa: ARG001
    return replace(journey, running=_upgrade(journey).release, upgrade=None)


def _future_installed(journey: Journey, event: on.FutureInstalled) -> Journey:
    upgrade = replace(_upgrade(journey), install_future_ms=event.took_ms)
    return replace(journey, upgrade=upgrade, future=upgrade.release)


def _committed(journey: Journey, event: on.Committed) -> Journey:  # noqa: ARG001
    upgrade = _upgrade(journey)
    completed = (*journey.completed, upgrade)
    return replace(journey, running=upgrade.release, before=journey.running, future=None, completed=completed)


def _permit_returned(journey: Journey, event: on.PermitReturned) -> Journey:  # noqa: ARG001
    return replace(journey, upgrade=None)


def _give_up(journey: Journey, event: Any) -> Journey:
    """End the attempt for a reason that may pass: the release will be tried again."""
    return replace(journey, failure=event.reason)


def _fail(journey: Journey, event: Any) -> Journey:
    """End the attempt: for good if the reason lies in the release."""
    rejected = journey.rejected | {_upgrade(journey).release.sha256} if event.final else journey.rejected
    return replace(journey, failure=event.reason, rejected=rejected)


def _fail_at_rest(journey: Journey, event: Any) -> Journey:
    """End an attempt that was not away yet."""
    return replace(_fail(journey, event), upgrade=None)


def _first_start_failed(journey: Journey, event: on.FirstStartFailed) -> Journey:
    return replace(_give_up(journey, event), upgrade=None)


def _future_lost(journey: Journey, event: on.FutureLost) -> Journey:
    return replace(_give_up(journey, event), upgrade=None, future=None)


def _upgrade(journey: Journey) -> Upgrade:
    assert journey.upgrade is not None, journey
    return journey.upgrade


def _release(journey: Journey) -> Announcement:
    return _upgrade(journey).release


def _permit(journey: Journey) -> str:
    permit = _upgrade(journey).permit
    assert permit is not None, journey
    return permit


#: `{(phase, event): (next phase, what the event adds)}`: the whole life of a node.
TABLE: dict[tuple[Phase, type[on.Event]], tuple[Phase, Callable[[Journey, Any], Journey]]] = {
    # a node that never ran
    (Phase.NEW, on.Learned): (Phase.FETCHING_FIRST, _begin),
    (Phase.FETCHING_FIRST, on.Fetched): (Phase.STARTING_FIRST, _nothing),
    (Phase.FETCHING_FIRST, on.FetchFailed): (Phase.NEW, _fail_at_rest),
    (Phase.STARTING_FIRST, on.FirstStarted): (Phase.SERVING, _first_started),
    (Phase.STARTING_FIRST, on.FirstStartFailed): (Phase.NEW, _first_start_failed),
    # an upgrade: nothing is away yet
    (Phase.SERVING, on.Learned): (Phase.FETCHING, _begin),
    (Phase.FETCHING, on.Fetched): (Phase.INSTALLING, _nothing),
    (Phase.FETCHING, on.FetchFailed): (Phase.SERVING, _fail_at_rest),
    (Phase.INSTALLING, on.FutureInstalled): (Phase.WAITING, _future_installed),
    (Phase.INSTALLING, on.FutureRefused): (Phase.SERVING, _fail_at_rest),
    (Phase.WAITING, on.PermitGranted): (Phase.WARMING, _know(permit="permit")),
    (Phase.WAITING, on.FutureLost): (Phase.SERVING, _future_lost),
    (Phase.WARMING, on.Warmed): (Phase.QUIESCING, _know(new_pid="pid")),
    (Phase.WARMING, on.WarmFailed): (Phase.RESUMING, _fail),
    # the node is away
    (Phase.QUIESCING, on.Quiesced): (Phase.TRANSFORMING, _know(old_pid="pid", quiesced_at="at")),
    (Phase.QUIESCING, on.QuiesceFailed): (Phase.RESUMING, _give_up),
    (Phase.TRANSFORMING, on.Transformed): (
        Phase.STARTING,
        _know(transform_ms="took_ms", transform_bytes="size_bytes"),
    ),
    (Phase.TRANSFORMING, on.TransformFailed): (Phase.RESUMING, _fail),
    (Phase.STARTING, on.Started): (Phase.HANDING_OVER, _nothing),
    (Phase.STARTING, on.StartFailed): (Phase.RESUMING, _fail),
    (Phase.HANDING_OVER, on.HandedOver): (Phase.COMMITTING, _know(new_pid="pid", serving_at="at")),
    (Phase.HANDING_OVER, on.HandOverFailed): (Phase.RESUMING, _give_up),
    # the node is back, on one version or the other
    (Phase.RESUMING, on.Resumed): (Phase.RETURNING, _nothing),
    (Phase.COMMITTING, on.Committed): (Phase.RETURNING, _committed),
    (Phase.RETURNING, on.PermitReturned): (Phase.SERVING, _permit_returned),
}

#: `{phase: the command that leads out of it}`; a phase that is not here is a rest.
COMMANDS: dict[Phase, Callable[[Journey], do.Command]] = {
    Phase.FETCHING_FIRST: lambda at: do.Fetch(release=_release(at)),
    Phase.STARTING_FIRST: lambda at: do.StartFirst(release=_release(at)),
    Phase.FETCHING: lambda at: do.Fetch(release=_release(at)),
    Phase.INSTALLING: lambda at: do.InstallFuture(release=_release(at)),
    Phase.WAITING: lambda at: do.AskPermit(from_version=at.version, to_version=_release(at).version),
    Phase.WARMING: lambda at: do.Warm(release=_release(at)),
    Phase.QUIESCING: lambda at: do.Quiesce(version=at.version),
    Phase.TRANSFORMING: lambda at: do.Transform(from_version=at.version, release=_release(at)),
    Phase.STARTING: lambda at: do.StartObject(release=_release(at)),
    Phase.HANDING_OVER: lambda at: do.HandOver(from_version=at.version, to_version=_release(at).version),
    Phase.RESUMING: lambda at: do.Resume(version=at.version, abandoned=_release(at).version),
    Phase.COMMITTING: lambda at: do.Commit(from_version=at.version, to_version=_release(at).version),
    Phase.RETURNING: lambda at: do.ReturnPermit(
        permit=_permit(at), failure=at.failure, final=_release(at).sha256 in at.rejected
    ),
}

#: `{command: the events that answer it}`: whoever runs the command returns exactly one of these.
ANSWERS: dict[type[do.Command], tuple[type[on.Event], ...]] = {
    do.Fetch: (on.Fetched, on.FetchFailed),
    do.StartFirst: (on.FirstStarted, on.FirstStartFailed),
    do.InstallFuture: (on.FutureInstalled, on.FutureRefused),
    do.AskPermit: (on.PermitGranted, on.FutureLost),
    do.Warm: (on.Warmed, on.WarmFailed),
    do.Quiesce: (on.Quiesced, on.QuiesceFailed),
    do.Transform: (on.Transformed, on.TransformFailed),
    do.StartObject: (on.Started, on.StartFailed),
    do.HandOver: (on.HandedOver, on.HandOverFailed),
    do.Resume: (on.Resumed,),
    do.Commit: (on.Committed,),
    do.ReturnPermit: (on.PermitReturned,),
}
