"""What happened, and how one node is, in a terminal: in whole lines, with who and why."""

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from segue.cli.history import entries_of, line
from segue.errors import OperatorError, PeerError
from segue.model.history import Kind
from segue.model.ids import SystemName
from segue.testing.server import SYSTEM
from segue.wire.hand import HistoryEntry, HistoryPage


@pytest.fixture
def operate(segue: Callable[..., Any], served: Any) -> Callable[..., Any]:
    """Runs a command on the system of a server on which n1 failed by version 2, and n2 waits."""
    served.publish(1, 2, description="SHA-256 keys")
    served.beat("n1")
    served.beat("n2")

    def run(*words: str) -> Any:
        outcome = segue(*words, "--system", "blockstore", "--server", served.url)
        assert outcome.err == ""
        return outcome

    run("pause", "--as", "ada", "--why", "lunch")
    run("resume", "--as", "ada")
    served.clock.move(1)
    served.give_back("n1", served.ask("n1").permit, "it broke: " + "a long word " * 20)
    served.beat("n1", failure="it broke", failure_details="Traceback: line 1\n  line 2", waits_for_operator=True)
    run("force", "n2", "--as", "ada", "--why", "it must")
    return run


def test_a_line_for_each_thing(operate: Callable[..., Any]) -> None:
    """However long; the last ones, or all."""
    lines = operate("history").out.splitlines()
    assert [line[:21] for line in lines] == [*["2030-01-01 12:00:00  "] * 6, *["2030-01-01 12:00:01  "] * 4]
    assert [line[21:] for line in lines[:7]] == [
        "release 1 published: SHA-256 keys",
        "release 2 published: SHA-256 keys",
        "n1: joined BlockNode",
        "n2: joined BlockNode",
        "ada: pause: lunch",
        "ada: resume",
        "n1: granted from 1 to 2",
    ]
    assert lines[7][21:].startswith("n1: returned it broke: a long word a long")
    assert lines[8].endswith("n1: failed it broke")
    assert lines[9].endswith("ada: force (an override) release 2, node n2: it must")
    assert operate("history", "--last", "2").out.splitlines() == lines[-2:]
    assert operate("history", "--kind", "acted").out.splitlines() == [lines[4], lines[5], lines[9]]
    assert operate("history", "--node", "n1").out.splitlines() == [
        lines[2],
        f"{lines[2][:21]}n1: phase serving",
        *lines[6:9],
    ]


def test_what_was_done_by_force_is_called_an_override() -> None:
    shown = HistoryEntry.model_validate(
        {
            "number": 1, "at": "2030-01-01T12:00:00Z", "kind": Kind.ACTED, "version": 1, "who": "ada",
            "text": "it must", "details": {"deed": "retire", "forced": True},
        }
    )  # fmt: skip
    assert line(shown).plain.endswith("ada: retire (an override) release 1: it must")


def test_programs_get_a_document_per_line(operate: Callable[..., Any]) -> None:
    documents = [json.loads(line) for line in operate("history", "--json").out.splitlines()]
    assert [one["kind"] for one in documents[-2:]] == ["failed", "acted"]
    assert documents[-1]["details"] == {"deed": "force"}


def test_one_node(operate: Callable[..., Any], served: Any) -> None:
    """Its failure with the traceback, and what happened to it last."""
    out = operate("node-status", "n1").out
    lines = out.splitlines()
    assert lines[:3] == [
        "n1  BlockNode at 127.0.0.1:9001",
        "version 1",
        "phase serving, gave up, seen 0 s ago",
    ]
    assert "n1: it broke" in lines
    assert "  gave up after a failure: `segue retry n1 --system blockstore`, or the next release" in lines
    assert "Traceback: line 1\n  line 2" in out
    assert lines[-3].endswith("n1: granted from 1 to 2")
    assert json.loads(operate("node-status", "n1", "--json").out)["node"]["failure"] == "it broke"


def test_a_node_that_is_not_there(segue: Callable[..., Any], served: Any) -> None:
    served.publish(1)
    outcome = segue("node-status", "n9", "--system", "blockstore", "--server", served.url)
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == "segue: system blockstore has no node n9: look at `segue status`\n"


