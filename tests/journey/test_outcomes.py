"""How attempts end: on the new version, or in service on the old one, with the permit returned either way."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DataObject, SearchStrategy

from segue import journey as j
from segue.model.release import Announcement

Walks = SearchStrategy[list[j.Event]]
Release = Callable[..., Announcement]

STEADY = settings(derandomize=True, deadline=None)
LEARNING = {j.Phase.FETCHING_FIRST, j.Phase.STARTING_FIRST, j.Phase.FETCHING, j.Phase.INSTALLING}
QUIESCED_AT = datetime(2024, 5, 2, 12, 0, 0, tzinfo=UTC)
SERVING_AT = datetime(2024, 5, 2, 12, 0, 1, tzinfo=UTC)

BEGINNING: tuple[j.Event, ...] = (j.Fetched(), j.FutureInstalled(took_ms=12.5), j.PermitGranted(permit="p1"))
REST: tuple[j.Event, ...] = (
    j.Warmed(pid=200),
    j.Quiesced(pid=100, at=QUIESCED_AT),
    j.Transformed(took_ms=250.0, size_bytes=4096),
    j.Started(),
    j.HandedOver(pid=201, at=SERVING_AT),
    j.Proven(),
    j.Committed(),
    j.PermitReturned(),
)


@pytest.fixture
def serving(release: Release) -> j.Journey:
    """A node that serves version 1 and has gone nowhere yet."""
    return through(j.Journey(), j.Learned(release=release(1)), j.Fetched(), j.FirstStarted())


def through(at: j.Journey, *events: j.Event) -> j.Journey:
    for event in events:
        at, _ = j.advance(at, event)
    return at


def test_a_first_start(serving: j.Journey, release: Release) -> None:
    assert serving == j.Journey(phase=j.Phase.SERVING, running=release(1))
    assert j.Journey().version == 0
    assert serving.version == 1


def test_an_upgrade(serving: j.Journey, release: Release) -> None:
    done = through(serving, j.Learned(release=release(2)), *BEGINNING, *REST)
    assert done == j.Journey(
        phase=j.Phase.SERVING,
        generation=2,
        running=release(2),
        past=(release(1),),
        completed=(
            j.Upgrade(
                release=release(2),
                from_version=release(1).version,
                permit="p1",
                transformed=1,
                old_pid=100,
                new_pid=201,
                quiesced_at=QUIESCED_AT,
                serving_at=SERVING_AT,
                install_future_ms=12.5,
                transform_ms=250.0,
                transform_bytes=4096,
            ),
        ),
    )


def test_a_commit_counts_before_the_permit_is_returned(serving: j.Journey, release: Release) -> None:
    committed = through(serving, j.Learned(release=release(2)), *BEGINNING, *REST[:-1])
    assert committed.phase is j.Phase.RETURNING
    assert (committed.running, committed.past, committed.futures) == (release(2), (release(1),), ())
    assert [upgrade.release for upgrade in committed.completed] == [release(2)]
    assert j.pending(committed) == (j.ReturnPermit(permit="p1", failure=None, final=False),)


#: `(events up to the failure, whether the release is to blame)`
GIVEN_UP: list[tuple[Sequence[j.Event], bool]] = [
    *(((j.WarmFailed(reason="it broke", final=final),), final) for final in (True, False)),
    *(((*REST[:1], j.QuiesceFailed(reason="it broke", final=final)), final) for final in (True, False)),
    *(((*REST[:2], j.TransformFailed(reason="it broke", final=final)), final) for final in (True, False)),
    *(((*REST[:3], j.StartFailed(reason="it broke", final=final)), final) for final in (True, False)),
    *(((*REST[:4], j.HandOverFailed(reason="it broke", final=final)), final) for final in (True, False)),
    *(((*REST[:5], j.Disproven(reason="it broke", answered=False, final=final)), final) for final in (True, False)),
]


@pytest.mark.parametrize(("events", "to_blame"), GIVEN_UP)
def test_a_failed_attempt_ends_in_service_on_the_old_version(
    events: Sequence[j.Event], to_blame: bool, serving: j.Journey, release: Release
) -> None:
    at = through(serving, j.Learned(release=release(2)), *BEGINNING, *events)
    assert j.pending(at) == (j.Resume(version=release(1).version, abandoned=(release(2).version,)),)
    at = through(at, j.Resumed())
    assert j.pending(at) == (
        j.ReturnPermit(permit="p1", failure="it broke", final=to_blame, failed_version=release(2).version),
    )
    at = through(at, j.PermitReturned())
    assert at == j.Journey(
        phase=j.Phase.SERVING,
        running=release(1),
        futures=(j.Future(release=release(2), install_ms=12.5),),
        failure="it broke",
        failed=release(2).sha256,
        failures=1,
        rejected=frozenset({release(2).sha256} if to_blame else ()),
    )
    assert at.wants(release(2)) is not to_blame
    assert at.wants(release(3))  # its callers can be answered all the same


@pytest.mark.parametrize(
    ("events", "wanted_again"),
    [
        ((j.FetchFailed(reason="it broke", final=False),), True),
        ((j.FetchFailed(reason="it broke", final=True),), False),
        ((j.Fetched(), j.FutureRefused(reason="it broke", final=True)), False),
        ((j.Fetched(), j.FutureRefused(reason="it broke", final=False)), True),
        ((j.Fetched(), j.FutureInstalled(took_ms=1.0), j.FutureLost(reason="it broke")), True),
    ],
)
def test_an_attempt_that_fails_before_its_permit_leaves_all_as_it_was(
    events: Sequence[j.Event], wanted_again: bool, serving: j.Journey, release: Release
) -> None:
    at = through(serving, j.Learned(release=release(2)), *events)
    assert (at.phase, at.running, at.futures, at.upgrade) == (j.Phase.SERVING, release(1), (), None)
    assert (at.failure, at.failures) == ("it broke", 1)
    assert at.wants(release(2)) is wanted_again


@pytest.mark.parametrize(
    "events",
    [(j.FetchFailed(reason="it broke", final=False),), (j.Fetched(), j.FirstStartFailed(reason="it broke"))],
)
def test_a_node_that_could_not_start_tries_again(events: Sequence[j.Event], release: Release) -> None:
    at = through(j.Journey(), j.Learned(release=release(1)), *events)
    assert at == j.Journey(failure="it broke", failed=release(1).sha256, failures=1)
    assert at.wants(release(1))


def test_a_new_attempt_forgets_why_the_last_one_failed(serving: j.Journey, release: Release) -> None:
    failed = (*REST[:1], j.QuiesceFailed(reason="busy"), j.Resumed(), j.PermitReturned())
    at = through(serving, j.Learned(release=release(2)), *BEGINNING, *failed)
    at = through(at, j.Learned(release=release(2)), j.Fetched(), j.FutureInstalled(took_ms=0), *BEGINNING[2:], *REST)
    assert (at.failure, at.failures) == (None, 0)
    assert at.completed[0].install_future_ms == 12.5  # what the first installation took, not the look at it
    assert [upgrade.release for upgrade in at.completed] == [release(2)]


@pytest.mark.parametrize("version", [1, 3, 4])
def test_only_the_next_version_is_wanted(version: int, serving: j.Journey, release: Release) -> None:
    assert not serving.wants(release(version))
    with pytest.raises(j.UnexpectedEventError, match="is no next step"):
        j.advance(serving, j.Learned(release=release(version)))


def test_while_under_way_nothing_is_wanted(serving: j.Journey, release: Release) -> None:
    assert not through(serving, j.Learned(release=release(2))).wants(release(2))
    granted = through(serving, j.Learned(release=release(2)), *BEGINNING)
    assert not any(granted.wants(release(version)) for version in (1, 2, 3))


def learn(release: Announcement, *, untouched: bool = False) -> tuple[j.Event, ...]:
    answer: j.Event = j.Carried() if untouched else j.FutureInstalled(took_ms=float(release.version))
    return (j.Learned(release=release), j.Fetched(), answer)


def attempt(permit: str = "p1") -> tuple[j.Event, ...]:
    return (j.PermitGranted(permit=permit), *REST)


def test_a_new_node_learns_all_of_history(release: Release) -> None:
    """It runs the newest release that touches its class, carries what came since, and answers what was before."""
    known = tuple(release(version) for version in (1, 2, 3, 4))
    at = through(j.Journey(), j.Learned(release=known[-1], before=known[:-1]))
    assert j.pending(at) == (j.Fetch(releases=known),)
    at = through(at, j.Fetched())
    assert j.pending(at) == (j.StartFirst(releases=known),)
    at = through(at, j.FirstStarted(object_version=known[2].version))
    assert at == j.Journey(phase=j.Phase.SERVING, running=known[2], carried=known[3:], past=known[:2])
    assert (at.version, at.object_version, at.newest) == (4, 3, 4)


@pytest.mark.parametrize("before", [(2,), (3,), (1, 1), (1, 0)])
def test_history_is_told_in_order(before: tuple[int, ...], release: Release) -> None:
    with pytest.raises(j.UnexpectedEventError, match="is no next step"):
        j.advance(j.Journey(), j.Learned(release=release(2), before=tuple(release(one) for one in before)))


def test_a_node_that_runs_needs_no_history(serving: j.Journey, release: Release) -> None:
    with pytest.raises(j.UnexpectedEventError, match="is no next step"):
        j.advance(serving, j.Learned(release=release(2), before=(release(1),)))


def test_a_release_that_leaves_the_class_untouched_takes_no_attempt(serving: j.Journey, release: Release) -> None:
    """The node carries its number, and serves on."""
    at = through(serving, *learn(release(2), untouched=True), *learn(release(3), untouched=True))
    assert at == j.Journey(phase=j.Phase.SERVING, running=release(1), carried=(release(2), release(3)))
    assert (at.version, at.object_version) == (3, 1)
    at = through(at, *learn(release(4)))
    assert j.pending(at) == (j.AskPermit(from_version=release(3).version, to_version=release(4).version),)
    at = through(at, j.PermitGranted(permit="p1"), j.Warmed(pid=200))
    assert j.pending(at) == (j.Quiesce(version=release(1).version),)  # its folder goes by the release it is of
    at = through(at, *REST[1:])
    assert (at.running, at.carried, at.past) == (release(4), (), (release(1), release(2), release(3)))


def test_releases_come_faster_than_the_node_upgrades(serving: j.Journey, release: Release) -> None:
    """It answers each at once, and goes as far as its permit leads, and then on by itself."""
    at = through(serving, *learn(release(2)), *learn(release(3), untouched=True), *learn(release(4)))
    assert at.phase is j.Phase.WAITING
    assert [future.release.version for future in at.futures] == [2, 3, 4]
    assert (at.version, at.newest) == (1, 4)
    assert j.pending(at) == (j.AskPermit(from_version=release(1).version, to_version=release(4).version),)
    assert at.wants(release(5))
    assert not at.wants(release(4))
    at = through(at, j.PermitGranted(permit="p1", to_version=release(3).version), *REST[:-1])
    assert (at.running, at.carried, at.version) == (release(2), (release(3),), 3)
    assert [future.release.version for future in at.futures] == [4]
    at = through(at, j.PermitReturned())
    assert j.pending(at) == (j.AskPermit(from_version=release(3).version, to_version=release(4).version),)
    at = through(at, *attempt("p2"))
    assert (at.phase, at.running, at.past) == (j.Phase.SERVING, release(4), (release(1), release(2), release(3)))
    assert [(upgrade.release.version, upgrade.install_future_ms) for upgrade in at.completed] == [(2, 2.0), (4, 4.0)]


@pytest.mark.parametrize(
    "failure",
    [
        (j.FetchFailed(reason="no room", final=False),),
        (j.Fetched(), j.FutureRefused(reason="no room", final=False)),
        (j.Fetched(), j.FutureRefused(reason="no room", final=True)),
    ],
)
def test_a_further_release_that_fails_leaves_the_attempt_as_it_was(
    failure: tuple[j.Event, ...], serving: j.Journey, release: Release
) -> None:
    """It is reported, and its failure is not the upgrade's."""
    waiting = through(serving, *learn(release(2)))
    at = through(waiting, j.Learned(release=release(3)), *failure)
    assert (at.phase, at.upgrade, at.futures) == (j.Phase.WAITING, waiting.upgrade, waiting.futures)
    assert (at.failure, at.failures) == ("no room", 1)
    assert at.wants(release(3)) is (release(3).sha256 not in at.rejected)
    at = through(at, *attempt()[:-1])
    assert j.pending(at) == (j.ReturnPermit(permit="p1", failure=None, final=False),)


