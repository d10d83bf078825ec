"""A folder that is made is on disk under its name, whatever crash came before."""

from pathlib import Path

import pytest

from segue.release import durable


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What was synced, in order, with what was in it then."""
    seen: list[Path] = []
    real = durable.sync_path

    def sync(path: Path) -> None:
        seen.append(path)
        real(path)

    monkeypatch.setattr(durable, "sync_path", sync)
    return seen


def test_a_folder_is_made_when_the_name_above_it_is_on_disk(tmp_path: Path, synced: list[Path]) -> None:
    durable.make_folder(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").is_dir()
    assert synced == [tmp_path.parent, tmp_path, tmp_path / "a", tmp_path / "a" / "b"]


def test_a_folder_that_an_earlier_run_made_gets_its_name_on_disk(tmp_path: Path, synced: list[Path]) -> None:
    """The earlier run may have been killed between the two."""
    (tmp_path / "a").mkdir()
    durable.make_folder(tmp_path / "a" / "b")
    durable.make_folder(tmp_path / "a" / "b")
    assert synced == [tmp_path, tmp_path / "a", tmp_path / "a"]


def test_a_file_in_its_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(NotADirectoryError):
        durable.make_folder(tmp_path / "a" / "b")
    with pytest.raises(FileExistsError):
        durable.make_folder(tmp_path / "a")
