"""Of a process's counts the reader is offered what it has not acknowledged, and in the end it has all."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.layer.usage import Unreported, Usage
from segue.model.ids import Version
from segue.model.usage import CallKey


@pytest.fixture
def usage() -> Usage:
    return Usage()


@pytest.fixture
def unreported(usage: Usage) -> Unreported:
    return Unreported(usage)


def count(usage: Usage, *callers: str) -> None:
    for caller in callers:
        usage.tally(Version(1), "/s/Get", "current", False, Version(1))[caller]["OK"] += 1


def by_caller(counts: Mapping[CallKey, int]) -> dict[str, int]:
    return {key.caller: count for key, count in counts.items()}


def test_only_what_has_grown_is_offered(usage: Usage, unreported: Unreported) -> None:
    count(usage, "a", "b")
    first = unreported.take(0, 10)
    assert by_caller(first.counts) == {"a": 1, "b": 1}
    count(usage, "b")
    second = unreported.take(first.number, 10)
    assert by_caller(second.counts) == {"b": 2}
    assert unreported.take(second.number, 10).counts == {}


def test_what_is_not_acknowledged_is_offered_again(usage: Usage, unreported: Unreported) -> None:
    count(usage, "a")
    first = unreported.take(0, 10)
    count(usage, "b")
    unreported.take(first.number, 10)
    count(usage, "b")
    assert by_caller(unreported.take(first.number, 10).counts) == {"b": 2}
    assert by_caller(unreported.rest()) == {"b": 2}


def test_a_reader_that_knows_nothing_is_offered_all(usage: Usage, unreported: Unreported) -> None:
    """As after a restart of the agent; and only once."""
    count(usage, "a")
    first = unreported.take(0, 10)
    unreported.take(first.number, 10)
    again = unreported.take(0, 10)
    assert by_caller(again.counts) == {"a": 1}
    assert unreported.take(again.number, 10).counts == {}


def test_no_batch_is_larger_than_is_wanted(usage: Usage, unreported: Unreported) -> None:
    count(usage, *"abcde")
    number, seen = 0, []
    for _ in range(3):
        batch = unreported.take(number, 2)
        number = batch.number
        seen.append((len(batch.counts), batch.more))
    assert seen == [(2, True), (2, True), (1, False)]
    assert unreported.rest().keys() == batch.counts.keys()


@given(
    steps=st.lists(st.sampled_from("abc") | st.sampled_from(["heard", "lost", "restart"]), max_size=40),
    limit=st.integers(1, 3),
)
def test_the_reader_has_all_in_the_end(steps: list[str], limit: int) -> None:
    """Whatever is lost on the way, and however often the reader forgets where it was."""
    usage = Usage()
    unreported = Unreported(usage)
    number = 0
    kept: dict[CallKey, int] = {}
    for step in [*steps, *["heard"] * 5]:
        match step:
            case "heard":
                batch = unreported.take(number, limit)
                kept.update(batch.counts)
                number = batch.number
            case "lost":
                unreported.take(number, limit)
            case "restart":
                number = 0
            case caller:
                count(usage, caller)
    assert kept == usage.counts()
