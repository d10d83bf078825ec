"""What `segue status` shows is what the server said, as it said it, and never old without saying so."""

import asyncio
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from segue.cli.conditions import progress_words
from segue.cli.status import View, draw_each, print_each, render
from segue.errors import OperatorError, PeerError
from segue.model.ids import SystemName
from segue.wire.messages import DiskRow, NodeStatus, ProgressRow, SystemStatus, UpgradeRow
from segue.wire.summary import Some, SystemSummary, WaitSummary

SYSTEM = SystemName("blockstore")
AT = datetime(2025, 6, 1, 12, 30, 15, tzinfo=UTC)


def node(**changes: object) -> NodeStatus:
    plain = NodeStatus(
        id="n1",
        class_name="BlockNode",
        version=1,
        address="127.0.0.1:9001",
        attributes={"zone": "a"},
        phase="serving",
        target_version=None,
        away=False,
        waits_for=None,
        pid=100,
        failure=None,
        facts={},
        last_seen=AT,
        answered={1: 1000},
        upgrades=(),
    )
    return plain.model_copy(update=changes)


def summary(now: SystemStatus, **changes: object) -> SystemSummary:
    """Return what the server says of such a system at a glance, as far as the tests here look at it."""
    alike: dict[str, list[str]] = {}
    for one in now.nodes:
        if one.waits_for:
            alike.setdefault(one.waits_for, []).append(one.id)
    plain = SystemSummary(
        system="blockstore", at=now.at, newest=0, oldest=1, description="", holds=(), halts=(),
        nodes=len(now.nodes), versions={},
        phases={}, classes=(), attributes=(), rollouts=(), away=Some(count=0, first=()), silent=Some(count=0, first=()),
        waits=tuple(
            WaitSummary(text=text, kind="", until=None, nodes=Some(count=len(nodes), first=tuple(nodes)))
            for text, nodes in alike.items()
        ),
        more_waits=0, failures=(), more_failures=0, callers=(),
    )  # fmt: skip
    return plain.model_copy(update={"system": now.system} | changes)


def view(now: SystemStatus) -> View:
    return View(summary(now), now)


def status(*nodes: NodeStatus) -> SystemStatus:
    return SystemStatus(system="blockstore", at=AT, releases=(), nodes=nodes, permits=(), usage=())


class Scripted:
    """An upgrade server that gives its answers in order, and then knows the system no more."""

    def __init__(self, *answers: SystemStatus | PeerError) -> None:
        self._answers: Sequence[SystemStatus | PeerError] = answers

    async def summary(self, system: SystemName) -> SystemSummary:
        if self._answers and isinstance(self._answers[0], SystemStatus):
            return summary(self._answers[0])
        await self.status(system)  # which raises
        raise AssertionError

    async def status(self, system: SystemName) -> SystemStatus:
        await asyncio.sleep(0)
        if not self._answers:
            raise OperatorError(f"there is no system {system}")
        answer, *self._answers = self._answers
        if isinstance(answer, PeerError):
            raise answer
        return answer


