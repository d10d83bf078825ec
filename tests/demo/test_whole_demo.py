"""The demo as a person runs it: real processes, a report, and nothing left behind."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(240)]

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder of a short path: sockets' paths have at most 107 bytes."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.fixture
def start(tmp_path: Path, temporary: Path) -> Iterator[Start]:
    data = tmp_path / "data"
    data.mkdir()
    for index in range(40):
        (data / f"{index}.txt").write_bytes(f"{index} ".encode() * (index * 100))
    environment = {name: value for name, value in os.environ.items() if name != "XDG_RUNTIME_DIR"}
    with ExitStack() as processes:

        def started(*arguments: str) -> "subprocess.Popen[str]":
            command = [sys.executable, "-m", "segue", "demo", "--data", str(data), "--report", str(tmp_path / "report")]
            process = subprocess.Popen(
                [*command, *arguments],
                env={**environment, "TMPDIR": str(temporary), "CI": "true"},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
            processes.enter_context(process)
            processes.callback(process.terminate)
            return process

        yield started


def left_behind(temporary: Path) -> Mapping[str, object]:
    """Return what is left: files in the temporary folder, and processes that were started with it."""
    mark = f"TMPDIR={temporary}".encode()
    processes = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                processes.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return {"files": [path.name for path in temporary.iterdir()], "processes": processes}


def test_upgrades_and_says_so(start: Start, tmp_path: Path, temporary: Path) -> None:
    process = start("--nodes", "3", "--seed", "7", "--no-open")
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert re.search(r"All \d+ checks held: 3 nodes, versions 1 to 2, [\d,]+ calls, none failed\.", output)
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [check["name"] for check in report["checks"] if not check["held"]] == []
    assert report["seed"] == 7
    assert report["files"]["read_back"] == {"1": 40, "2": 40}
    assert report["calls"]["failed"] == 0
    assert len({pid for node in report["nodes"] for pid in node["pids"]}) == 6
    assert report["max_away"] <= report["allowed_away"]
    assert report["hand_over"] == "port"
    assert (tmp_path / "report" / "timeline.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["report.json", "timeline.png"]
    assert left_behind(temporary) == {"files": [], "processes": []}


def test_a_bad_release_halts_on_its_canary(start: Start, tmp_path: Path, temporary: Path) -> None:
    process = start("--break", "--nodes", "3", "--seed", "7", "--no-open")
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert "failed: RuntimeError: this build cannot read its own blocks" in output
    assert re.search(r"version 2 got no further than its canary, [\d,]+ calls, none failed", " ".join(output.split()))
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [check["name"] for check in report["checks"] if not check["held"]] == []
    assert [node["version"] for node in report["nodes"]] == [1, 1, 1]
    assert left_behind(temporary) == {"files": [], "processes": []}


@pytest.mark.timeout(420)
def test_upgrades_twice_with_clients_of_three_versions(start: Start, tmp_path: Path, temporary: Path) -> None:
    process = start("--to", "3", "--nodes", "3", "--seed", "7", "--no-open")
    output, _ = process.communicate()
    assert process.returncode == 0, output
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [check["name"] for check in report["checks"] if not check["held"]] == []
    assert report["files"]["read_back"] == {"1": 40, "2": 40, "3": 40}
    # A node that waited may go through both releases at once.
    assert {len(set(node["pids"])) for node in report["nodes"]} <= {2, 3}
    private = report["calls"]["private"]
    ends = {version: list(row["refused"]) for version, row in private.items()}
    assert ends == {"1": ["NOT_FOUND"], "2": ["DISALLOWED"], "3": ["PERMISSION_DENIED"]}
    assert left_behind(temporary) == {"files": [], "processes": []}


@pytest.mark.parametrize(
    ("number", "step"),
    [
        (signal.SIGHUP, "Starting the upgrade server"),
        (signal.SIGTERM, "Starting 3 nodes"),
        (signal.SIGINT, "put and get at random"),
    ],
)
def test_ends_early_and_cleans_up(
    start: Start, tmp_path: Path, temporary: Path, number: signal.Signals, step: str
) -> None:
    """Ctrl-C, SIGTERM and the terminal's end end it, a second one no faster, and nothing is left."""
    process = start("--nodes", "3")
    assert process.stdout is not None
    while step not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(number)
    process.send_signal(number)
    output, _ = process.communicate()
    assert process.returncode == 128 + number, output
    assert "Traceback" not in output
    assert not (tmp_path / "report" / "report.json").exists()
    assert left_behind(temporary) == {"files": [], "processes": []}
