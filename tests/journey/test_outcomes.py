"""How attempts end: on the new version, or in service on the old one, with the permit returned either way."""

from collections.abc import Callable, Sequence
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
QUIESCED_AT = datetime(2024, 5, 2, 12, 0, 0, tzinfo=UTC)
SERVING_AT = datetime(2024, 5, 2, 12, 0, 1, tzinfo=UTC)

BEGINNING: tuple[j.Event, ...] = (j.Fetched(), j.FutureInstalled(took_ms=12.5), j.PermitGranted(permit="p1"))
REST: tuple[j.Event, ...] = (
    j.Warmed(pid=200),
    j.Quiesced(pid=100, at=QUIESCED_AT),
    j.Transformed(took_ms=250.0, size_bytes=4096),
    j.Started(),
    j.HandedOver(pid=201, at=SERVING_AT),
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
        running=release(2),
        before=release(1),
        completed=(
            j.Upgrade(
                release=release(2),
                permit="p1",
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
    assert (committed.running, committed.before, committed.future) == (release(2), release(1), None)
    assert [upgrade.release for upgrade in committed.completed] == [release(2)]
    assert j.pending(committed) == (j.ReturnPermit(permit="p1", failure=None, final=False),)


#: `(events up to the failure, whether the release is to blame)`
GIVEN_UP: list[tuple[Sequence[j.Event], bool]] = [
    *(((j.WarmFailed(reason="it broke", final=final),), final) for final in (True, False)),
    ((*REST[:1], j.QuiesceFailed(reason="it broke")), False),
    *(((*REST[:2], j.TransformFailed(reason="it broke", final=final)), final) for final in (True, False)),
    *(((*REST[:3], j.StartFailed(reason="it broke", final=final)), final) for final in (True, False)),
    ((*REST[:4], j.HandOverFailed(reason="it broke")), False),
]


@pytest.mark.parametrize(("events", "to_blame"), GIVEN_UP)
def test_a_failed_attempt_ends_in_service_on_the_old_version(
    events: Sequence[j.Event], to_blame: bool, serving: j.Journey, release: Release
) -> None:
    at = through(serving, j.Learned(release=release(2)), *BEGINNING, *events)
    assert j.pending(at) == (j.Resume(version=release(1).version, abandoned=release(2).version),)
    at = through(at, j.Resumed())
    assert j.pending(at) == (j.ReturnPermit(permit="p1", failure="it broke", final=to_blame),)
    at = through(at, j.PermitReturned())
    assert at == j.Journey(
        phase=j.Phase.SERVING,
        running=release(1),
        future=release(2),
        failure="it broke",
        rejected=frozenset({release(2).sha256} if to_blame else ()),
    )
    assert at.wants(release(2)) is not to_blame
    assert at.wants(release(2, 1))


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
    assert (at.phase, at.running, at.future, at.upgrade) == (j.Phase.SERVING, release(1), None, None)
    assert at.failure == "it broke"
    assert at.wants(release(2)) is wanted_again


@pytest.mark.parametrize(
    "events",
    [(j.FetchFailed(reason="it broke", final=False),), (j.Fetched(), j.FirstStartFailed(reason="it broke"))],
)
def test_a_node_that_could_not_start_tries_again(events: Sequence[j.Event], release: Release) -> None:
    at = through(j.Journey(), j.Learned(release=release(1)), *events)
    assert at == j.Journey(failure="it broke")
    assert at.wants(release(1))


def test_a_new_attempt_forgets_why_the_last_one_failed(serving: j.Journey, release: Release) -> None:
    failed = (*REST[:1], j.QuiesceFailed(reason="busy"), j.Resumed(), j.PermitReturned())
    at = through(serving, j.Learned(release=release(2)), *BEGINNING, *failed)
    at = through(at, j.Learned(release=release(2)), *BEGINNING, *REST)
    assert at.failure is None
    assert [upgrade.release for upgrade in at.completed] == [release(2)]


@pytest.mark.parametrize("version", [1, 3, 4])
def test_only_the_next_version_is_wanted(version: int, serving: j.Journey, release: Release) -> None:
    assert not serving.wants(release(version))
    with pytest.raises(j.UnexpectedEventError, match="is no next step"):
        j.advance(serving, j.Learned(release=release(version)))


def test_while_under_way_nothing_is_wanted(serving: j.Journey, release: Release) -> None:
    assert not through(serving, j.Learned(release=release(2))).wants(release(2))


@STEADY
@given(data=st.data())
def test_a_rejected_release_is_never_wanted_again(walks: Walks, data: DataObject) -> None:
    at, known = j.Journey(), dict[str, Announcement]()
    for event in data.draw(walks):
        rejected = at.rejected
        if isinstance(event, j.Learned):
            known[event.release.sha256] = event.release
        at, _ = j.advance(at, event)
        assert rejected <= at.rejected
        for sha256 in at.rejected:
            assert not at.wants(known[sha256])
            if at.phase is j.Phase.SERVING:
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
        # versions are run one after the other, each once, and only a commit changes which one runs
        assert [upgrade.release.version for upgrade in at.completed] == list(
            range(at.version - len(at.completed) + 1, at.version + 1)
        )
        assert (at.running == earlier.running) is not isinstance(event, j.Committed | j.FirstStarted)
        assert at.before is None or at.before.version == at.version - 1
        # a future simulation stays until its version is committed, or the process loses it
        assert at.future is None or at.future.version == at.version + 1
        assert earlier.future is None or at.future is not None or isinstance(event, j.Committed | j.FutureLost)
        # the server hears of a failure just when there was one
        for command in commands:
            if isinstance(command, j.ReturnPermit):
                assert (command.failure is None) is isinstance(event, j.Committed)