def test_a_halt_has_a_line_of_its_own(segue: Callable[..., Any], served: Any) -> None:
    """With the release and the class that it is of; so has its end, with who and how."""
    served.publish(1, 2, schedule="max_unavailable = 1\nfailure_budget = 1")
    served.beat("n1")
    served.give_back("n1", served.ask("n1").permit, "it broke")

    def lines(*words: str) -> list[str]:
        outcome = segue(*words, "--system", "blockstore", "--server", served.url)
        return [line[21:] for line in outcome.out.splitlines()]

    segue("retry", "n1", "--as", "ada", "--system", "blockstore", "--server", served.url)
    assert lines("history", "--kind", "halted", "--kind", "lifted") == [
        "release 2 halted for BlockNode: 1 of 1 failures (n1 failed)",
        "release 2 is halted no more for BlockNode: retry n1 by ada",
    ]


class Scripted:
    """Gives its answers in order, and then knows the system no more."""

    def __init__(self, *answers: HistoryPage | PeerError) -> None:
        self.answers = list(answers)
        #: (after, last, before)
        self.asked: list[tuple[int, int | None, int | None]] = []

    async def history(
        self,
        system: SystemName,
        *,
        after: int = 0,
        last: int | None = None,
        before: int | None = None,
        node: str | None = None,
        kinds: tuple[str, ...] = (),
    ) -> HistoryPage:
        await asyncio.sleep(0)
        self.asked.append((after, last, before))
        if not self.answers:
            raise OperatorError("gone")
        answer = self.answers.pop(0)
        if isinstance(answer, PeerError):
            raise answer
        return answer


def page(*numbers: int, more: bool = False, before: bool = False, up_to: int | None = None) -> HistoryPage:
    entries = tuple(
        HistoryEntry.model_validate({"number": number, "at": "2030-01-01T12:00:00Z", "kind": Kind.JOINED, "node": "n1"})
        for number in numbers
    )
    more_after, more_before = numbers[-1] if more else None, numbers[0] if before else None
    return HistoryPage(entries=entries, more_after=more_after, more_before=more_before, up_to=up_to)


async def told(source: Scripted, last: int) -> list[int]:
    return [entry.number async for entry in entries_of(source, SYSTEM, last=last)]


async def test_the_last_entries_of_a_long_history_are_one_question() -> None:
    source = Scripted(page(8, 9, before=True, up_to=9))
    assert await told(source, 2) == [8, 9]
    assert source.asked == [(0, 2, None)]


async def test_more_of_the_last_entries_than_are_told_at_once_are_read_backwards() -> None:
    source = Scripted(page(*range(1002, 2002), before=True), page(*range(2, 1002), before=True), page(1))
    assert await told(source, 2001) == list(range(1, 2002))
    assert source.asked == [(0, 1000, None), (0, 1000, 1002), (0, 1, 2)]
    source = Scripted(page(*range(1002, 2002), before=True), page(1, 2))
    assert await told(source, 5000) == [1, 2, *range(1002, 2002)]


async def test_all_of_it_is_read_from_its_beginning() -> None:
    source = Scripted(page(1, 2, more=True, up_to=2), page(3, up_to=7))
    assert await told(source, 0) == [1, 2, 3]
    assert source.asked == [(0, None, None), (2, None, None)]


async def test_a_server_that_is_too_old_to_tell_the_last_entries() -> None:
    """It knows no `last`, and tells the first ones."""
    source = Scripted(page(1, 2, 3, more=True), page(4, 5))
    assert await told(source, 2) == [4, 5]
    assert source.asked == [(0, 2, None), (3, None, None)]


async def test_what_comes_is_shown_once_and_none_is_missed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also if the server is away for a while, which is said once; and nothing is looked at twice."""
    monkeypatch.setattr("segue.cli.history._FOLLOW_S", 0)
    gone = PeerError("no answer")
    pages = (page(4, up_to=6), page(up_to=90), gone, gone, page(95, up_to=95, more=True), page(96, up_to=99))
    source = Scripted(page(2, 3, up_to=3), *pages)
    seen = []
    with suppress(OperatorError):
        async for entry in entries_of(source, SYSTEM, last=2, follow=True):
            seen.append(entry.number)
    assert seen == [2, 3, 4, 95, 96]
    assert [after for after, _, _ in source.asked] == [0, 3, 6, 90, 90, 90, 95, 99]
    assert capsys.readouterr().err.count("no answer") == 1
