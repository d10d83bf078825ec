"""What each event adds to what is known of a node: one function for each row of the table that adds something.

Where it leads, and what is done there, is in `steps`. Each takes (journey, event); mypy cannot see that a row's
event is of the row's type, so the tests go through every row.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

from segue.journey import events as on
from segue.journey.state import Future, Journey, Phase, Upgrade
from segue.model.ids import ContentHash, Version
from segue.model.release import Announcement


class UnexpectedEventError(AssertionError):
    """An event came in a phase that has no place for it: a bug of ours, or a journal of somebody else's."""


def begin(journey: Journey, event: on.Learned) -> Journey:
    """Begin with the release that was heard of."""
    known = (*event.before, event.release)
    in_order = all(one.version < two.version for one, two in pairwise(known))
    if not journey.wants(event.release) or not in_order or (event.before and journey.phase is not Phase.NEW):
        raise UnexpectedEventError(f"{event!r} is no next step of {journey!r}")
    learning = replace(journey, learning=known)
    if journey.avoided:
        return learning  # what failed is still why the node is where it is
    return replace(learning, failure=None, failure_details="")


def nothing(journey: Journey, event: on.Event) -> Journey:  # noqa: ARG001 - rows have one signature
    """Add nothing."""
    return journey


def know(**parts: str) -> Callable[[Journey, Any], Journey]:
    """Copy fields of the event into the upgrade under way: `{upgrade's field: event's field}`."""

    def learn(journey: Journey, event: object) -> Journey:
        known = {ours: getattr(event, theirs) for ours, theirs in parts.items()}
        return replace(journey, upgrade=replace(journey.under_way, **known))

    return learn


def first_started(journey: Journey, event: on.FirstStarted) -> Journey:
    """Note what the node runs for the first time."""
    known, version = journey.learning, event.object_version or journey.learnt.version
    (running,) = (release for release in known if release.version == version)
    return replace(
        journey,
        running=running,
        carried=tuple(release for release in known if release.version > version),
        past=tuple(release for release in known if release.version < version),
        learning=(),
        failed=None,
        failures=0,
        others=(),
    )


def future_installed(journey: Journey, event: on.FutureInstalled) -> Journey:
    """Note that the version is answered by a future simulation."""
    release = journey.learnt
    below = tuple(future for future in journey.futures if future.release.version < release.version)
    above = journey.futures[len(below) :]
    if above and not event.took_ms:  # it is there, and was: how long that took is known
        return _attempt(replace(journey, learning=()))
    installed = Future(release=release, install_ms=event.took_ms)
    return _attempt(replace(journey, learning=(), futures=(*below, installed, *above[1:])))


def carried(journey: Journey, event: on.Carried) -> Journey:  # noqa: ARG001 - rows have one signature
    """Note that the version is answered by what is there."""
    release = journey.learnt
    if not journey.futures:
        return replace(journey, learning=(), carried=(*journey.carried, release), failed=None, failures=0, others=())
    return _attempt(replace(journey, learning=(), futures=(*journey.futures, Future(release=release, install_ms=None))))


def _attempt(journey: Journey) -> Journey:
    """Begin the upgrade to a later version, if there is one that may be tried; how far it leads, the permit says."""
    target = journey.target
    if target is None or (journey.upgrade and journey.upgrade.permit):
        return journey
    return replace(journey, upgrade=Upgrade(release=target.release, install_future_ms=target.install_ms))


def granted(journey: Journey, event: on.PermitGranted) -> Journey:
    """Lay out the way: through every release that touches the class, up to the newest that the node may stop at."""
    touching = [one for one in journey.futures if one.install_ms is not None]
    limit = touching[0].release.version if event.to_version is None else event.to_version
    way = [one for one in touching if one.release.version <= limit]
    while way and way[-1].release.sha256 in journey.rejected:
        way.pop()
    if not way:
        raise UnexpectedEventError(f"{event!r} leads nowhere from {journey!r}")
    upgrade = Upgrade(
        release=way[-1].release,
        through=tuple(one.release for one in way[:-1]),
        from_version=journey.object_version,
        permit=event.permit,
        install_future_ms=way[-1].install_ms,
    )
    return replace(journey, upgrade=upgrade)


def transformed(journey: Journey, event: on.Transformed) -> Journey:
    """Note that one more transform on the way is done."""
    upgrade = journey.under_way
    return replace(
        journey,
        upgrade=replace(
            upgrade,
            transformed=upgrade.transformed + 1,
            transform_ms=(upgrade.transform_ms or 0.0) + event.took_ms,
            transform_bytes=event.size_bytes,
        ),
    )


