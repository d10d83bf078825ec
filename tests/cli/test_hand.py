"""Rule: each deed of an operator's is one command, which says what is so now, and keeps who did it and why."""

from collections.abc import Callable
from typing import Any

import pytest

from segue.model.hand import Deed


@pytest.fixture
def operate(segue: Callable[..., Any], served: Any) -> Callable[..., Any]:
    """Runs a command on the system of a server on which n1 runs version 1, n2 version 2."""
    served.publish(1, 2)
    served.beat("n1", 1)
    served.beat("n2", 2)

    def run(*words: str) -> Any:
        return segue(*words, "--system", "blockstore", "--server", served.url)

    return run


@pytest.fixture
def actions(served: Any) -> Callable[[], list[tuple[Any, ...]]]:
    """Returns what was kept: deed, who, why, release, node."""

    def kept() -> list[tuple[Any, ...]]:
        return [(one.deed, one.who, one.why, one.version, one.node) for one in served.store.actions_of("blockstore")]

    return kept


def test_each_deed_is_one_command(
    operate: Callable[..., Any], actions: Callable[[], list[tuple[Any, ...]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the login name, or by another that is given."""
    monkeypatch.delenv("SEGUE_OPERATOR", raising=False)
    monkeypatch.setenv("LOGNAME", "grace")
    outcome = operate("pause", "--why", "the disks are slow")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out.startswith("blockstore is paused: no node gets a permit until `segue resume`.\n")
    monkeypatch.setenv("SEGUE_OPERATOR", "night-shift")
    assert operate("resume").status == 0
    for words in (
        ("skip", "n1", "--as", "ada"),
        ("retry", "n1", "--as", "ada", "--release", "2"),
        ("force", "n1", "--as", "ada", "--why", "now"),
        ("abort", "--as", "ada"),
        ("retire", "1", "--as", "ada", "--force", "--why", "nobody calls"),
    ):
        outcome = operate(*words)
        assert (outcome.status, outcome.err) == (0, ""), words
        assert outcome.out
    assert actions() == [
        (Deed.PAUSE, "grace", "the disks are slow", None, None),
        (Deed.RESUME, "night-shift", "", None, None),
        (Deed.SKIP, "ada", "", 2, "n1"),
        (Deed.RETRY, "ada", "", 2, "n1"),
        (Deed.FORCE, "ada", "now", 2, "n1"),
        (Deed.ABORT, "ada", "", 2, None),
        (Deed.RETIRE, "ada", "nobody calls", 1, None),
    ]


def test_a_node_that_is_gone_is_forgotten(operate: Callable[..., Any], served: Any) -> None:
    served.clock.move(20)
    outcome = operate("forget", "n1")
    assert outcome.out.startswith("n1 is no longer of blockstore")
    outcome = operate("forget", "n1")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == "segue: system blockstore has no node n1: look at `segue status`\n"


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (("retire", "1"), 1, "needed to catch up by n1 at 1"),
        (("retire", "1", "--force"), 1, "needs a reason (--why)"),
        (("retire", "0"), 2, "version"),
        (("force", "n1"), 2, "--why"),
        (("skip", "n 1"), 1, "node id 'n 1'"),
        (("approve", "night"), 1, "no release of blockstore has a gate night"),
        (("pause", "--as", "a\tb"), 1, "--as 'a\\tb'"),
        (("retry", "n1", "--state", "/tmp/x"), 1, "not both"),
        (("retry",), 1, "which node?"),
    ],
)
def test_a_refusal_is_one_line(
    operate: Callable[..., Any], actions: Callable[[], list[Any]], words: tuple[str, ...], status: int, told: str
) -> None:
    """And nothing was done."""
    outcome = operate(*words)
    assert (outcome.status, outcome.out) == (status, "")
    (line,) = outcome.err.splitlines()
    assert told in line
    assert actions() == []
