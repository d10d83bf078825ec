"""Lanes touch from edge to edge, exact instants win over samples, and every call is in the rates once."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.demo.facts import Facts
from segue.demo.timeline import NodeSample, Rate, Tally, Timeline, Window, draw_up, from_json, smoothed, to_json
from segue.model.ids import NodeId, Version
from segue.wire.messages import NodeStatus, SystemStatus

VERSIONS = (Version(1), Version(2))
ZERO_S = datetime(2025, 6, 1, 12, tzinfo=UTC).timestamp()
WINDOW = Window(start_s=ZERO_S - 4, end_s=ZERO_S + 16, published_s=(ZERO_S,))


def sampled(node: str, *seen: tuple[float, int, str]) -> list[NodeSample]:
    return [
        NodeSample(at_s=ZERO_S + at_s, node=NodeId(node), version=version, phase=phase, target=2)
        for at_s, version, phase in seen
    ]


def tally(version: int, from_s: float, to_s: float, calls: int, failed: int = 0) -> Tally:
    return Tally(version=Version(version), from_s=ZERO_S + from_s, to_s=ZERO_S + to_s, calls=calls, failed=failed)


def only(status: SystemStatus, node: NodeStatus) -> SystemStatus:
    return status.model_copy(update={"nodes": (node,)})


def spans(timeline: Timeline) -> list[tuple[str, float, float]]:
    """Return `what it runs+what it simulates` and when."""
    said = {
        span: "+".join(str(version) for version in (span.runs, *span.simulates)) for span in timeline.lanes[0].spans
    }
    return [
        (text if span.runs else "away", round(span.start_s, 3), round(span.end_s, 3)) for span, text in said.items()
    ]


def test_an_upgrade_has_its_exact_instants(status: SystemStatus) -> None:
    """n1 was away from 2.0 to 2.3 s by its own word; what was sampled then came later, or earlier, than that."""
    samples = sampled(
        "n1", (-1, 1, "serving"), (0.5, 1, "fetching"), (1.0, 1, "waiting"), (1.9, 1, "transforming"),
        (2.5, 1, "transforming"), (2.6, 2, "handing over"), (2.7, 2, "committing"), (3, 2, "serving"),
    )  # fmt: skip
    timeline = draw_up(only(status, status.nodes[0]), samples, [], WINDOW, VERSIONS)
    assert spans(timeline) == [("1", -4, 1.0), ("1+2", 1.0, 2.0), ("away", 2.0, 2.3), ("2+1", 2.3, 16)]
    assert [span.pause_ms for span in timeline.lanes[0].spans] == [None, None, 300.0, None]


def test_an_upgrade_that_was_given_up_is_seen_by_its_samples(status: SystemStatus) -> None:
    node = status.nodes[0].model_copy(update={"upgrades": (), "version": 1})
    samples = sampled("n1", (1, 1, "warming"), (2, 1, "transforming"), (3, 1, "resuming"), (4, 1, "serving"))
    timeline = draw_up(only(status, node), samples, [], WINDOW, VERSIONS)
    assert spans(timeline) == [("1", -4, 1), ("1+2", 1, 2), ("away", 2, 4), ("1", 4, 16)]


def test_a_node_that_was_never_sampled(status: SystemStatus) -> None:
    node = status.nodes[0].model_copy(update={"upgrades": (), "version": 1})
    assert spans(draw_up(only(status, node), [], [], WINDOW, VERSIONS)) == [("1", -4, 16)]


def test_two_upgrades_with_a_release_that_came_meanwhile(facts_of_3: Facts) -> None:
    """That it simulates version 3 is seen by the calls that it answered, before the first upgrade and after.

    A sample that still tells of the way to version 2, when that is over, tells of no other version.
    """
    assert facts_of_3.status is not None
    seen = {Version(1), Version(3)}
    first, *others = sampled(
        "n1", (1.0, 1, "waiting"), (1.5, 1, "waiting"), (2.4, 2, "warming"), (3, 2, "serving"), (23, 3, "serving")
    )
    answering = [replace(sample, answered=frozenset(seen)) for sample in others]
    samples = [first, answering[0], others[1], *answering[2:]]
    window = replace(WINDOW, end_s=ZERO_S + 26, published_s=(ZERO_S, ZERO_S + 1.2))
    node = facts_of_3.status.nodes[0]
    timeline = draw_up(only(facts_of_3.status, node), samples, [], window, facts_of_3.versions)
    assert spans(timeline) == [
        ("1", -4, 1.0), ("1+2", 1.0, 1.5), ("1+2+3", 1.5, 2.0), ("away", 2.0, 2.3),
        ("2+1", 2.3, 3.0), ("2+1+3", 3.0, 22.0), ("away", 22.0, 22.3), ("3+1+2", 22.3, 26),
    ]  # fmt: skip
    assert [round(moment_s, 3) for moment_s in timeline.published] == [0, 1.2]
    assert from_json(to_json(timeline)) == timeline


@given(
    st.lists(
        st.tuples(st.floats(-10, 25), st.sampled_from([1, 2]), st.sampled_from(["serving", "waiting", "starting"])),
        max_size=12,
    )
)
def test_spans_touch_and_fill_the_picture(facts: Facts, seen: list[tuple[float, int, str]]) -> None:
    assert facts.status is not None
    samples = sampled("n1", *sorted(seen))
    lanes = draw_up(only(facts.status, facts.status.nodes[0]), samples, [], WINDOW, VERSIONS).lanes
    edges = [(span.start_s, span.end_s) for span in lanes[0].spans]
    assert edges[0][0] == -4
    assert edges[-1][1] == 16
    assert all(left[1] == right[0] for left, right in pairwise(edges))


def test_calls_are_spread_over_the_bins_that_a_tally_overlaps(status: SystemStatus) -> None:
    timeline = draw_up(status, [], [tally(1, -4, -3, 10), tally(2, -3.75, -3.25, 8)], WINDOW, VERSIONS)
    assert timeline.rates[0].calls_per_s[:3] == (10, 10, 0)
    assert timeline.rates[1].calls_per_s[:3] == (8, 8, 0)
    assert timeline.calls == 18


@given(st.lists(st.tuples(st.floats(0, 18), st.floats(0.01, 2), st.integers(0, 1000)), max_size=12))
def test_no_call_is_lost_or_counted_twice(facts: Facts, given_tallies: list[tuple[float, float, int]]) -> None:
    assert facts.status is not None
    tallies = [tally(1, -4 + begin_s, -4 + begin_s + length_s, calls) for begin_s, length_s, calls in given_tallies]
    timeline = draw_up(facts.status, [], tallies, WINDOW, VERSIONS)
    total = sum(rate * timeline.bin_s for rate in timeline.rates[0].calls_per_s)
    assert total == pytest.approx(sum(calls for _, _, calls in given_tallies))


def test_failures_fall_into_the_bin_in_which_they_were_told(status: SystemStatus) -> None:
    timeline = draw_up(status, [], [tally(1, 0, 0.25, 10, failed=3)], WINDOW, VERSIONS)
    assert {index: failed for index, failed in enumerate(timeline.failed) if failed} == {8: 3}


@given(st.floats(0.01, 30), st.floats(0, 1), st.floats(0.01, 2))
def test_no_failure_in_the_window_is_left_out(facts: Facts, length_s: float, share: float, tally_s: float) -> None:
    """However long it is, and wherever in it a tally ends; the bins fill it exactly."""
    assert facts.status is not None
    window = Window(start_s=ZERO_S, end_s=ZERO_S + length_s, published_s=(ZERO_S,))
    tallies = [tally(1, share * length_s, share * length_s + tally_s, 10, failed=3), tally(2, -tally_s, 0, 5, failed=1)]
    timeline = draw_up(facts.status, [], tallies, window, VERSIONS)
    assert sum(timeline.failed) == 4
    assert timeline.calls == 15
    assert timeline.bin_s <= 0.5 + 1e-9
    assert len(timeline.failed) * timeline.bin_s == pytest.approx(timeline.end_s - timeline.start_s, abs=1e-6)


@given(st.floats(-5, 0), st.floats(0.05, 1))
def test_smoothing_shows_no_call_before_the_publication(facts: Facts, start_s: float, bin_s: float) -> None:
    """Nor does it take from those after it: in the middle of a plateau it changes nothing."""
    assert facts.status is not None
    timeline = replace(draw_up(facts.status, [], [], WINDOW, VERSIONS), start_s=start_s, bin_s=bin_s)
    begins = [start_s + index * bin_s for index in range(130)]
    smooth = smoothed(Rate(version=Version(2), calls_per_s=tuple(80.0 * (begin >= 0) for begin in begins)), timeline)
    assert len(smooth) == len(begins)
    assert all(value == 0 for value, begin in zip(smooth, begins, strict=True) if begin < -1e-9)
    assert all(value == pytest.approx(80) for value, begin in zip(smooth, begins, strict=True) if begin > bin_s)


def test_smoothing_is_the_mean_of_neighbours(status: SystemStatus) -> None:
    timeline = replace(draw_up(status, [], [], WINDOW, VERSIONS), start_s=-1.0, bin_s=0.5)
    rate = Rate(version=Version(1), calls_per_s=(0.0, 90.0, 30.0, 30.0, 90.0))
    assert smoothed(rate, timeline) == [45, 45, 30, 50, 60]


def test_what_was_refused_is_counted_in_the_window(status: SystemStatus) -> None:
    """It went well, so it is no failure."""
    refused = {"DISALLOWED": 2, "NOT_FOUND": 1}
    tallies = [replace(tally(1, from_s, from_s + 1, 10), refused=refused) for from_s in (-9, 0, 5)]
    timeline = draw_up(status, [], tallies, WINDOW, VERSIONS)
    assert (timeline.calls, timeline.refused, sum(timeline.failed)) == (20, 6, 0)


def test_survives_json(status: SystemStatus) -> None:
    shown = replace(tally(1, 0, 1, 10, failed=3), refused={"DISALLOWED": 2})
    timeline = draw_up(status, [], [shown], WINDOW, VERSIONS)
    assert from_json(to_json(timeline)) == timeline
