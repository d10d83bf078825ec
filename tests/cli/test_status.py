"""What `segue status` shows is what the server said, as it said it, and never old without saying so."""

import asyncio
import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from segue.cli.status import draw_each, print_each, render
from segue.errors import OperatorError, PeerError
from segue.model.ids import SystemName
from segue.wire.messages import NodeStatus, SystemStatus

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


def status(*nodes: NodeStatus) -> SystemStatus:
    return SystemStatus(system="blockstore", at=AT, releases=(), nodes=nodes, permits=(), usage=())


class Scripted:
    """An upgrade server that gives its answers in order, and then knows the system no more."""

    def __init__(self, *answers: SystemStatus | PeerError) -> None:
        self._answers: Sequence[SystemStatus | PeerError] = answers

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
    console.print(render(now))
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
    """What it said last is old: the row and the headline say for how long."""
    text = shown(status(node(last_seen=AT - timedelta(seconds=23)), node(id="n2")))
    assert "silent: n1" in text
    assert "silent for 23 s, last serving" in text
    assert "silent" not in shown(status(node(last_seen=AT - timedelta(seconds=10))))


def test_a_failure_has_a_line_of_its_own() -> None:
    """However long, it is not cut into a narrow column."""
    failure = "blockstore/upgrade/state.py:41: " + "word " * 30
    console = Console(width=80, file=io.StringIO(), force_terminal=False)
    console.print(render(status(node(failure=failure))))
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
