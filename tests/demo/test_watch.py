"""What is shown fits 80 and 120 columns, says what matters, and is short where nothing is live."""

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from segue.demo.facts import Facts
from segue.demo.phases import AWAY, ON_THE_WAY, SIMULATING
from segue.demo.summary import summary
from segue.demo.verdict import Check
from segue.demo.watch import LiveWatch, NodeRow, PlainWatch, View, render, watch_on
from segue.journey import Phase
from segue.model.ids import NodeId, Version

PHASES = ("serving", "committing", "handing over", "waiting", "warming", "installing")


def view(upgraded: int = 2) -> View:
    return View(
        step="Nodes upgrade, while clients of both versions keep calling",
        elapsed_s=73.4,
        versions=(Version(1), Version(2)),
        nodes=tuple(
            NodeRow(
                id=NodeId(f"n{index + 1}"),
                zone="abc"[index % 3],
                version=2 if index < upgraded else 1,
                target=None if index < upgraded else 2,
                phase=phase,
                pid=4_194_300 + index,
                answered={1: 123_456, 2: 7_890},
                waits_for="the canary to soak" if phase == "waiting" else None,
            )
            for index, phase in enumerate(PHASES)
        ),
        rates={Version(1): 95.2, Version(2): 88.0},
        calls=1_234_567,
        failed=0,
    )


def lines_of(shown: RenderableType, width: int) -> Sequence[str]:
    console = Console(width=width, record=True, file=io.StringIO(), force_terminal=True)
    console.print(shown)
    return console.export_text().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits(width: int) -> None:
    """No cell is cut off or wrapped, and each node has one line."""
    lines = lines_of(render(view()), width)
    assert all(len(line.rstrip()) <= width for line in lines)
    assert not any("…" in line for line in lines)
    for row in view().nodes:
        line = next(line for line in lines if line.strip().startswith(f"{row.id} "))
        assert row.phase in line
        assert str(row.pid) in line
        assert "123,456" in line
        assert "7,890" in line
        assert ("1 → 2" in line) == (row.version == 1)
    text = "\n".join(lines)
    assert ("the canary to soak" in text) == (width == 120)
    assert "2 of 6 on version 2" in text
    assert "1,234,567 calls" in text
    assert "0 failed" in text
    assert "1:13" in text


@pytest.mark.parametrize("width", [80, 120])
def test_three_versions_fit(width: int) -> None:
    """Each with its column and its rate; what was refused rightly is no failure."""
    rows = tuple(replace(row, answered={1: 123_456, 2: 7_890, 3: 4_321}) for row in view().nodes)
    rates = {Version(number): 95.0 for number in (1, 2, 3)}
    three = replace(
        view(), versions=(Version(1), Version(2), Version(3)), nodes=rows, rates=rates, refused=1_234, done=0.5
    )
    lines = lines_of(render(three), width)
    assert all(len(line.rstrip()) <= width for line in lines)
    text = "\n".join(lines)
    assert "…" not in text
    assert all(f"v{number} calls" in text and f"v{number}   95 calls/s" in text for number in (1, 2, 3))
    assert all("123,456" in line and "4,321" in line for line in lines if line.strip().startswith("n1 "))
    assert "1,234 tries at the blocks of others, each refused as it must be" in text
    assert "0 of 6 on version 3" in text


@pytest.mark.parametrize("text", ["[/]", "[bold]x", "[/bold]"])
def test_brackets_are_shown_as_they_are(text: str) -> None:
    """They are no markup, on a terminal and in plain lines."""
    row = replace(view().nodes[0], zone=text, waits_for=text, phase=text)
    line = next(line for line in lines_of(render(replace(view(), nodes=(row,))), 120) if line.strip().startswith("n1 "))
    assert line.count(text) == 3
    console = Console(file=io.StringIO(), width=80)
    PlainWatch(console).show(replace(view(), step=text))
    assert isinstance(console.file, io.StringIO)
    assert text in console.file.getvalue()


def test_every_phase_has_one_meaning() -> None:
    """At rest, on the way or away; a simulating node is on the way."""
    at_rest = {Phase.NEW, Phase.FETCHING_FIRST, Phase.STARTING_FIRST, Phase.SERVING}
    assert at_rest | ON_THE_WAY | AWAY == set(Phase)
    assert len(at_rest) + len(ON_THE_WAY) + len(AWAY) == len(Phase)
    assert SIMULATING < ON_THE_WAY


