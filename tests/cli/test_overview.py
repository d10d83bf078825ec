"""A fleet of any size fits a screen, what holds its rollout first."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from segue.cli.overview import shortened
from segue.cli.status import View, render
from segue.wire.summary import (
    AttributeSummary,
    CallerSummary,
    DryRunSummary,
    FailureSummary,
    GroupSummary,
    HaltSummary,
    HoldSummary,
    RolloutSummary,
    Some,
    SystemSummary,
    VersionUse,
    WaitSummary,
)

AT = datetime(2025, 6, 1, 12, 30, 15, tzinfo=UTC)
MANY = Some(count=2_500, first=("node-00001", "node-00002", "node-00003", "node-00004"))
HASH = "0123456789abcdef" * 4


def group(name: str) -> GroupSummary:
    return GroupSummary(
        name=name, nodes=5_000, versions={1: 10, 2: 20, 3: 1_000, 4: 3_970}, away=20, waiting=2_500, failed=3, silent=4
    )


def full(**changes: Any) -> SystemSummary:
    """A system of which there is as much to say as there ever is."""
    caller = CallerSummary(name="billing-of-the-north", from_node=False, calls=123_456_789, last_at=AT)
    plain = SystemSummary(
        system="blockstore", at=AT, newest=4, oldest=1, description="",
        holds=tuple(
            HoldSummary(deed=deed, at=AT - timedelta(minutes=5), who="ada", why="it loses files", version=version)
            for deed, version in (("pause", None), ("abort", 4))
        ),
        halts=(), nodes=10_000, versions={1: 20, 2: 40, 3: 2_000, 4: 7_940}, phases={"waiting": 9_000},
        classes=(group("BlockNode"), group("Edge")),
        attributes=tuple(
            AttributeSummary(name=name, values=tuple(group(f"{name[0]}{number}") for number in range(5)), others=12)
            for name in ("zone", "rack")
        ),
        rollouts=tuple(
            RolloutSummary(
                class_name=name, version=4, done=3_970, left=1_030, skipped=2, began_at=AT - timedelta(hours=2),
                ends_at=AT + timedelta(minutes=95),
            )
            for name in ("BlockNode", "Edge")
        ),
        away=MANY, silent=MANY,
        waits=tuple(
            WaitSummary(text=f"zone z{number}: 1 of 1 is away (x)", kind="BudgetSpent", until=None, nodes=MANY)
            for number in range(6)
        ),
        more_waits=7,
        failures=tuple(FailureSummary(text=f"it broke {number}", nodes=MANY, gave_up=2) for number in range(3)),
        more_failures=3,
        callers=tuple(
            VersionUse(version=version, calls=10**10, last_at=AT, callers=(caller,) * 2, others=300)
            for version in range(1, 5)
        ),
    )  # fmt: skip
    return plain.model_copy(update=changes)


def lines(now: SystemSummary, columns: int = 100) -> list[str]:
    console = Console(width=columns, file=io.StringIO(), force_terminal=False)
    console.print(render(View(now, None)))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_it_fits_a_screen() -> None:
    shown = lines(full())
    assert max(map(len, shown)) <= 100
    assert len(shown) <= 50


@pytest.mark.parametrize("columns", [80, 120])
def test_long_names_of_callers_are_cut_and_nothing_else_of_their_row(columns: int) -> None:
    long = CallerSummary(name="gateway-of-the-north", from_node=False, calls=50, last_at=AT - timedelta(minutes=30))
    use = VersionUse(version=3, calls=119_990_000, last_at=long.last_at, callers=(long,) * 4, others=10_497)
    found = lines(full(callers=(use,)), columns)
    (heading,) = (line for line in found if line.startswith("callers of"))
    row = found[found.index(heading) + 1]
    assert heading.split() == ["callers", "of", "calls", "last", "who"]
    assert row.split()[:6] == ["v3", "119,990,000", "30", "min", "ago", "gateway-of-the-north"]
    assert len(row) <= columns


def test_what_holds_the_rollout_comes_first() -> None:
    shown = lines(full())
    assert shown[0] == "blockstore  version 4: 7,940 of 10,000 nodes run it, 2,500 away, 7,503 failed, 2,500 silent"
    assert shown[1:3] == [
        "PAUSED at 12:25:15 UTC by ada: it loses files",
        "RELEASE 4 ABORTED at 12:25:15 UTC by ada: it loses files",
    ]


def test_how_far_it_is_and_when_it_may_be_over() -> None:
    """It is not all done before it is, however little is left."""
    (line,) = (line for line in lines(full()) if line.startswith("Edge → 4"))
    assert line.endswith("79 %, 1,030 to go, 2 left out; about 1 h more at the pace so far")
    nearly = full().rollouts[0].model_copy(update={"done": 9_999, "left": 1, "ends_at": None})
    (line,) = (line for line in lines(full(rollouts=(nearly,))) if "→" in line)
    assert "99 %, 1 to go" in line
    assert "more at the pace" not in line


def test_a_rule_that_is_tried_dry_is_no_alarm_and_is_told() -> None:
    dry = DryRunSummary(class_name="Edge", version=4, text="e1 reports ms 10: at most 9")
    assert "TRIED DRY: release 4 would hold Edge: e1 reports ms 10: at most 9" in lines(full(dry_runs=(dry,)))


def test_a_halt_is_an_alarm() -> None:
    halt = HaltSummary(class_name="Edge", version=4, text="halted: 2 of 2 failures")
    assert lines(full(halts=(halt,)))[3] == "RELEASE 4 HALTED for Edge: halted: 2 of 2 failures"
    canary = WaitSummary(text="canary n1 failed: no other node may go", kind="CanaryFailed", until=None, nodes=MANY)
    assert "HELD UP: canary n1 failed: no other node may go" in lines(full(waits=(canary,)))


def test_what_is_alike_is_said_once() -> None:
    shown = lines(full())
    assert "2,500 nodes (node-00001, node-00002, node-00003, node-00004, …) wait: zone z0: 1 of 1 is away (x)" in shown
    assert "7 more wait for something else: `segue node-status NODE`" in shown
    one = WaitSummary(text="n2 asked before", kind="Behind", until=None, nodes=Some(count=1, first=("n1",)))
    assert "n1 waits: n2 asked before" in lines(full(waits=(one,)))


def test_a_release_is_not_told_by_all_of_its_hash() -> None:
    """Such a path fills a line, and is broken by the next."""
    text = f"/var/lib/segue/n1/releases/{HASH}/blockstore/upgrade.py:41: no such key"
    assert shortened(text) == "…/01234567…/blockstore/upgrade.py:41: no such key"
