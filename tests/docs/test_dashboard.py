"""docs/grafana-dashboard.json is a dashboard, and asks for nothing that is not there."""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from segue.model.ids import ClassName, NodeId, SystemName
from segue.node import measures as of_nodes
from segue.node.metrics import NodeMetrics
from segue.node.settings import NodeSettings
from segue.server import measures as of_the_server
from segue.server.memory import MemoryStore
from segue.server.metrics import Metrics

DASHBOARD: Mapping[str, Any] = json.loads((Path(__file__).parents[2] / "docs" / "grafana-dashboard.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
LABELS = {
    metric.name: set(metric.labels)
    for metric in (*of_the_server.OF_THE_DATABASE, *of_the_server.OF_THE_PROCESS, *of_nodes.OF_THE_AGENT)
}
NAME = re.compile(r"\b(?:segue|process)_\w+")
#: A metric with what is wanted of its labels.
SELECTED = re.compile(r"\b(segue_\w+)\{([^}\"]*(?:\"[^\"]*\"[^}\"]*)*)\}")


@pytest.fixture
def told(tmp_path: Path) -> set[str]:
    """The names that server and agent answer with."""
    settings = NodeSettings(
        server_url="http://127.0.0.1:1", system=SystemName("notes"), class_name=ClassName("Notes"),
        node_id=NodeId("n1"), address="127.0.0.1:9001", state=tmp_path,
    )  # fmt: skip
    registry = CollectorRegistry()
    NodeMetrics(settings, (), registry)
    families = [*Metrics(MemoryStore()).registry.collect(), *registry.collect()]
    names = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    return names | {f"{family.name}_bucket" for family in families if family.type == "histogram"}


def expressions() -> Iterator[str]:
    for panel in PANELS:
        for target in panel["targets"]:
            yield target["expr"]
    yield from (variable["definition"] for variable in DASHBOARD["templating"]["list"] if "definition" in variable)


def test_every_metric_that_it_asks_for_is_there(told: set[str]) -> None:
    asked = {name for text in expressions() for name in NAME.findall(text)}
    assert len(asked) > 20
    assert asked <= told


def test_every_label_that_it_wants_is_the_metrics() -> None:
    wanted = [
        (name.removesuffix("_bucket"), label)
        for text in expressions()
        for name, labels in SELECTED.findall(text)
        for label in re.findall(r"(\w+)!?=", re.sub(r'"[^"]*"', "", labels))
    ]
    assert len(wanted) > 20
    assert [(name, label) for name, label in wanted if label not in LABELS[name]] == []


def test_every_label_in_a_legend_is_asked_for() -> None:
    """Else a legend would be empty."""
    for panel in PANELS:
        for target in panel["targets"]:
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                kept = re.findall(r"(?:by|group_left) \(([^)]*)\)", target["expr"])
                is_kept = any(label in names.split(", ") for names in kept)
                assert is_kept or (label == "instance" and "process_" in target["expr"]), (panel["title"], label)


def test_parentheses_close() -> None:
    for text in expressions():
        bare = re.sub(r'"[^"]*"', "", text)
        assert all(bare.count(opening) == bare.count(closing) for opening, closing in ("()", "{}", "[]")), text


def test_servers_of_one_database_are_not_added_up() -> None:
    """They all say the same: of what is the database's, the largest is taken before anything is added up."""
    shared = {metric.name for metric in of_the_server.OF_THE_DATABASE} - {"segue_database_up"}
    for text in expressions():
        for found in re.finditer(r"\b(?P<name>segue_\w+)\{", text):
            if found["name"].removesuffix("_bucket") in shared:
                before = text[: found.start()]
                assert re.search(r"max by \([^)]*\) \((?:(?:rate|increase)\()?$", before), text


def test_panels_have_a_place_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(panel["title"] for panel in panels)
    assert all(panel["description"] and panel["datasource"]["uid"] == "${datasource}" for panel in PANELS)
    for one, other in combinations((panel["gridPos"] for panel in panels), 2):
        apart = (
            one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        )  # fmt: skip
        assert apart, (one, other)
        assert one["x"] + one["w"] <= 24


def test_what_an_operator_looks_for_is_there() -> None:
    titles = {panel["title"] for panel in PANELS}
    assert titles >= {
        "Rollout progress", "Versions over time", "Away and its limit", "Failures", "Pause", "Heartbeat age",
        "Calls by caller's version",
    }  # fmt: skip