def committed(journey: Journey, event: on.Committed) -> Journey:  # noqa: ARG001 - rows have one signature
    """Note that the node is on the new version."""
    ahead, upgrade = journey.ahead(), journey.under_way
    if upgrade.failure is not None:  # it has failed its probation, and there was no way back
        return replace(ahead, completed=(*journey.completed, upgrade))
    return replace(
        ahead,
        completed=(*journey.completed, upgrade),
        failure=None,
        failure_details="",
        failed=None,
        failures=0,
        others=(),
    )


def permit_returned(journey: Journey, event: on.PermitReturned) -> Journey:  # noqa: ARG001 - rows have one signature
    """Forget the upgrade, and begin with the next if there is one."""
    upgrade = journey.under_way
    at_rest = replace(journey, upgrade=None)
    if upgrade.failure is None:
        return _attempt(at_rest)
    if upgrade.release == journey.running:
        return at_rest  # the way out is the next release, and the operator's to open
    return _count(at_rest, upgrade.release)


def _count(journey: Journey, release: Announcement) -> Journey:
    """Count a failure of `release`; two that fail in turns are counted each by itself, and end both."""
    return replace(
        journey,
        failed=release.sha256,
        failures=journey.failures_of(release) + 1,
        others=tuple((one, count) for one, count in _counted(journey) if one != release.sha256),
    )


def _counted(journey: Journey) -> tuple[tuple[ContentHash, int], ...]:
    """Return the counts of all releases that failed, that of the last one included."""
    last = ((journey.failed, journey.failures),) if journey.failed is not None else ()
    return (*(row for row in journey.others if row[0] != journey.failed), *last)


def restarted(journey: Journey, event: on.HandedOver) -> Journey:  # noqa: ARG001 - rows have one signature
    """Note that the node has another process."""
    return replace(journey, generation=journey.generation + 1)


def not_restarted(journey: Journey, event: Any) -> Journey:
    """Note why the node has the process that it had."""
    return replace(journey, failure=f"not restarted: {event.reason}", failure_details=_details(event))


def retry(journey: Journey, event: on.RetryOrdered) -> Journey:  # noqa: ARG001 - rows have one signature
    """Forget what was given up."""
    return _attempt(replace(journey, rejected=frozenset(), failed=None, failures=0, others=()))


def fail(journey: Journey, event: Any) -> Journey:
    """End the attempt: for good if the node has tried often enough."""
    return _fail_by(journey, event, journey.under_way.release)


def not_transformed(journey: Journey, event: on.TransformFailed) -> Journey:
    """End the attempt, and with it those to each release that this transform leads to."""
    return _fail_by(journey, event, journey.under_way.way[journey.under_way.transformed])


def _fail_by(journey: Journey, event: Any, release: Announcement) -> Journey:
    upgrade = replace(journey.under_way, failure=event.reason, failed_version=release.version)
    given_up = replace(journey, failure=event.reason, failure_details=_details(event), upgrade=upgrade)
    for one in upgrade.way:
        if one.version >= release.version:
            given_up = _reject(given_up, one, event)
    return given_up


def disproven(journey: Journey, event: on.Disproven) -> Journey:
    """Mark the release as failed; if it has answered calls, the node stays with it all the same."""
    known = replace(journey, upgrade=replace(journey.under_way, answered=event.answered))
    return fail(known, event)


def not_learnt(journey: Journey, event: Any) -> Journey:
    """Go on without what was being fetched, installed or started; nothing was away for it."""
    failed = _count(_reject(journey, journey.learnt, event), journey.learnt)
    return replace(failed, learning=(), failure=event.reason, failure_details=_details(event))


def first_start_failed(journey: Journey, event: on.FirstStartFailed) -> Journey:
    """Note why the node did not start."""
    failed = _count(journey, journey.learnt)
    return replace(failed, learning=(), failure=event.reason, failure_details=event.details)


def future_lost(journey: Journey, event: on.FutureLost) -> Journey:
    """Note which versions are not answered any more."""
    lost = event.version or Version(journey.version + 1)
    futures = tuple(future for future in journey.futures if future.release.version < lost)
    return _attempt(
        replace(
            journey,
            futures=futures,
            upgrade=None,
            failure=event.reason,
            failure_details="",
            failed=None,
            failures=journey.failures + 1,
            others=_counted(journey),
        )
    )


def _details(event: Any) -> str:
    return getattr(event, "details", "")


def _reject(journey: Journey, release: Announcement, event: Any) -> Journey:
    return replace(journey, rejected=journey.rejected | {release.sha256}) if event.final else journey
