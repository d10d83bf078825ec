"""What `segue status` shows of who still calls with which version."""

import io
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from segue.cli.usage import clients
from segue.wire.messages import SystemStatus, UsageStatus

AT = datetime(2025, 6, 1, 12, 30, 15, tzinfo=UTC)


def calls(
    caller: str, count: int, *, version: int = 1, ago_s: float = 1, from_node: bool = False, outcome: str = "OK"
) -> UsageStatus:
    return UsageStatus(
        node_version=2,
        caller_version=version,
        caller=caller,
        method="/s/Get",
        answered_by="current" if version == 2 else "past",
        from_node=from_node,
        outcome=outcome,
        count=count,
        last_at=AT - timedelta(seconds=ago_s),
    )


def shown(*usage: UsageStatus, width: int = 120) -> list[str]:
    now = SystemStatus(system="blockstore", at=AT, releases=(), nodes=(), permits=(), usage=usage)
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(clients(now) or "")
    assert isinstance(console.file, io.StringIO)
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    return [" ".join(line) for line in lines if line and line[0] in ("v1", "v2")]


def test_a_row_per_version() -> None:
    """Outcomes are added up; nodes are no clients."""
    usage = (calls("billing", 1000), calls("billing", 234, outcome="NOT_FOUND"), calls("stock", 5, version=2))
    assert shown(*usage, calls("n1", 7, from_node=True)) == ["v1 1,234 now billing", "v2 5 now stock"]


def test_who_still_calls_comes_first_and_the_busiest_of_them() -> None:
    usage = (
        calls("old", 9000, ago_s=7300),
        calls("lately", 1, ago_s=200),
        calls("small", 1),
        calls("large", 50, ago_s=59),
    )
    assert shown(*usage) == ["v1 9,052 now large, small, lately (3 min ago), old (2 h ago)"]


def test_a_few_are_named() -> None:
    assert shown(*(calls(f"c{number:02}", 1) for number in range(16))) == ["v1 16 now c00, c01, c02, c03 and 12 more"]


@pytest.mark.parametrize(("ago_s", "words"), [(61, "1 min"), (3599, "59 min"), (90_000, "1 d")])
def test_a_version_that_nobody_speaks_any_more(ago_s: float, words: str) -> None:
    assert shown(calls("billing", 3, ago_s=ago_s)) == [f"v1 3 {words} ago billing ({words} ago)"]


def test_brackets_are_shown_as_they_are() -> None:
    assert shown(calls("[/bold]", 1)) == ["v1 1 now [/bold]"]


def test_nothing_is_shown_before_the_first_call() -> None:
    assert shown() == []
    assert shown(calls("n1", 7, from_node=True)) == []