def shown(now: SystemStatus) -> str:
    console = Console(width=160, file=io.StringIO(), force_terminal=False)
    console.print(render(view(now)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("text", ["[/]", "[bold]x", "[/bold]", "a[red]b[/red]", "\\[x]", "[link=file:///]"])
@pytest.mark.parametrize("field", ["id", "class_name", "attributes", "phase", "waits_for", "failure"])
def test_brackets_are_shown_as_they_are(field: str, text: str) -> None:
    """They are no markup, wherever the server has them from."""
    assert text in shown(status(node(**{field: {"zone": text} if field == "attributes" else text})))


def test_brackets_in_names_of_attributes_and_system() -> None:
    now = status(node(attributes={"[/red]": "a"})).model_copy(update={"system": "[/x]"})
    assert "[/red]=a" in shown(now)
    assert "[/x]" in shown(now)


async def test_what_is_drawn_while_the_server_is_away_says_so() -> None:
    """And says so no more once it is back."""
    console = Console(width=100, file=io.StringIO(), force_terminal=True)
    server = Scripted(status(node(id="n1")), PeerError("gone"), status(node(id="n2")))
    with pytest.raises(OperatorError):
        await draw_each(server, SYSTEM, console, every_s=0)
    assert isinstance(console.file, io.StringIO)
    before, away, after = console.file.getvalue().split("blockstore")[1:4]
    words = f"as of {AT.astimezone():%H:%M:%S}; the server does not answer"
    assert [words in text for text in (before, away, after)] == [False, True, False]
    assert ["n1" in text for text in (before, away, after)] == [True, True, False]


async def test_json_goes_on_when_the_server_is_back(capsys: pytest.CaptureFixture[str]) -> None:
    """No line is printed twice, and the gap is told once, apart from the documents."""
    gone = PeerError("gone")
    server = Scripted(status(node(id="n1")), gone, gone, status(node(id="n2")))
    with pytest.raises(OperatorError):
        await print_each(server, SYSTEM, every_s=0)
    said = capsys.readouterr()
    assert [json.loads(line)["nodes"][0]["id"] for line in said.out.splitlines()] == ["n1", "n2"]
    (line,) = said.err.splitlines()
    assert "does not answer" in line
    assert "gone" in line


async def test_no_server_at_the_start_is_an_error() -> None:
    with pytest.raises(PeerError):
        await print_each(Scripted(PeerError("gone")), SYSTEM, every_s=0)


def test_a_node_that_does_not_report_is_not_shown_as_serving() -> None:
    """What it said last is old: the row and the headline say for how long. Whether it is too old, the server says."""
    text = shown(status(node(last_seen=AT - timedelta(seconds=23), silent=True), node(id="n2")))
    assert "silent: n1" in text
    assert "silent for 23 s, last serving" in text
    assert "silent" not in shown(status(node(last_seen=AT - timedelta(seconds=80))))


def test_a_failure_has_a_line_of_its_own() -> None:
    """However long, it is not cut into a narrow column."""
    failure = "blockstore/upgrade/state.py:41: " + "word " * 30
    console = Console(width=80, file=io.StringIO(), force_terminal=False)
    console.print(render(view(status(node(failure=failure)))))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert any(line.startswith("n1: blockstore/upgrade/state.py:41: word") for line in lines)


def test_which_versions_a_node_answers() -> None:
    """The oldest and the newest; nothing for a node that answers none yet."""
    lines = shown(status(node(answers=(1, 2, 3)), node(id="n2", answers=(2,)), node(id="n3"))).splitlines()
    rows = {line.split()[0]: line.split() for line in lines if line.startswith("n")}
    assert [rows[name][4] for name in ("n1", "n2", "n3")] == ["1-3", "2", "serving"]


def test_a_system_without_a_release() -> None:
    """There is no version 0."""
    assert "no release has been published" in shown(status(node(version=0, phase="new", answered={})))


def lines_at_100(now: SystemStatus, *, verbose: bool = False) -> list[str]:
    console = Console(width=100, file=io.StringIO(), force_terminal=False)
    console.print(render(view(now), verbose=verbose))
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        ({"items_done": 5_000, "items_total": 10_000, "seconds_left": 90.0}, "50 % of 10,000 items, 1 min left"),
        ({"items_done": 9, "items_total": 10, "bytes_done": 4_300, "bytes_total": 10_000}, "43 % of 10 kB"),
        ({"items_done": 9_999, "items_total": 10_000}, "99 % of 10,000 items"),
        ({"items_done": 10, "items_total": 10}, "100 % of 10 items"),
        ({"items_done": 0, "items_total": 0}, "100 % of 0 items"),
        ({"items_done": 4_300, "bytes_done": 120_000_000}, "4,300 items, 120 MB"),
        ({}, "begun"),
    ],
)
def test_how_far_a_transform_is(progress: dict[str, float], words: str) -> None:
    """As much as its author counts, and never more than is done."""
    row = ProgressRow.model_validate(progress)
    assert progress_words(row) == words
    now = status(node(phase="transforming", away=True, progress=row))
    assert f"transforming: {words}" in shown(now)