@pytest.mark.parametrize(("lost", "phase", "kept"), [(None, "serving", 0), (2, "serving", 0), (3, "waiting", 1)])
def test_futures_are_lost_from_a_version_on(
    lost: int | None, phase: str, kept: int, serving: j.Journey, release: Release
) -> None:
    at = through(serving, *learn(release(2)), *learn(release(3)))
    at = through(at, j.FutureLost(reason="it broke", version=release(lost).version if lost else None))
    assert (at.phase.value, len(at.futures), at.failure) == (phase, kept, "it broke")
    assert at.wants(release(kept + 2))


def test_a_node_that_rejected_a_release_says_why_while_it_learns_of_others(
    serving: j.Journey, release: Release
) -> None:
    at = through(serving, *learn(release(2)), *attempt()[:1], j.WarmFailed(reason="no", final=True, details="line 1"))
    at = through(at, j.Resumed(), j.PermitReturned(), *learn(release(3)))
    assert (at.phase, at.newest) == (j.Phase.WAITING, 3)
    assert (at.failure, at.failure_details) == ("no", "line 1")


def test_the_next_release_leads_past_one_that_was_given_up(serving: j.Journey, release: Release) -> None:
    """Its transform is run, its object never started, and the node does not stop at it whatever its permit says."""
    at = through(serving, *learn(release(2)), *attempt()[:1], j.WarmFailed(reason="no", final=True))
    at = through(at, j.Resumed(), j.PermitReturned(), *learn(release(3)))
    (asked,) = j.pending(at)
    assert asked == j.AskPermit(
        from_version=release(1).version, to_version=release(3).version, avoided=(release(2).version,)
    )
    with pytest.raises(j.UnexpectedEventError, match="leads nowhere"):
        j.advance(at, j.PermitGranted(permit="p2", to_version=release(2).version))
    at = through(at, j.PermitGranted(permit="p2", to_version=release(3).version), *REST[:2])
    assert j.pending(at) == (j.Transform(from_version=release(1).version, release=release(2)),)
    at = through(at, REST[2])
    assert j.pending(at) == (j.Transform(from_version=release(2).version, release=release(3)),)
    at = through(at, *REST[2:])
    assert (at.phase, at.running, at.past) == (j.Phase.SERVING, release(3), (release(1), release(2)))
    assert (at.failure, at.failures) == (None, 0)