def test_a_long_step_shows_how_far_it_is() -> None:
    lines = lines_of(render(replace(view(), done=0.4)), 80)
    assert any(line.rstrip().endswith("40%") for line in lines)


def test_nothing_is_known_yet() -> None:
    assert any(
        "Starting" in line for line in lines_of(render(replace(view(), step="Starting", nodes=(), rates={})), 80)
    )


@pytest.mark.parametrize("width", [80, 120])
def test_the_summary_tells_each_check(facts: Facts, width: int) -> None:
    checks = (
        Check(name="no client call failed", held=True, detail="calls: 6,000 of version 1, 1,000 of version 2"),
        Check(name="each node's process was replaced exactly once", held=False, detail="n2 was also process 150"),
    )
    lines = lines_of(summary(facts, checks, Path("demo-report/report.json"), Path("demo-report/timeline.png")), width)
    assert any("✓ no client call failed · calls: 6,000" in line for line in lines)
    assert any("✗ each node's process was replaced exactly once" in line for line in lines)
    assert any("1 of 2 did not hold" in line for line in lines)
    assert any("demo-report/report.json" in line for line in lines)
    assert all(len(line.rstrip()) <= width for line in lines)


@pytest.mark.parametrize("width", [80, 120])
def test_the_summary_says_what_held(facts: Facts, width: int) -> None:
    checks = tuple(Check(name=name, held=True, detail="") for name in ("one", "two"))
    lines = lines_of(summary(facts, checks, Path("report.json"), Path("timeline.png")), width)
    calls = f"{sum(row.calls for row in facts.calls):,}"
    words = f"All 2 checks held: {len(facts.nodes)} nodes, versions 1 to 2, {calls} calls, none failed."
    assert any(words in line for line in lines)


def test_nothing_is_said_of_calls_before_there_are_any() -> None:
    """Neither in the table nor in a line of its own."""
    before = replace(view(upgraded=0), calls=0, rates={}, nodes=())
    assert not any("failed" in line for line in lines_of(render(before), 80))
    console, now_s = Console(file=io.StringIO(), width=80), [0.0]
    watch = PlainWatch(console, monotonic=lambda: now_s[0])
    for _ in range(3):
        watch.show(before)
        now_s[0] += 6.0
    assert isinstance(console.file, io.StringIO)
    assert len(console.file.getvalue().splitlines()) == 1


def test_plain_lines_are_few() -> None:
    """A line per step, per node that changes its version, and every five seconds; never the same view twice."""
    now_s = [0.0]
    console = Console(file=io.StringIO(), width=80)
    watch = PlainWatch(console, monotonic=lambda: now_s[0])
    with watch:
        for _ in range(20):  # five seconds, less a bit
            watch.show(view(upgraded=2))
            now_s[0] += 0.249
        watch.show(view(upgraded=3))
        now_s[0] += 5.0
        watch.show(view(upgraded=3))
    assert isinstance(console.file, io.StringIO)
    assert [line.strip() for line in console.file.getvalue().splitlines()] == [
        "73.4 s  Nodes upgrade, while clients of both versions keep calling",
        "73.4 s  n3 now runs version 2",
        "73.4 s  3 of 6 nodes run version 2, 183 calls/s, 0 failed",
    ]


def test_what_is_no_terminal_gets_plain_lines() -> None:
    assert isinstance(watch_on(Console(file=io.StringIO())), PlainWatch)
    assert isinstance(watch_on(Console(file=io.StringIO(), force_terminal=True)), LiveWatch)


def test_live_draws_in_place() -> None:
    output = io.StringIO()
    with LiveWatch(Console(file=output, force_terminal=True, width=80, height=40)) as watch:
        watch.show(view(upgraded=2))
        watch.show(view(upgraded=3))
    assert "3 of 6 on version 2" in output.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_how_far_a_transform_is(width: int) -> None:
    """In place of the phase's name and in its width: the table does not jump."""
    plain = view()
    rows = [replace(row, phase="transforming", transformed=0.43) for row in plain.nodes]
    lines = lines_of(render(replace(plain, nodes=tuple(rows))), width)
    assert sum("transform  43%" in line for line in lines) == len(rows)
    assert len(lines) == len(lines_of(render(plain), width))
