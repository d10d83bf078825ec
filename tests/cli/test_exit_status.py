"""A supervisor tells from the exit status of `segue node` whether to start it again."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segue.cli import node
from segue.errors import OperatorError, PeerError, SegueError


def ending(error: Exception) -> Callable[..., Any]:
    """Return an agent that ends at once."""

    async def run(*_: object) -> None:
        raise error

    return run


COMMAND = ["node", "--system", "s", "--class", "C", "--id", "n1", "--listen", "127.0.0.1:9001", "--state"]


@pytest.mark.parametrize("error", [OperatorError("the port is taken: stop what listens"), PeerError("nobody answers")])
def test_somebody_must_act(
    segue: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: SegueError
) -> None:
    monkeypatch.setattr(node, "run_agent", ending(error))
    outcome = segue(*COMMAND, str(tmp_path))
    assert outcome.status == 1
    assert outcome.err.splitlines()[-1] == f"segue: {error}"


@pytest.mark.parametrize("error", [ZeroDivisionError("x"), ExceptionGroup("tasks", [KeyError("x")])])
def test_a_fault_of_its_own(
    segue: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    error: Exception,
) -> None:
    """With the traceback in the log, in whatever form that is."""
    monkeypatch.setattr(node, "run_agent", ending(error))
    assert segue(*COMMAND, str(tmp_path)).status == 70
    (record,) = (record for record in caplog.records if record.levelno == logging.CRITICAL)
    assert record.exc_info
    assert record.exc_info[1] is error


@pytest.mark.parametrize("words", [["--log-format", "xml"], ["--log-level", "loud"], ["--poll-s", "soon"]])
def test_wrong_words(segue: Callable[..., Any], tmp_path: Path, words: list[str]) -> None:
    """Trying again is of no use."""
    assert segue(*COMMAND, str(tmp_path), *words).status == 2