def test_a_node_that_was_away_goes_through_all_releases_in_one_upgrade(serving: j.Journey, release: Release) -> None:
    """One transform after the other, of those that touch its class; one object at the end, and one permit."""
    learnt = [event for version in (2, 3, 5, 6) for event in learn(release(version), untouched=version == 3)]
    learnt[6:6] = learn(release(4))
    at = through(serving, *learnt)
    assert j.pending(at) == (j.AskPermit(from_version=release(1).version, to_version=release(6).version),)
    at = through(at, j.PermitGranted(permit="p1", to_version=release(6).version), *REST[:2])
    steps = []
    while at.phase is j.Phase.TRANSFORMING:
        (step,) = j.pending(at)
        assert isinstance(step, j.Transform)
        steps.append((step.from_version, step.release.version))
        at = through(at, REST[2])
    assert steps == [(1, 2), (2, 4), (4, 5), (5, 6)]
    assert j.pending(at) == (j.StartObject(release=release(6)),)
    at = through(at, *REST[3:])
    assert (at.running, at.generation) == (release(6), 2)
    assert at.past == tuple(release(version) for version in range(1, 6))
    assert (at.completed[0].transform_ms, at.completed[0].from_version) == (1000.0, 1)


def test_a_transform_that_fails_stands_in_the_way_of_all_beyond(serving: j.Journey, release: Release) -> None:
    """The node then goes as far as it can; an object that fails does not stop it from going past."""
    at = through(serving, *(event for version in (2, 3, 4) for event in learn(release(version))))
    at = through(at, j.PermitGranted(permit="p1", to_version=release(4).version), *REST[:3])
    at = through(at, j.TransformFailed(reason="no", final=True), j.Resumed())
    (returned,) = j.pending(at)
    assert isinstance(returned, j.ReturnPermit)
    assert returned.failed_version == 3
    at = through(at, j.PermitReturned())
    assert at.avoided == (3, 4)
    assert at.wants(release(2))