def test_a_node_that_tries_again_says_when() -> None:
    retry_at = AT + timedelta(seconds=40.4)
    failing = node(failure="it broke", attempts=1, attempts_limit=3, retry_at=retry_at)
    lines = lines_at_100(status(failing))
    assert "serving, failed, again in 40 s" in next(line for line in lines if line.startswith("n1 "))
    assert lines[lines.index("n1: it broke") + 1] == "  tries again in 40 s (attempt 2 of 3)"
    overdue = failing.model_copy(update={"attempts_limit": None, "retry_at": AT})
    assert "  tries again now (attempt 2)" in lines_at_100(status(overdue))
    beyond = failing.model_copy(update={"attempts": 3})  # a download is tried for ever
    assert "  tries again in 40 s (attempt 4)" in lines_at_100(status(beyond))


def test_a_node_that_gave_up_says_what_to_do() -> None:
    lines = lines_at_100(status(node(failure="it broke", attempts=3, waits_for_operator=True)))
    assert "serving, gave up" in next(line for line in lines if line.startswith("n1 "))
    assert "  gave up after 3 failures: `segue retry n1 --system blockstore`, or the next release" in lines


def test_what_an_operator_should_know_is_below_the_table() -> None:
    """And what is as it should be is not, unless it is asked for."""
    low, plenty = (
        DiskRow(state_bytes=3_400_000_000, old_bytes=0, releases_bytes=1, free_bytes=free, measured_at=AT)
        for free in (1_200_000_000, 10**11)
    )
    now = status(
        node(id="n1", disk=low), node(id="n2", disk=plenty), node(id="n3", hand_over="stop and start"),
        node(id="n4", crashes=2),
    )  # fmt: skip
    below = [line for line in lines_at_100(now) if line.startswith("n") and ": " in line]
    assert below == [
        "n1: disk low: 1.2 GB free, state 3.4 GB, and a transform may write as much as the state again",
        "n4: its process crashed 2 times since the agent began, and was started again",
        "n3: stop and start: the port is not handed over there, callers see a gap in each upgrade",
    ]
    verbose = lines_at_100(now, verbose=True)
    assert "n2: disk: state 3.4 GB, old states 0 B, releases 1 B, free 100 GB" in verbose
    assert set(below) < set(verbose)


def test_a_release_that_failed_its_probation_after_calls_were_answered() -> None:
    """There is no way back then: what was written would be lost."""
    row = UpgradeRow(
        from_version=1, to_version=3, pids=(1, 2), pause_ms=5321.2, install_future_ms=3, transform_ms=5290,
        transform_bytes=3, quiesced_at=AT, serving_at=AT, probation_failed=True,
    )  # fmt: skip
    text = " ".join(lines_at_100(status(node(version=3, upgrades=(row,))), verbose=True))
    assert "n1: version 3 failed its probation after it had answered calls: the way out is the next release" in text
    assert "n1: upgraded 1 → 3 0 s ago: pause 5,321 ms, of it transform 5,290 ms" in text


def test_it_fits_a_hundred_columns() -> None:
    """However much there is to say of a node."""
    progress = ProgressRow(items_done=1, items_total=9, bytes_done=10**9, bytes_total=10**10, seconds_left=7200)
    full = node(
        target_version=3, answers=(1, 2, 3), phase="transforming", away=True, progress=progress,
        answered={1: 123_456, 3: 2_000},
    )  # fmt: skip
    lines = lines_at_100(status(full, node(id="n2", failure="word " * 40, attempts=1, retry_at=AT)))
    assert all(len(line) <= 100 for line in lines)
    assert not any("…" in line for line in lines)
