"""Runs the `segue` command in the test's process, as a person's shell would see it."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from segue.cli import main


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def segue(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs `segue` with some arguments."""

    def run(*arguments: str) -> Outcome:
        monkeypatch.setattr("sys.argv", ["segue", *arguments])
        monkeypatch.setenv("SEGUE_LOG", "{}")  # `segue node` sets it for what it starts: it is put back
        status: int | str | None = 0
        try:
            main()
        except SystemExit as end:
            status = end.code
        said = capsys.readouterr()
        return Outcome(status if isinstance(status, int) else 1, said.out, said.err)

    return run