def test_a_release_that_does_not_stay_after_it_has_answered_is_marked_and_kept(
    serving: j.Journey, release: Release
) -> None:
    """To go back would lose what was written: the way out is the next release."""
    at = through(serving, *learn(release(2)), *attempt()[:6], j.Disproven(reason="it ends", answered=True, final=True))
    assert j.pending(at) == (j.Commit(from_version=release(1).version, through=(release(2).version,)),)
    at = through(at, j.Committed())
    assert j.pending(at) == (
        j.ReturnPermit(permit="p1", failure="it ends", final=True, failed_version=release(2).version),
    )
    at = through(at, j.PermitReturned())
    assert (at.phase, at.running, at.failure) == (j.Phase.SERVING, release(2), "it ends")
    at = through(at, *learn(release(3)), *attempt("p2"))
    assert (at.running, at.failure) == (release(3), None)


def test_a_restart_replaces_the_process_and_nothing_else(serving: j.Journey, release: Release) -> None:
    waiting = through(serving, *learn(release(2)))
    for at in (serving, waiting):
        restarted = through(at, j.RestartOrdered(), j.Warmed(pid=2), *REST[1:2], j.Started(), REST[4])
        assert restarted == replace(at, generation=2)
        failed = through(at, j.RestartOrdered(), j.WarmFailed(reason="no room", final=False))
        assert j.pending(failed) == (j.Resume(version=release(1).version, abandoned=()),)
        assert through(failed, j.Resumed()) == replace(at, failure="not restarted: no room")


