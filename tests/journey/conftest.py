"""Ways through the table: the shortest to each phase, and random ones."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from segue import journey as j
from segue.journey.steps import TABLE
from segue.model.ids import ContentHash, Version
from segue.model.release import Announcement

NOON = datetime(2024, 5, 2, 12, 0, 0, tzinfo=UTC)

#: One event of each type; a `Learned` depends on where the node is.
EXAMPLES: dict[type[j.Event], j.Event] = {
    type(event): event
    for event in (
        j.Fetched(),
        j.FetchFailed(reason="the server does not answer", final=False),
        j.FirstStarted(),
        j.FirstStartFailed(reason="port 9001 is in use"),
        j.FutureInstalled(took_ms=12.5),
        j.Carried(),
        j.FutureRefused(reason="Version2 has no start()", final=True),
        j.FutureLost(reason="Version2 did not start again"),
        j.RestartOrdered(),
        j.RetryOrdered(),
        j.PermitGranted(permit="p1"),
        j.Warmed(pid=200),
        j.WarmFailed(reason="ImportError", final=True),
        j.Quiesced(pid=100, at=NOON),
        j.QuiesceFailed(reason="2 calls did not end"),
        j.Transformed(took_ms=250.0, size_bytes=4096),
        j.TransformFailed(reason="block 7 is damaged", final=True),
        j.Started(),
        j.StartFailed(reason="self_test() said no", final=True),
        j.HandedOver(pid=201, at=NOON),
        j.HandOverFailed(reason="the old process is gone"),
        j.Proven(),
        j.Disproven(reason="it ended", answered=False, final=False),
        j.Resumed(),
        j.Committed(),
        j.PermitReturned(),
    )
}

REASONS = st.sampled_from(["", "it broke"])  # an empty reason is a failure too
PIDS = st.integers(1, 2**22)
MOMENTS = st.datetimes(timezones=st.just(UTC))
MS = st.floats(0, 1e6)

#: `{event's type: all events of it}` for those that carry something.
EVENTS: dict[type[j.Event], SearchStrategy[j.Event]] = {
    j.FetchFailed: st.builds(j.FetchFailed, reason=REASONS, final=st.booleans()),
    j.FutureInstalled: st.builds(j.FutureInstalled, took_ms=MS),
    j.Warmed: st.builds(j.Warmed, pid=PIDS),
    j.Quiesced: st.builds(j.Quiesced, pid=PIDS, at=MOMENTS),
    j.Transformed: st.builds(j.Transformed, took_ms=MS, size_bytes=st.integers(0)),
    j.HandedOver: st.builds(j.HandedOver, pid=PIDS, at=MOMENTS),
    **{
        failed: st.builds(failed, reason=REASONS, final=st.booleans())
        for failed in (
            j.FutureRefused,
            j.WarmFailed,
            j.QuiesceFailed,
            j.TransformFailed,
            j.StartFailed,
            j.HandOverFailed,
        )
    },
    j.Disproven: st.builds(j.Disproven, reason=REASONS, answered=st.just(False), final=st.booleans())
    | st.builds(j.Disproven, reason=REASONS, answered=st.just(True), final=st.just(True)),
    j.FirstStartFailed: st.builds(j.FirstStartFailed, reason=REASONS, final=st.booleans()),
}


def release(version: int, edition: int = 0) -> Announcement:
    """Announce version `version`; editions of it differ in their bytes."""
    return Announcement(version=Version(version), sha256=ContentHash(f"{version:062x}{edition:02x}"), size_bytes=1)


def example(at: j.Journey, kind: type[j.Event]) -> j.Event:
    return j.Learned(release=release(at.newest + 1)) if kind is j.Learned else EXAMPLES[kind]


def wanted(at: j.Journey) -> list[Announcement]:
    """Return what the node wants of the releases there are: three editions of each."""
    versions = {at.newest + 1, *(future.release.version for future in at.futures)}
    return [one for one in (release(v, edition) for v in sorted(versions) for edition in range(3)) if at.wants(one)]


@st.composite
def learned(draw: DrawFn, at: j.Journey) -> j.Event:
    """Draw news; on a node that never ran, with any number of releases before it."""
    if at.phase is not j.Phase.NEW:
        return j.Learned(release=draw(st.sampled_from(wanted(at))))
    oldest, count = draw(st.integers(1, 2)), draw(st.integers(0, 3))
    before = tuple(release(version) for version in range(oldest, oldest + count))
    editions = [release(oldest + count, edition) for edition in range(20)]
    return j.Learned(release=next(one for one in editions if at.wants(one)), before=before)


@st.composite
def next_events(draw: DrawFn, at: j.Journey) -> j.Event | None:
    """Draw an event that may come next; None if the node wants none of the releases there are."""
    commands = j.pending(at)
    kinds: tuple[type[j.Event], ...] = (
        j.ANSWERS[type(commands[0])]
        if commands
        else (j.Learned, j.RestartOrdered, j.RetryOrdered)
        if at.phase is j.Phase.SERVING
        else (j.Learned,)
    )
    if at.phase is not j.Phase.NEW and not wanted(at):
        kinds = tuple(kind for kind in kinds if kind is not j.Learned)
    if not kinds:
        return None
    # Success comes first: drawn more often, or few walks would see a commit.
    kind = draw(st.sampled_from((kinds[0],) * 5 + kinds))
    if kind is j.Learned:
        return draw(learned(at))
    if kind is j.FirstStarted:
        return j.FirstStarted(object_version=draw(st.sampled_from([None, *(one.version for one in at.learning)])))
    if kind is j.PermitGranted:
        allowed = [one.release.version for one in at.futures if one.release.version not in at.avoided]
        touching = next(one.release.version for one in at.futures if one.install_ms is not None)
        allowed = [version for version in allowed if touching <= version <= at.reach]
        return j.PermitGranted(permit=draw(st.sampled_from(["p1", "p2"])), to_version=draw(st.sampled_from(allowed)))
    if kind is j.FutureLost:
        lost = [None, *(future.release.version for future in at.futures)]
        return j.FutureLost(reason=draw(REASONS), version=draw(st.sampled_from(lost)))
    retried = any(future.release == at.learning[-1] for future in at.futures) if at.learning else False
    if kind is j.Carried and retried:  # a release is what it is, each time
        kind = j.FutureInstalled
    return draw(EVENTS[kind]) if kind in EVENTS else EXAMPLES[kind]


@st.composite
def some_walks(draw: DrawFn) -> list[j.Event]:
    """Draw a journal: every event in it could come where it came."""
    at, events = j.Journey(), list[j.Event]()
    for _ in range(draw(st.integers(0, 80))):
        event = draw(next_events(at))
        if event is None:
            break
        events.append(event)
        at, _ = j.advance(at, event)
    return events


@pytest.fixture(scope="session")
def walks() -> SearchStrategy[list[j.Event]]:
    return some_walks()


@pytest.fixture(scope="session", name="release")
def release_fixture() -> Callable[..., Announcement]:
    return release


@pytest.fixture(scope="session", name="example")
def example_fixture() -> Callable[[j.Journey, type[j.Event]], j.Event]:
    return example


@pytest.fixture(scope="session")
def routes() -> dict[j.Phase, list[j.Event]]:
    """The fewest events that lead to each phase that can be reached at all."""
    found: dict[j.Phase, list[j.Event]] = {j.Phase.NEW: []}
    frontier = [j.Phase.NEW]
    for phase in frontier:
        at, _ = j.fold(found[phase])
        for start, kind in TABLE:
            if start is phase:
                event = example(at, kind)
                after = j.advance(at, event)[0].phase
                if after not in found:
                    found[after] = [*found[phase], event]
                    frontier.append(after)
    return found
