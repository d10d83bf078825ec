"""An agent that is started again says so, and a folder keeps its own name wherever it goes."""

import json
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from segue.errors import OperatorError
from segue.model.ids import ClassName, NodeId, SystemName
from segue.node.folders import Folders, Identity
from segue.node.runs import Run, begin_run

N1 = Identity(system=SystemName("blockstore"), class_name=ClassName("BlockNode"), node_id=NodeId("n1"))


@contextmanager
def agent_on(state: Path) -> Iterator[Run]:
    with closing(Folders(state, N1)) as folders:
        yield folders.agent


def test_each_agent_counts_itself_and_has_a_name_of_its_own(tmp_path: Path) -> None:
    seen = []
    for _ in range(3):
        with agent_on(tmp_path / "state") as run:
            seen.append(run)
    assert [run.starts for run in seen] == [1, 2, 3]
    assert len({run.run for run in seen}) == 3
    assert len({run.folder for run in seen}) == 1


def test_a_folder_that_is_moved_goes_on_counting(tmp_path: Path) -> None:
    with agent_on(tmp_path / "here") as first:
        pass
    (tmp_path / "here").rename(tmp_path / "there")
    with agent_on(tmp_path / "there") as second:
        assert (second.folder, second.starts) == (first.folder, 2)


def test_a_copy_counts_by_itself(tmp_path: Path) -> None:
    """So of two agents on copies the one that was started last is not taken for the other, started again."""
    with agent_on(tmp_path / "here"):
        pass
    shutil.copytree(tmp_path / "here", tmp_path / "copy", symlinks=True)
    with agent_on(tmp_path / "here") as one, agent_on(tmp_path / "copy") as two:
        assert (one.folder, one.starts) == (two.folder, two.starts)
        assert one.run != two.run


def test_an_empty_folder_has_another_name(tmp_path: Path) -> None:
    with agent_on(tmp_path / "one") as one, agent_on(tmp_path / "two") as two:
        assert one.folder != two.folder


def test_an_agent_that_is_refused_does_not_count(tmp_path: Path) -> None:
    """Else the one that is at work would be taken for one from before."""
    with agent_on(tmp_path), pytest.raises(OperatorError, match="in use by another agent"):
        Folders(tmp_path, N1)
    with agent_on(tmp_path) as second:
        assert second.starts == 2


@pytest.mark.parametrize("text", ["", "{", "[]", '{"folder": "a"}', '{"folder": "", "starts": 1, "run": "b"}'])
def test_a_count_that_is_none_is_told(tmp_path: Path, text: str) -> None:
    """And the folder can be claimed when it is removed."""
    (tmp_path / "starts.json").write_text(text)
    with pytest.raises(OperatorError, match=r"starts\.json: no count of starts .*: remove it"):
        Folders(tmp_path, N1)
    (tmp_path / "starts.json").unlink()
    with agent_on(tmp_path) as run:
        assert run.starts == 1


def test_a_node_starts_though_its_start_cannot_be_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A full disk, or one that is read only, keeps no node down; the count stays as it was."""
    first = begin_run(tmp_path)
    (tmp_path / "starts.partial").mkdir()  # nothing can be written there
    assert begin_run(tmp_path).starts == first.starts + 1
    assert "this start is not counted" in caplog.text
    assert json.loads((tmp_path / "starts.json").read_text())["run"] == first.run
