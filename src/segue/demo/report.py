"""The report: `report.json`, what was observed and what follows from it."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from segue.demo.away import absences, allowed_away, loosest, max_away
from segue.demo.facts import Facts
from segue.demo.verdict import Check
from segue.model.ids import NodeId
from segue.schedule.rules import Rules

REPORT_NAME = "report.json"


def compose(facts: Facts, checks: tuple[Check, ...]) -> dict[str, Any]:
    """Return the report as it is written: JSON's own kinds of values only.

    `calls.total` and `calls.failed` are what the clients saw; `calls.matrix` is what the nodes counted,
    calls between nodes included.
    """
    status = facts.status
    return {
        "seed": facts.seed,
        "duration_s": round(facts.duration_s, 3),
        "from_version": facts.from_version,
        "to_version": facts.to_version,
        "published_at": {str(version): moment.isoformat() for version, moment in facts.published_at.items()},
        "files": _files(facts),
        "calls": _calls(facts),
        "nodes": [_node(facts, node) for node in facts.nodes],
        "max_away": max_away(absences(status.permits, status.nodes)) if status else 0,
        "allowed_away": allowed_away(status.nodes if status else (), loosest(facts.rules.values())),
        "hand_over": facts.hand_over.value,
        "schedules": {str(version): _schedule(rules) for version, rules in facts.rules.items()},
        "checks": [asdict(check) for check in checks],
    }


def write(report: dict[str, Any], folder: Path) -> Path:
    """Write the report into `folder`, and return where it is."""
    path = folder / REPORT_NAME
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def _schedule(rules: Rules) -> dict[str, Any]:
    return {
        "budgets": [asdict(budget) for budget in rules.budgets],
        "canary": asdict(rules.canary) if rules.canary else None,
    }


def _files(facts: Facts) -> dict[str, Any]:
    mismatches = [text for reading in (*facts.readings, *facts.samples) for text in reading.mismatches]
    return {
        "count": facts.files,
        "bytes": facts.size_bytes,
        "read_back": {
            str(version): sum(
                reading.files - len(reading.mismatches) for reading in facts.readings if reading.version == version
            )
            for version in facts.versions
        },
        "sampled_during_upgrade": {
            str(version): sum(reading.files for reading in facts.samples if reading.version == version)
            for version in facts.versions
        },
        "mismatches": len(mismatches),
        "mismatched": mismatches[:20],
    }


def _calls(facts: Facts) -> dict[str, Any]:
    usage = facts.status.usage if facts.status else ()
    columns = ("caller_version", "node_version", "answered_by", "from_node", "outcome", "count")
    counts: Counter[tuple[Any, ...]] = Counter()
    for row in usage:
        counts[tuple(getattr(row, column) for column in columns[:-1])] += row.count
    return {
        "total": sum(row.calls for row in facts.calls),
        "failed": sum(row.failed for row in facts.calls),
        "by_client_version": {str(row.version): row.calls for row in facts.calls},
        "private": {
            str(row.version): {"admitted": row.admitted, "refused": dict(row.refused), "leaked": row.leaked}
            for row in facts.calls
        },
        "failures": [asdict(failure) | {"version": row.version} for row in facts.calls for failure in row.failures],
        "matrix": [dict(zip(columns, (*kind, count), strict=True)) for kind, count in sorted(counts.items())],
    }


def _node(facts: Facts, node: NodeId) -> dict[str, Any]:
    status = next((one for one in facts.status.nodes if one.id == node), None) if facts.status else None
    rows = status.upgrades if status else ()
    columns = ("from_version", "to_version", "pause_ms", "install_future_ms", "transform_ms", "transform_bytes")
    return {
        "id": node,
        "attributes": dict(status.attributes) if status else {},
        "version": status.version if status else None,
        "pids": [facts.pids_before.get(node), *(row.pids[1] for row in rows)],
        "upgrades": [row.model_dump(mode="json", include={*columns, "quiesced_at", "serving_at"}) for row in rows],
        "failure": status.failure if status else "was not seen",
    }
