"""Rule: what a node goes through is a trace: a span for the trip, one below it for each phase, whatever crashes."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased

from segue import journey as j
from segue.model.ids import ClassName, ContentHash, NodeId, SystemName, Version
from segue.model.release import Announcement
from segue.node.settings import NodeSettings
from segue.node.tracing import Traces
from segue.testing.server import HeldClock

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def release(version: int) -> Announcement:
    return Announcement(version=Version(version), sha256=ContentHash(f"{version:064x}"), size_bytes=1)


START: Sequence[j.Event] = (j.Learned(release=release(1)), j.Fetched(), j.FirstStarted())
LEARN_2: Sequence[j.Event] = (j.Learned(release=release(2)), j.Fetched(), j.FutureInstalled(took_ms=3.0))
LEARN_3: Sequence[j.Event] = (j.Learned(release=release(3)), j.Fetched(), j.FutureInstalled(took_ms=3.0))
AWAY: Sequence[j.Event] = (j.PermitGranted(permit="p1"), j.Warmed(pid=2), j.Quiesced(pid=1, at=NOON))
TRANSFORMED = j.Transformed(took_ms=90.0, size_bytes=10)
SERVES: Sequence[j.Event] = (j.Started(), j.HandedOver(pid=2, at=NOON))
BACK: Sequence[j.Event] = (j.Proven(), j.Committed(), j.PermitReturned())
UPGRADE = (*AWAY, TRANSFORMED, *SERVES, *BACK)
PHASES = [
    "warming", "quiescing", "transforming", "starting", "handing_over", "proving", "committing", "returning",
]  # fmt: skip


class Node:
    """A node that goes a second between two events, and its agents, each with an exporter of its own process."""

    def __init__(self, folder: Path, sampler: Any = None) -> None:
        self.exporter = InMemorySpanExporter()
        self.clock = HeldClock()
        self.kept = folder / "trace.json"
        self.at = j.Journey()
        self._settings = NodeSettings(
            server_url="http://127.0.0.1:1", system=SystemName("notes"), class_name=ClassName("Notes"),
            node_id=NodeId("n1"), address="127.0.0.1:9001", state=folder,
        )  # fmt: skip
        self._sampler = sampler
        self.agent = self.new_agent()

    def new_agent(self) -> Traces:
        """Begin where the node is, as an agent does after the one before it died."""
        provider = TracerProvider(sampler=self._sampler) if self._sampler else TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        tracer = provider.get_tracer("segue.node")
        self.agent = Traces(self._settings, kept=self.kept, clock=self.clock, at=self.at, tracer=tracer)
        return self.agent

    def happen(self, *events: j.Event) -> None:
        for event in events:
            self.clock.move(1)
            before = self.at
            self.at, _ = j.advance(before, event)
            self.agent.note(before, event, self.at)

    def spans(self, prefix: str = "") -> list[ReadableSpan]:
        return [span for span in self.exporter.get_finished_spans() if span.name.startswith(prefix)]

    def span(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.exporter.get_finished_spans() if span.name == name]
        return found


def told(span: ReadableSpan) -> Mapping[str, Any]:
    return dict(span.attributes or {})


def trace_id(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.trace_id)


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def test_an_upgrade_is_a_span_with_one_below_it_for_each_phase(node: Node) -> None:
    node.happen(*START, *LEARN_2)
    node.exporter.clear()
    node.happen(*UPGRADE)
    *phases, trip = node.spans()
    assert trip.name == "segue.upgrade"
    assert trip.parent is None
    assert [span.name for span in phases] == [f"segue.upgrade.{phase}" for phase in PHASES]
    for span in phases:
        assert span.parent == trip.context
        assert seconds(span) == 1
    assert seconds(trip) == len(PHASES)
    assert told(trip) == {
        "segue.system": "notes", "segue.class": "Notes", "segue.node": "n1", "segue.from_version": 1,
        "segue.to_version": 2, "segue.permit": "p1", "segue.outcome": "upgraded",
    }  # fmt: skip
    assert told(phases[1]) == {"segue.event": "Quiesced"}
    assert trip.status.is_unset


def test_the_times_are_those_of_the_clock(node: Node) -> None:
    node.happen(*START, *LEARN_2, *UPGRADE)
    began = node.span("segue.upgrade.warming").start_time
    assert began == int((datetime(2030, 1, 1, 12, tzinfo=UTC) + timedelta(seconds=7)).timestamp()) * 10**9


def test_each_release_that_a_node_learns_of_is_a_trip(node: Node) -> None:
    node.happen(*START, *LEARN_2)
    first, second = node.spans("segue.learn")[2], node.spans("segue.learn")[5]
    assert [span.name for span in node.spans()] == [
        "segue.learn.fetching_first", "segue.learn.starting_first", "segue.learn",
        "segue.learn.fetching", "segue.learn.installing", "segue.learn",
    ]  # fmt: skip
    assert (told(first)["segue.to_version"], told(second)["segue.to_version"]) == (1, 2)
    assert trace_id(first) != trace_id(second)


def test_each_transform_on_the_way_is_a_span(node: Node) -> None:
    node.happen(*START, *LEARN_2, *LEARN_3, j.PermitGranted(permit="p1", to_version=Version(3)), *AWAY[1:])
    node.happen(TRANSFORMED, TRANSFORMED, *SERVES, *BACK)
    assert len(node.spans("segue.upgrade.transforming")) == 2
    assert told(node.span("segue.upgrade"))["segue.to_version"] == 3


def test_a_failure_is_told_on_its_phase_and_its_trip(node: Node) -> None:
    failed = j.TransformFailed(reason="block 7 is damaged", final=False)
    node.happen(*START, *LEARN_2, *AWAY, failed, j.Resumed(), j.PermitReturned())
    phase, trip = node.span("segue.upgrade.transforming"), node.span("segue.upgrade")
    for span in (phase, trip):
        assert (span.status.status_code, span.status.description) == (trace.StatusCode.ERROR, "block 7 is damaged")
    assert told(trip)["segue.outcome"] == "failed"
    assert node.span("segue.upgrade.returning").status.is_unset


def test_a_probation_that_failed_after_calls_were_answered(node: Node) -> None:
    disproven = j.Disproven(reason="it crashed", answered=True, final=True)
    node.happen(*START, *LEARN_2, *AWAY, TRANSFORMED, *SERVES, disproven, j.Committed(), j.PermitReturned())
    assert told(node.span("segue.upgrade"))["segue.outcome"] == "failed_probation"


def test_a_release_that_is_put_off(node: Node) -> None:
    node.happen(*START, j.Learned(release=release(2)), j.FetchFailed(reason="it broke off", final=False))
    trip = node.spans("segue.learn")[-1]
    assert (told(trip)["segue.outcome"], trip.status.description) == ("failed", "it broke off")


def test_restarts(node: Node) -> None:
    node.happen(*START)
    node.happen(j.RestartOrdered(), j.Warmed(pid=2), j.Quiesced(pid=1, at=NOON), *SERVES)
    assert told(node.span("segue.restart"))["segue.outcome"] == "restarted"
    assert [span.name for span in node.spans("segue.restart.")] == [
        f"segue.restart.{phase}" for phase in ("warming", "quiescing", "starting", "handing_over")
    ]
    node.exporter.clear()
    node.happen(j.RestartOrdered(), j.WarmFailed(reason="no", final=False), j.Resumed())
    trip = node.span("segue.restart")
    assert (told(trip)["segue.outcome"], trip.status.description) == ("failed", "not restarted: no")


@pytest.mark.parametrize("cut", range(1, len(UPGRADE)))
def test_a_crash_at_any_moment_of_an_upgrade_leaves_one_trace(node: Node, cut: int) -> None:
    node.happen(*START, *LEARN_2)
    node.exporter.clear()
    node.happen(*UPGRADE[:cut])
    node.new_agent()
    node.happen(*UPGRADE[cut:])
    spans = node.spans()
    assert len({trace_id(span) for span in spans}) == 1
    assert [span.name for span in spans] == [*(f"segue.upgrade.{phase}" for phase in PHASES), "segue.upgrade"]
    trip = spans[-1]
    assert seconds(trip) == len(PHASES)  # since the permit came, and not since the agent began
    assert told(trip)["segue.resumed"] is True
    resumed = [span.name for span in spans[:-1] if "segue.resumed" in told(span)]
    assert resumed == [f"segue.upgrade.{PHASES[cut - 1]}"]
    assert not node.kept.exists()


def test_a_trip_that_was_over_is_not_taken_for_the_next(node: Node) -> None:
    """A file that could not be removed, say."""
    node.happen(*START, *LEARN_2, *AWAY)
    left = node.kept.read_text()
    node.happen(TRANSFORMED, *SERVES, *BACK)
    first = trace_id(node.span("segue.upgrade"))
    node.exporter.clear()
    node.happen(*LEARN_3, j.PermitGranted(permit="p2"))
    node.kept.write_text(left)
    node.new_agent()
    node.happen(*AWAY[1:], TRANSFORMED, *SERVES, *BACK)
    assert trace_id(node.span("segue.upgrade")) != first


@pytest.mark.parametrize("left", ["", "{}", "[]", '{"trip": 7}', '{"trip": "segue.upgrade p1", "since": "noon"}'])
def test_a_file_that_cannot_be_read_fails_nobody(node: Node, left: str) -> None:
    node.happen(*START, *LEARN_2, *AWAY)
    node.kept.write_text(left)
    node.new_agent()
    node.happen(TRANSFORMED, *SERVES, *BACK)
    assert told(node.span("segue.upgrade"))["segue.outcome"] == "upgraded"


def test_a_disk_that_takes_nothing_fails_nobody(node: Node) -> None:
    node.kept.mkdir()
    node.happen(*START, *LEARN_2, *UPGRADE)
    assert told(node.span("segue.upgrade"))["segue.outcome"] == "upgraded"


def test_what_is_not_sampled_stays_so_after_a_crash(tmp_path: Path) -> None:
    node = Node(tmp_path, ParentBased(ALWAYS_OFF))
    node.happen(*START, *LEARN_2, *AWAY)
    node.new_agent()
    node.happen(TRANSFORMED, *SERVES, *BACK)
    assert node.spans() == []


def test_without_a_provider_nothing_is_kept(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.agent = Traces(node._settings, kept=node.kept, clock=node.clock, at=node.at)
    node.happen(*START, *LEARN_2, *AWAY)
    assert not node.kept.exists()
    node.happen(TRANSFORMED, *SERVES, *BACK)
    assert node.spans() == []