def test_an_operator_has_a_node_try_again_what_it_gave_up(serving: j.Journey, release: Release) -> None:
    at = through(serving, *learn(release(2)), *attempt()[:1], j.WarmFailed(reason="no", final=True))
    at = through(at, j.Resumed(), j.PermitReturned())
    assert at.phase is j.Phase.SERVING
    assert not at.wants(release(2))
    at = through(at, j.RetryOrdered())
    assert at.failures == 0
    assert j.pending(at) == (j.AskPermit(from_version=release(1).version, to_version=release(2).version),)


def test_an_attempt_that_was_given_up_begins_anew_when_it_is_learned_anew(serving: j.Journey, release: Release) -> None:
    """Not by itself: the agent waits a while first."""
    at = through(serving, *learn(release(2)), *learn(release(3)))
    at = through(at, *attempt()[:2], j.QuiesceFailed(reason="busy"), j.Resumed(), j.PermitReturned())
    assert (at.phase, at.failures) == (j.Phase.SERVING, 1)
    assert [future.release.version for future in at.futures] == [2, 3]
    assert at.wants(release(3))
    at = through(at, j.Learned(release=release(3)), j.Fetched(), j.FutureInstalled(took_ms=0))
    assert j.pending(at) == (j.AskPermit(from_version=release(1).version, to_version=release(3).version),)
    assert [future.install_ms for future in at.futures] == [2.0, 3.0]


