"""The table of a node's upgrade, and the two functions that read it."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from typing import Any, TypeAlias

from segue.journey import commands as do
from segue.journey import events as on
from segue.journey.state import Future, Journey, Phase, Upgrade
from segue.model.ids import Version
from segue.model.release import Announcement


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

    Source: DESIGN's "A node's upgrade"; docs/decisions/0004 and 0013.
    """
    try:
        after, learn = TABLE[journey.phase, type(event)]
    except KeyError:
        raise UnexpectedEventError(f"no row of the table takes {event!r} while {journey.phase.value}") from None
    learnt = learn(journey, event)
    following = replace(learnt, phase=after or _rest(learnt))
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
    known = (*event.before, event.release)
    in_order = all(one.version < two.version for one, two in pairwise(known))
    if not journey.wants(event.release) or not in_order or (event.before and journey.phase is not Phase.NEW):
        raise UnexpectedEventError(f"{event!r} is no next step of {journey!r}")
    learning = replace(journey, learning=known)
    if journey.futures and journey.futures[0].release.sha256 in journey.rejected:
        return learning  # what failed is still why the node goes nowhere
    return replace(learning, failure=None, failure_details="")


def _nothing(journey: Journey, event: on.Event) -> Journey:  # noqa: ARG001 - rows have one signature
    return journey


def _know(**parts: str) -> Callable[[Journey, Any], Journey]:
    """Copy fields of the event into the upgrade under way: `{upgrade's field: event's field}`."""

    def learn(journey: Journey, event: object) -> Journey:
        known = {ours: getattr(event, theirs) for ours, theirs in parts.items()}
        return replace(journey, upgrade=replace(_upgrade(journey), **known))

    return learn


def _first_started(journey: Journey, event: on.FirstStarted) -> Journey:
    known, version = journey.learning, event.object_version or _learnt(journey).version
    (running,) = (release for release in known if release.version == version)
    return replace(
        journey,
        running=running,
        carried=tuple(release for release in known if release.version > version),
        past=tuple(release for release in known if release.version < version),
        learning=(),
        failures=0,
    )


def _future_installed(journey: Journey, event: on.FutureInstalled) -> Journey:
    release = _learnt(journey)
    below = tuple(future for future in journey.futures if future.release.version < release.version)
    above = journey.futures[len(below) :]
    if above and not event.took_ms:  # it is there, and was: how long that took is known
        return _attempt(replace(journey, learning=()))
    installed = Future(release=release, install_ms=event.took_ms)
    return _attempt(replace(journey, learning=(), futures=(*below, installed, *above[1:])))


def _carried(journey: Journey, event: on.Carried) -> Journey:  # noqa: ARG001
    release = _learnt(journey)
    if not journey.futures:
        return replace(journey, learning=(), carried=(*journey.carried, release), failures=0)
    return _attempt(replace(journey, learning=(), futures=(*journey.futures, Future(release=release, install_ms=None))))


def _attempt(journey: Journey) -> Journey:
    """Begin the upgrade to the next version, if there is one that may be tried."""
    if journey.upgrade or not journey.futures or journey.futures[0].release.sha256 in journey.rejected:
        return journey
    first = journey.futures[0]
    return replace(journey, upgrade=Upgrade(release=first.release, install_future_ms=first.install_ms))


def _committed(journey: Journey, event: on.Committed) -> Journey:  # noqa: ARG001
    return replace(journey.ahead(), completed=(*journey.completed, _upgrade(journey)), failures=0)


def _permit_returned(journey: Journey, event: on.PermitReturned) -> Journey:  # noqa: ARG001
    at_rest = replace(journey, upgrade=None)
    if _upgrade(journey).failure is not None:
        return replace(at_rest, failures=journey.failures + 1)
    return _attempt(at_rest)


def _give_up(journey: Journey, event: Any) -> Journey:
    """End the attempt for a reason that may pass: the release will be tried again."""
    upgrade = replace(_upgrade(journey), failure=event.reason)
    return replace(journey, failure=event.reason, failure_details=_details(event), upgrade=upgrade)


def _fail(journey: Journey, event: Any) -> Journey:
    """End the attempt: for good if the reason lies in the release."""
    return _reject(_give_up(journey, event), _upgrade(journey).release, event)


def _not_learnt(journey: Journey, event: Any) -> Journey:
    """Go on without what was being fetched, installed or started; nothing was away for it."""
    failed = _reject(journey, _learnt(journey), event)
    failures = journey.failures + 1
    return replace(failed, learning=(), failure=event.reason, failure_details=_details(event), failures=failures)


def _first_start_failed(journey: Journey, event: on.FirstStartFailed) -> Journey:
    return replace(journey, learning=(), failure=event.reason, failures=journey.failures + 1)


def _future_lost(journey: Journey, event: on.FutureLost) -> Journey:
    lost = event.version or Version(journey.version + 1)
    futures = tuple(future for future in journey.futures if future.release.version < lost)
    return replace(
        journey,
        futures=futures,
        upgrade=journey.upgrade if futures else None,
        failure=event.reason,
        failure_details="",
        failures=journey.failures + 1,
    )


