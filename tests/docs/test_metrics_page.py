"""docs/metrics.md has every metric, span and attribute that there is, as it is, and no other."""

import re
from pathlib import Path

from segue.journey import Phase
from segue.layer import tracing as calls
from segue.model.metric import Metric
from segue.node import measures as of_nodes
from segue.node import tracing as trips
from segue.server import measures as of_the_server

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
ROW = re.compile(r"^\| `(?P<name>segue_\w+)` \| (?P<kind>\w+) \| (?P<labels>[^|]*)\|", re.MULTILINE)


def section(title: str) -> str:
    """Return what stands below a heading, up to the next."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def on_the_page(text: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {
        row["name"]: (row["kind"], tuple(re.findall(r"`(\w+)`", row["labels"])))
        for row in ROW.finditer(text)
    }  # fmt: skip


def in_the_code(*metrics: Metric) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {metric.name: (metric.kind.value, metric.labels) for metric in metrics}


def test_the_servers_metrics() -> None:
    told = in_the_code(*of_the_server.OF_THE_DATABASE, *of_the_server.OF_THE_PROCESS)
    assert on_the_page(section("The upgrade server")) == told


def test_an_agents_metrics() -> None:
    assert on_the_page(section("An agent")) == in_the_code(*of_nodes.OF_THE_AGENT)


def test_no_other_metric_is_named() -> None:
    """In an alert, say, or in a sentence."""
    assert set(re.findall(r"\bsegue_\w+", PAGE)) <= set(on_the_page(PAGE))


def test_the_spans() -> None:
    text = section("Traces of what a node goes through")
    assert re.findall(r"^\| `(segue\.\w+)`", text.partition("| attribute |")[0], re.MULTILINE) == [*trips.Trip]
    named = set(re.findall(r"`(segue\.\w+\.\w+)`", text))
    there = {
        trips.phase_span(trip, phase) for phase in Phase if (trip := trips.trip_of(phase)) is not None
    }  # fmt: skip
    assert named
    assert named <= there


def test_the_attributes_of_trips() -> None:
    text = section("Traces of what a node goes through").partition("| attribute |")[2]
    rows = [row for row in text.splitlines() if row.startswith("| `")]
    named = {name for row in rows for name in re.findall(r"`(segue\.\w+)`", row.split("|")[1])}
    assert named == {
        trips.SYSTEM, trips.CLASS, trips.NODE, trips.FROM_VERSION, trips.TO_VERSION, trips.PERMIT, trips.OUTCOME,
        trips.EVENT, trips.RESUMED,
    }  # fmt: skip


def test_the_attributes_of_calls() -> None:
    named = re.findall(r"^\| `([\w.]+)`", section("Traces of calls"), re.MULTILINE)
    assert named == [calls.CALLER_VERSION, calls.ANSWERED_BY, calls.OBJECT_VERSION]