def test_releases_that_fail_in_turns_are_counted_each(serving: j.Journey, release: Release) -> None:
    """Else a node whose releases fail in turns tries them for ever."""
    at = through(serving, *learn(release(2)))
    for count in (1, 2, 3):
        at = through(at, j.Learned(release=release(3)), j.FetchFailed(reason="it broke", final=False))
        assert (at.failures_of(release(2)), at.failures_of(release(3)), at.failures) == (count - 1, count, count)
        at = through(at, *attempt()[:2], j.QuiesceFailed(reason="busy"), j.Resumed(), j.PermitReturned())
        assert (at.failures_of(release(2)), at.failures_of(release(3)), at.failures) == (count, count, count)
        at = through(at, j.Learned(release=release(2)), j.Fetched(), j.FutureInstalled(took_ms=0))
    at = through(at, *attempt())
    assert (at.version, at.failures_of(release(2)), at.failures_of(release(3))) == (2, 0, 0)


@STEADY
@given(data=st.data())
def test_a_rejected_release_is_never_wanted_again(walks: Walks, data: DataObject) -> None:
    at, known = j.Journey(), dict[str, Announcement]()
    for event in data.draw(walks):
        rejected = at.rejected
        if isinstance(event, j.Learned):
            known[event.release.sha256] = event.release
        at, _ = j.advance(at, event)
        assert rejected <= at.rejected or isinstance(event, j.RetryOrdered)
        for sha256 in at.rejected:
            assert not at.wants(known[sha256])
            if at.phase in (j.Phase.SERVING, j.Phase.WAITING):
                with pytest.raises(j.UnexpectedEventError):
                    j.advance(at, j.Learned(release=known[sha256]))


@STEADY
@given(data=st.data())
def test_what_a_journey_says_of_itself_holds_together(walks: Walks, data: DataObject) -> None:
    at, granted = j.Journey(), 0
    for event in data.draw(walks):
        earlier = at
        at, commands = j.advance(at, event)
        granted += isinstance(event, j.PermitGranted) - isinstance(event, j.PermitReturned)
        # one permit at a time, known for as long as it is held
        assert granted == (at.upgrade is not None and at.upgrade.permit is not None)
        # every version that is answered is known, none is left out, and only these events take some in or away
        known = (*at.past, *([at.running] if at.running else []), *at.carried, *(one.release for one in at.futures))
        assert [one.version for one in known] == list(range(at.newest - len(known) + 1, at.newest + 1))
        learnt = j.FirstStarted | j.FutureInstalled | j.Carried
        assert at.newest >= earlier.newest or isinstance(event, j.FutureLost)
        assert at.newest <= earlier.newest or isinstance(event, learnt)
        # only a commit changes what runs, and makes what ran the past
        assert (at.running == earlier.running) is not isinstance(event, j.Committed | j.FirstStarted)
        assert at.past[: len(earlier.past)] == earlier.past
        assert [one.release for one in at.completed][len(earlier.completed) :] == (
            [at.running] if isinstance(event, j.Committed) else []
        )
        # what the object could carry is no future, and an attempt leads to one that it could not
        assert not at.futures or at.futures[0].install_ms is not None
        if at.upgrade and at.phase is not j.Phase.RETURNING:
            touching = [one.release for one in at.futures if one.install_ms is not None]
            assert at.upgrade.release in touching
            if at.upgrade.permit:
                assert list(at.upgrade.way) == touching[: len(at.upgrade.way)]
            else:
                assert at.upgrade.release.sha256 not in at.rejected
        assert (at.phase in LEARNING) is bool(at.learning)
        # the server hears of a failure just when there was one
        for command in commands:
            if isinstance(command, j.ReturnPermit):
                on_the_way = earlier.upgrade is not None and earlier.upgrade.failure is None
                assert (command.failure is None) is (isinstance(event, j.Committed) and on_the_way)