def _details(event: Any) -> str:
    return getattr(event, "details", "")


def _reject(journey: Journey, release: Announcement, event: Any) -> Journey:
    return replace(journey, rejected=journey.rejected | {release.sha256}) if event.final else journey


def _learnt(journey: Journey) -> Announcement:
    assert journey.learning, journey
    return journey.learning[-1]


def _upgrade(journey: Journey) -> Upgrade:
    assert journey.upgrade is not None, journey
    return journey.upgrade


def _release(journey: Journey) -> Announcement:
    return _upgrade(journey).release


def _permit(journey: Journey) -> str:
    permit = _upgrade(journey).permit
    assert permit is not None, journey
    return permit


def _rest(journey: Journey) -> Phase:
    """Return where a node is that has nothing to learn: one with an attempt waits for its permit, else it serves."""
    return Phase.WAITING if journey.upgrade else Phase.SERVING


#: `{(phase, event): (next phase, what the event adds)}`: the whole life of a node. A next phase of None is the
#: one that `_rest` says.
TABLE: dict[tuple[Phase, type[on.Event]], tuple[Phase | None, Callable[[Journey, Any], Journey]]] = {
    # a node that never ran
    (Phase.NEW, on.Learned): (Phase.FETCHING_FIRST, _begin),
    (Phase.FETCHING_FIRST, on.Fetched): (Phase.STARTING_FIRST, _nothing),
    (Phase.FETCHING_FIRST, on.FetchFailed): (Phase.NEW, _not_learnt),
    (Phase.STARTING_FIRST, on.FirstStarted): (Phase.SERVING, _first_started),
    (Phase.STARTING_FIRST, on.FirstStartFailed): (Phase.NEW, _first_start_failed),
    # releases come, also while the node waits for its permit to an older one
    (Phase.SERVING, on.Learned): (Phase.FETCHING, _begin),
    (Phase.WAITING, on.Learned): (Phase.FETCHING, _begin),
    (Phase.FETCHING, on.Fetched): (Phase.INSTALLING, _nothing),
    (Phase.FETCHING, on.FetchFailed): (None, _not_learnt),
    (Phase.INSTALLING, on.FutureInstalled): (None, _future_installed),
    (Phase.INSTALLING, on.Carried): (None, _carried),
    (Phase.INSTALLING, on.FutureRefused): (None, _not_learnt),
    # an upgrade: nothing is away yet
    (Phase.WAITING, on.PermitGranted): (Phase.WARMING, _know(permit="permit")),
    (Phase.WAITING, on.FutureLost): (None, _future_lost),
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
    (Phase.RETURNING, on.PermitReturned): (None, _permit_returned),
}

#: `{phase: the command that leads out of it}`; a phase that is not here is a rest.
COMMANDS: dict[Phase, Callable[[Journey], do.Command]] = {
    Phase.FETCHING_FIRST: lambda at: do.Fetch(releases=at.learning),
    Phase.STARTING_FIRST: lambda at: do.StartFirst(releases=at.learning),
    Phase.FETCHING: lambda at: do.Fetch(releases=at.learning),
    Phase.INSTALLING: lambda at: do.InstallFuture(release=_learnt(at)),
    Phase.WAITING: lambda at: do.AskPermit(from_version=at.version, to_version=_release(at).version),
    Phase.WARMING: lambda at: do.Warm(release=_release(at)),
    Phase.QUIESCING: lambda at: do.Quiesce(version=at.object_version),
    Phase.TRANSFORMING: lambda at: do.Transform(from_version=at.object_version, release=_release(at)),
    Phase.STARTING: lambda at: do.StartObject(release=_release(at)),
    Phase.HANDING_OVER: lambda at: do.HandOver(from_version=at.object_version, to_version=_release(at).version),
    Phase.RESUMING: lambda at: do.Resume(version=at.object_version, abandoned=_release(at).version),
    Phase.COMMITTING: lambda at: do.Commit(from_version=at.object_version, to_version=_release(at).version),
    Phase.RETURNING: lambda at: do.ReturnPermit(
        permit=_permit(at), failure=_upgrade(at).failure, final=_release(at).sha256 in at.rejected
    ),
}

#: `{command: the events that answer it}`: whoever runs the command returns exactly one of these.
ANSWERS: dict[type[do.Command], tuple[type[on.Event], ...]] = {
    do.Fetch: (on.Fetched, on.FetchFailed),
    do.StartFirst: (on.FirstStarted, on.FirstStartFailed),
    do.InstallFuture: (on.FutureInstalled, on.Carried, on.FutureRefused),
    do.AskPermit: (on.PermitGranted, on.Learned, on.FutureLost),
    do.Warm: (on.Warmed, on.WarmFailed),
    do.Quiesce: (on.Quiesced, on.QuiesceFailed),
    do.Transform: (on.Transformed, on.TransformFailed),
    do.StartObject: (on.Started, on.StartFailed),
    do.HandOver: (on.HandedOver, on.HandOverFailed),
    do.Resume: (on.Resumed,),
    do.Commit: (on.Committed,),
    do.ReturnPermit: (on.PermitReturned,),
}
