"""Rule: `segue server` takes its options as they are written, and refuses a wrong one in one line, before it begins."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from segue.cli import server
from segue.local.machine import free_ports
from segue.server.app import KEEP_HISTORY
from segue.server.webhooks import KEEP_S

URL = "postgresql://segue:secret@127.0.0.1:1/segue"


@pytest.fixture
def served(segue: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Runs `segue server` with some options, up to where the server would begin; returns what that is told."""

    def run(*options: str) -> dict[str, Any]:
        told: list[dict[str, Any]] = []

        def serve(where: Path | str, **more: Any) -> None:
            more["on_ready"]("http://h:1")
            told.append({"where": where, **more})

        monkeypatch.setattr(server, "serve", serve)
        outcome = segue("server", *options)
        assert (outcome.status, outcome.err) == (0, "")
        assert outcome.out == "upgrade server at http://h:1\n"
        (one,) = told
        return one

    return run


@pytest.fixture
def refused(segue: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs `segue server` with options that it refuses, and returns the one line that it says."""

    def run(*options: str, status: int) -> str:
        outcome = segue("server", *options)
        assert (outcome.status, outcome.out) == (status, "")
        (line,) = outcome.err.splitlines()
        assert line.startswith("segue: ")
        return str(line)

    monkeypatch.delenv("SEGUE_DATABASE", raising=False)
    return run


def test_what_is_taken_where_nothing_is_said(served: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    told = served("--data", str(tmp_path))
    assert (told["where"], told["host"], told["port"]) == (tmp_path, "127.0.0.1", 7000)
    assert (told["keep_history"], told["webhook_keep_s"]) == (KEEP_HISTORY, KEEP_S)


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        (["--keep-history-days", "0.5"], "keep_history", timedelta(hours=12)),
        (["--keep-history-days", "36500"], "keep_history", timedelta(days=36500)),
        (["--webhook-keep-s", "1"], "webhook_keep_s", 1.0),
        (["--webhook-keep-s", "2.5"], "webhook_keep_s", 2.5),
        (["--listen", "0.0.0.0:7001"], "host", "0.0.0.0"),
        (["--listen", "0.0.0.0:7001"], "port", 7001),
        (["--listen", "[::1]:65535"], "host", "::1"),
    ],
)
def test_what_is_said(
    served: Callable[..., dict[str, Any]], tmp_path: Path, options: list[str], name: str, value: object
) -> None:
    assert served("--data", str(tmp_path), *options)[name] == value


@pytest.mark.parametrize(
    ("options", "environment", "where"),
    [
        (["--database", URL], None, URL),
        ([], URL, URL),
        (["--database", f"{URL}2"], URL, f"{URL}2"),
        (["--data", "folder"], "", Path("folder")),
    ],
)
def test_where_the_database_is(
    served: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
    environment: str | None,
    where: Path | str,
) -> None:
    """What is empty in the environment is not said."""
    if environment is not None:
        monkeypatch.setenv("SEGUE_DATABASE", environment)
    assert served(*options)["where"] == where


@pytest.mark.parametrize(
    ("options", "named", "status"),
    [
        ([], "give --data FOLDER, or --database URL", 1),
        (["--data", "folder", "--database", URL], "give one of them", 1),
        (["--database", "mysql://h/segue"], "begins with mysql://: give it as postgresql://", 1),
        (["--database", "nonsense"], "URL is none: give it as postgresql://", 1),
        (["--keep-history-days", "0"], "'--keep-history-days': Input should be greater than or equal to", 2),
        (["--keep-history-days", "36501"], "'--keep-history-days': Input should be less than or equal to", 2),
        (["--keep-history-days", "inf"], "'--keep-history-days': Input should be less than or equal to", 2),
        (["--keep-history-days", "nan"], "'--keep-history-days': Input should be less than or equal to", 2),
        (["--keep-history-days", "long"], "'--keep-history-days': Input should be a valid number", 2),
        (["--webhook-keep-s", "0"], "'--webhook-keep-s': Input should be greater than or equal to", 2),
        (["--webhook-keep-s", "inf"], "'--webhook-keep-s': Input should be less than or equal to", 2),
        (["--webhook-keep-s", "nan"], "'--webhook-keep-s': Input should be less than or equal to", 2),
        (["--webhook-keep-s", "-1"], "'--webhook-keep-s': Input should be greater than or equal to", 2),
        (["--listen", "7000"], "address '7000': write HOST:PORT", 1),
        (["--listen", "127.0.0.1:0"], "write HOST:PORT", 1),
        (["--listen", "127.0.0.1:65536"], "write HOST:PORT", 1),
        (["--listen", "::1:7000"], "write HOST:PORT", 1),
        (["--listen", "unix:/run/segue.sock"], "write HOST:PORT", 1),
    ],
)
def test_what_is_refused(
    refused: Callable[..., str], tmp_path: Path, options: list[str], named: str, status: int
) -> None:
    """Each but those that are about where the database is have a good one of that."""
    about_it = not options or options[0] in ("--data", "--database")
    good = [] if about_it else ["--data", str(tmp_path / "data")]
    line = refused(*good, *options, status=status)
    assert named in line
    assert "secret" not in line
    assert not (tmp_path / "data").exists()


def test_both_where_the_environment_names_one(
    refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Somebody may not think of what is in the environment: it is named."""
    monkeypatch.setenv("SEGUE_DATABASE", URL)
    assert "SEGUE_DATABASE" in refused("--data", str(tmp_path / "data"), status=1)


def test_a_folder_that_is_a_file(refused: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (port,) = free_ports(1)
    line = refused("--data", str(tmp_path / "file"), "--listen", f"127.0.0.1:{port}", status=1)
    assert str(tmp_path / "file") in line
    assert "choose another data folder" in line
