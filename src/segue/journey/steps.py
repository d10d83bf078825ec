"""The table of a node's upgrade, and the two functions that read it."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeAlias

from segue.journey import commands as do
from segue.journey import events as on
from segue.journey import knowing as add
from segue.journey.knowing import UnexpectedEventError
from segue.journey.state import Journey, Phase

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
    following = replace(learnt, phase=after if isinstance(after, Phase) else after(learnt))
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


def _step(journey: Journey) -> do.Transform:
    """Return the next transform on the way."""
    upgrade = journey.under_way
    done = upgrade.transformed
    before = upgrade.way[done - 1].version if done else journey.object_version
    return do.Transform(from_version=before, release=upgrade.way[done])


def _after_transform(journey: Journey) -> Phase:
    upgrade = journey.under_way
    return Phase.TRANSFORMING if upgrade.transformed < len(upgrade.way) else Phase.STARTING


def _after_probation(journey: Journey) -> Phase:
    """Return to the old version only if the new one has answered no call: nothing is lost by that."""
    return Phase.COMMITTING if journey.upgrade and journey.upgrade.answered else Phase.RESUMING


def _rest(journey: Journey) -> Phase:
    """Return where a node is that has nothing to learn: one with an attempt waits for its permit, else it serves."""
    return Phase.WAITING if journey.upgrade else Phase.SERVING


#: A phase, or what names it from all that is known then.
Following: TypeAlias = Phase | Callable[[Journey], Phase]

#: `{(phase, event): (next phase, what the event adds)}`: the whole life of a node.
TABLE: dict[tuple[Phase, type[on.Event]], tuple[Following, Callable[[Journey, Any], Journey]]] = {
    # a node that never ran
    (Phase.NEW, on.Learned): (Phase.FETCHING_FIRST, add.begin),
    (Phase.FETCHING_FIRST, on.Fetched): (Phase.STARTING_FIRST, add.nothing),
    (Phase.FETCHING_FIRST, on.FetchFailed): (Phase.NEW, add.not_learnt),
    (Phase.STARTING_FIRST, on.FirstStarted): (Phase.SERVING, add.first_started),
    (Phase.STARTING_FIRST, on.FirstStartFailed): (Phase.NEW, add.first_start_failed),
    # releases come, also while the node waits for its permit to an older one
    (Phase.SERVING, on.Learned): (Phase.FETCHING, add.begin),
    (Phase.WAITING, on.Learned): (Phase.FETCHING, add.begin),
    (Phase.FETCHING, on.Fetched): (Phase.INSTALLING, add.nothing),
    (Phase.FETCHING, on.FetchFailed): (_rest, add.not_learnt),
    (Phase.INSTALLING, on.FutureInstalled): (_rest, add.future_installed),
    (Phase.INSTALLING, on.Carried): (_rest, add.carried),
    (Phase.INSTALLING, on.FutureRefused): (_rest, add.not_learnt),
    # an upgrade: nothing is away yet
    (Phase.WAITING, on.PermitGranted): (Phase.WARMING, add.granted),
    (Phase.WAITING, on.FutureLost): (_rest, add.future_lost),
    (Phase.WARMING, on.Warmed): (Phase.QUIESCING, add.know(new_pid="pid")),
    (Phase.WARMING, on.WarmFailed): (Phase.RESUMING, add.fail),
    # the node is away
    (Phase.QUIESCING, on.Quiesced): (Phase.TRANSFORMING, add.know(old_pid="pid", quiesced_at="at")),
    (Phase.QUIESCING, on.QuiesceFailed): (Phase.RESUMING, add.fail),
    (Phase.TRANSFORMING, on.Transformed): (_after_transform, add.transformed),
    (Phase.TRANSFORMING, on.TransformFailed): (Phase.RESUMING, add.not_transformed),
    (Phase.STARTING, on.Started): (Phase.HANDING_OVER, add.nothing),
    (Phase.STARTING, on.StartFailed): (Phase.RESUMING, add.fail),
    (Phase.HANDING_OVER, on.HandedOver): (Phase.PROVING, add.know(new_pid="pid", serving_at="at")),
    (Phase.HANDING_OVER, on.HandOverFailed): (Phase.RESUMING, add.fail),
    (Phase.PROVING, on.Proven): (Phase.COMMITTING, add.nothing),
    (Phase.PROVING, on.Disproven): (_after_probation, add.disproven),
    # the node is back, on one version or the other
    (Phase.RESUMING, on.Resumed): (Phase.RETURNING, add.nothing),
    (Phase.COMMITTING, on.Committed): (Phase.RETURNING, add.committed),
    (Phase.RETURNING, on.PermitReturned): (_rest, add.permit_returned),
    # the operator's hand
    (Phase.SERVING, on.RetryOrdered): (_rest, add.retry),
    (Phase.WAITING, on.RetryOrdered): (_rest, add.retry),
    (Phase.SERVING, on.RestartOrdered): (Phase.RESTART_WARMING, add.nothing),
    (Phase.WAITING, on.RestartOrdered): (Phase.RESTART_WARMING, add.nothing),
    # the process is replaced by another of the same release
    (Phase.RESTART_WARMING, on.Warmed): (Phase.RESTART_QUIESCING, add.nothing),
    (Phase.RESTART_WARMING, on.WarmFailed): (Phase.RESTART_RESUMING, add.not_restarted),
    (Phase.RESTART_QUIESCING, on.Quiesced): (Phase.RESTART_STARTING, add.nothing),
    (Phase.RESTART_QUIESCING, on.QuiesceFailed): (Phase.RESTART_RESUMING, add.not_restarted),
    (Phase.RESTART_STARTING, on.Started): (Phase.RESTART_HANDING_OVER, add.nothing),
    (Phase.RESTART_STARTING, on.StartFailed): (Phase.RESTART_RESUMING, add.not_restarted),
    (Phase.RESTART_HANDING_OVER, on.HandedOver): (_rest, add.restarted),
    (Phase.RESTART_HANDING_OVER, on.HandOverFailed): (Phase.RESTART_RESUMING, add.not_restarted),
    (Phase.RESTART_RESUMING, on.Resumed): (_rest, add.nothing),
}

#: `{phase: the command that leads out of it}`; a phase that is not here is a rest.
COMMANDS: dict[Phase, Callable[[Journey], do.Command]] = {
    Phase.FETCHING_FIRST: lambda at: do.Fetch(releases=at.learning),
    Phase.STARTING_FIRST: lambda at: do.StartFirst(releases=at.learning),
    Phase.FETCHING: lambda at: do.Fetch(releases=at.learning),
    Phase.INSTALLING: lambda at: do.InstallFuture(release=at.learnt),
    Phase.WAITING: lambda at: do.AskPermit(from_version=at.version, to_version=at.reach, avoided=at.avoided),
    Phase.WARMING: lambda at: do.Warm(release=at.under_way.release),
    Phase.QUIESCING: lambda at: do.Quiesce(version=at.object_version),
    Phase.TRANSFORMING: _step,
    Phase.STARTING: lambda at: do.StartObject(release=at.under_way.release),
    Phase.HANDING_OVER: lambda at: do.HandOver(from_version=at.object_version, to_version=at.under_way.release.version),
    Phase.PROVING: lambda at: do.Prove(to_version=at.under_way.release.version),
    Phase.RESUMING: lambda at: do.Resume(version=at.object_version, abandoned=at.under_way.versions),
    Phase.COMMITTING: lambda at: do.Commit(from_version=at.object_version, through=at.under_way.versions),
    Phase.RETURNING: lambda at: do.ReturnPermit(
        permit=at.under_way.held,
        failure=at.under_way.failure,
        final=at.under_way.release.sha256 in at.rejected,
        failed_version=at.under_way.failed_version,
    ),
    Phase.RESTART_WARMING: lambda at: do.Warm(release=at.runs),
    Phase.RESTART_QUIESCING: lambda at: do.Quiesce(version=at.object_version),
    Phase.RESTART_STARTING: lambda at: do.StartObject(release=at.runs),
    Phase.RESTART_HANDING_OVER: lambda at: do.HandOver(from_version=at.object_version, to_version=at.object_version),
    Phase.RESTART_RESUMING: lambda at: do.Resume(version=at.object_version, abandoned=()),
}

#: `{command: the events that answer it}`: whoever runs the command returns exactly one of these.
ANSWERS: dict[type[do.Command], tuple[type[on.Event], ...]] = {
    do.Fetch: (on.Fetched, on.FetchFailed),
    do.StartFirst: (on.FirstStarted, on.FirstStartFailed),
    do.InstallFuture: (on.FutureInstalled, on.Carried, on.FutureRefused),
    do.AskPermit: (on.PermitGranted, on.Learned, on.FutureLost, on.RestartOrdered, on.RetryOrdered),
    do.Warm: (on.Warmed, on.WarmFailed),
    do.Quiesce: (on.Quiesced, on.QuiesceFailed),
    do.Transform: (on.Transformed, on.TransformFailed),
    do.StartObject: (on.Started, on.StartFailed),
    do.HandOver: (on.HandedOver, on.HandOverFailed),
    do.Prove: (on.Proven, on.Disproven),
    do.Resume: (on.Resumed,),
    do.Commit: (on.Committed,),
    do.ReturnPermit: (on.PermitReturned,),
}
