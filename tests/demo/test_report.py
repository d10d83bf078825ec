"""The report has the keys that programs read, and only JSON's own kinds of values."""

import json
from dataclasses import replace
from pathlib import Path

from segue.demo.facts import ClientCalls, Facts, Failure
from segue.demo.report import compose, write
from segue.demo.verdict import judge
from segue.model.ids import Version


def test_keys(facts: Facts) -> None:
    report = compose(facts, judge(facts))
    promised = "seed duration_s from_version to_version files calls nodes max_away allowed_away checks"
    of_upgrade = "from_version to_version pause_ms install_future_ms transform_ms transform_bytes"
    assert set(promised.split()) <= set(report)
    assert {"count", "bytes", "read_back", "mismatches"} <= set(report["files"])
    assert {"total", "failed", "matrix"} <= set(report["calls"])
    assert len(report["calls"]["matrix"]) == 6  # callers and methods are summed over
    for row in report["calls"]["matrix"]:
        assert set(row) == {"caller_version", "node_version", "answered_by", "from_node", "outcome", "count"}
    for node in report["nodes"]:
        assert {"id", "version", "pids", "upgrades"} <= set(node)
        for upgrade in node["upgrades"]:
            assert set(of_upgrade.split()) <= set(upgrade)
    for check in report["checks"]:
        assert set(check) == {"name", "held", "detail"}


def test_values(facts: Facts) -> None:
    report = compose(facts, judge(facts))
    assert report["files"]["read_back"] == {"1": 10, "2": 10}
    assert report["files"]["mismatches"] == 0
    assert (report["calls"]["total"], report["calls"]["failed"]) == (7000, 0)
    assert report["nodes"][1]["pids"] == [101, 201]
    assert [upgrade["pause_ms"] for upgrade in report["nodes"][1]["upgrades"]] == [300.0]
    assert report["published_at"] == {"2": "2025-06-01T12:00:00+00:00"}
    assert (report["max_away"], report["allowed_away"]) == (2, 2)


def test_two_upgrades(facts_of_3: Facts) -> None:
    """Each node has a row for each, and what became of private blocks is told by the version of who asked."""
    report = compose(facts_of_3, judge(facts_of_3))
    steps = [(upgrade["from_version"], upgrade["to_version"]) for upgrade in report["nodes"][1]["upgrades"]]
    assert steps == [(1, 2), (2, 3)]
    assert report["nodes"][1]["pids"] == [101, 201, 301]
    assert (report["from_version"], report["to_version"]) == (1, 3)
    assert report["calls"]["private"]["2"] == {"admitted": 0, "refused": {"DISALLOWED": 30}, "leaked": 0}
    assert set(report["schedules"]) == {"2", "3"}
    assert json.loads(json.dumps(report)) == report


def test_reads_back_from_its_file(facts: Facts, tmp_path: Path) -> None:
    failure = Failure(at_s=1.5, call="get", status="UNAVAILABLE", text="gone")
    calls = (ClientCalls(version=Version(1), calls=5, failed=1, failures=(failure,)), facts.calls[1])
    facts = replace(facts, calls=calls)
    report = compose(facts, judge(facts))
    assert json.loads(write(report, tmp_path).read_text(encoding="utf-8")) == report
    assert report["calls"]["failures"] == [
        {"version": 1, "at_s": 1.5, "call": "get", "status": "UNAVAILABLE", "text": "gone"}
    ]


def test_a_node_that_never_upgraded(facts: Facts) -> None:
    """Where there is nothing to tell, the report says null, and the file is still written."""
    assert facts.status is not None
    node = facts.status.nodes[0].model_copy(update={"upgrades": (), "version": 1})
    status = facts.status.model_copy(update={"nodes": (node,), "permits": ()})
    facts = replace(facts, status=status)
    row = compose(facts, judge(facts))["nodes"][0]
    assert (row["version"], row["pids"], row["upgrades"]) == (1, [100], [])


def test_nothing_observed(facts: Facts) -> None:
    facts = replace(facts, status=None, readings=(), samples=(), published_at={}, pids_before={})
    report = compose(facts, judge(facts))
    assert all(row["pids"] == [None] for row in report["nodes"])
    assert json.loads(json.dumps(report)) == report
    assert report["calls"]["matrix"] == []
