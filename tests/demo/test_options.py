"""What a person can get wrong is one clear line, before anything is started."""

import importlib.util
import re
from pathlib import Path

import pytest

from segue.demo import options
from segue.demo.main_job import CLASS
from segue.demo.options import DemoOptions, find_example, find_files, require_matplotlib, rules_of
from segue.demo.script import open_picture, prepare, run
from segue.errors import OperatorError
from segue.model.ids import Version
from segue.schedule.rules import Budget


@pytest.mark.parametrize("to", [-1, 0, 1, 4])
def test_a_version_that_there_is_not(to: int) -> None:
    with pytest.raises(OperatorError, match=f"--to {to}: give 2 or 3,"):
        find_example(to)


def test_the_releases_from_the_first_to_the_last_asked_for() -> None:
    for to in (2, 3):
        releases = find_example(to).releases
        assert {version: folder.name for version, folder in releases.items()} == {
            version: f"blockstore-{version}" for version in range(1, to + 1)
        }
        assert list(releases) == sorted(releases)


@pytest.mark.parametrize("nodes", [0, 2, 33])
def test_too_few_or_too_many_nodes(nodes: int) -> None:
    with pytest.raises(OperatorError, match=f"--nodes {nodes}: give 3 to 32"):
        DemoOptions(nodes=nodes)


def test_only_version_2_can_be_broken() -> None:
    with pytest.raises(OperatorError, match="--break with --to 3: leave --to out"):
        DemoOptions(to=3, broken=True)


def test_data_that_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"--data .*nothing: this is not a folder"):
        DemoOptions(data=tmp_path / "nothing")


def test_a_file_in_the_reports_way(tmp_path: Path) -> None:
    (tmp_path / "report").write_text("")
    with pytest.raises(OperatorError, match=r"--report .*a file of that name is in the way"):
        DemoOptions(report=tmp_path / "report")


def test_a_folder_without_files(tmp_path: Path) -> None:
    (tmp_path / "data" / "inner").mkdir(parents=True)
    with pytest.raises(OperatorError, match="there is no file to store"):
        run(DemoOptions(data=tmp_path / "data", report=tmp_path / "report"))
    assert not (tmp_path / "report").exists()


def test_an_earlier_runs_report_and_logs_go(tmp_path: Path) -> None:
    """A report stands beside nothing that it is not of; what is somebody else's stays."""
    (tmp_path / "demo-logs").mkdir()
    for name in ("report.json", "timeline.png", "demo-logs/n1.log", "notes.txt"):
        (tmp_path / name).touch()
    prepare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_every_file_of_a_folder_is_found(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "b.bin").write_bytes(b"12345")
    (tmp_path / "inner" / "a.txt").write_bytes(b"123")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    source = find_files(tmp_path)
    assert (source.files, source.size_bytes) == (("b.bin", "inner/a.txt"), 8)


def test_by_default_the_standard_librarys_source() -> None:
    source = find_files(None)
    assert "asyncio/base_events.py" in source.files
    assert all(file.endswith(".py") for file in source.files)
    assert not any("site-packages" in file for file in source.files)


def test_matplotlib_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    folder = re.escape(str(Path(__file__).parents[2]))
    with pytest.raises(OperatorError, match=rf"pip install '{folder}\[demo\]'"):
        require_matplotlib()


def test_that_the_example_is_missing_is_said_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Who installed Segue without its repository is not sent to install matplotlib for nothing."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(options, "_REPOSITORY", tmp_path)
    with pytest.raises(OperatorError, match="clone the repository"):
        run(DemoOptions(report=tmp_path / "report"))


def test_the_schedule_is_the_releases_own() -> None:
    rules = rules_of(find_example(2).releases[Version(2)], CLASS)
    assert Budget(limit=1, per="zone") in rules.budgets
    assert Budget(limit=2) in rules.budgets
    assert rules.canary is not None


def test_no_picture_is_opened_in_ci_or_without_a_desktop(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DISPLAY", ":99")
    monkeypatch.setenv("CI", "true")
    assert not open_picture(tmp_path / "timeline.png")
    monkeypatch.delenv("CI")
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    assert not open_picture(tmp_path / "timeline.png")
