"""A state folder belongs to one node of one system, and to one agent at a time."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from segue.errors import OperatorError
from segue.model.ids import ClassName, NodeId, SystemName, Version
from segue.node.folders import Folders, Identity, find_run_folder

NOON = datetime(2024, 5, 2, 12, 0, 0, tzinfo=UTC)


def identity(system: str = "blockstore", node: str = "n1") -> Identity:
    return Identity(system=SystemName(system), class_name=ClassName("BlockNode"), node_id=NodeId(node))


@contextmanager
def claimed(state: Path, who: Identity) -> Iterator[Folders]:
    with closing(Folders(state, who)) as folders:
        yield folders


def test_the_same_node_finds_its_folder_again(tmp_path: Path) -> None:
    """The sockets' folder too is where it was, so that processes that were left can be found."""
    with claimed(tmp_path / "state", identity()) as first:
        run = first.run
    with claimed(tmp_path / "state", identity()) as again:
        assert again.run == run


@pytest.mark.parametrize("other", [identity(system="other"), identity(node="n2")])
def test_another_node_is_refused(tmp_path: Path, other: Identity) -> None:
    """The message names whose folder it is and who came, and the folder stays as it was."""
    with claimed(tmp_path, identity()):
        pass
    with pytest.raises(OperatorError, match=r"belongs to node n1 \(BlockNode\) of system blockstore"):
        Folders(tmp_path, other)
    with claimed(tmp_path, identity()):
        pass


def test_a_wrong_class_can_be_mended_before_the_first_start(tmp_path: Path) -> None:
    """A slip on the command line does not cost the folder; once the node ran, its class stays."""
    slip = Identity(system=SystemName("blockstore"), class_name=ClassName("BlokNode"), node_id=NodeId("n1"))
    with claimed(tmp_path, slip):
        pass
    with claimed(tmp_path, identity()) as folders:
        folders.journal.write_text("{}")
    with pytest.raises(OperatorError, match="belongs to"):
        Folders(tmp_path, slip)


def test_two_agents_do_not_share_a_folder(tmp_path: Path) -> None:
    """The second is told, and the first keeps it."""
    with ExitStack() as stack:
        stack.enter_context(claimed(tmp_path, identity()))
        with pytest.raises(OperatorError, match="in use by another agent"):
            Folders(tmp_path, identity())


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """A file in the way is named."""
    (tmp_path / "state").write_text("")
    with pytest.raises(OperatorError, match="state"):
        Folders(tmp_path / "state", identity())


def test_a_card_that_is_none_is_refused(tmp_path: Path) -> None:
    """Somebody else's node.json is not taken for ours."""
    (tmp_path / "node.json").write_text('{"name": "x"}')
    with pytest.raises(OperatorError, match=r"node\.json"):
        Folders(tmp_path, identity())


def test_sockets_have_short_paths_however_deep_the_state_is(tmp_path: Path) -> None:
    """A Unix socket's path has at most 107 bytes."""
    deep = tmp_path.joinpath(*["folder-with-a-long-name"] * 8)
    with claimed(deep, identity()) as folders:
        assert len(str(folders.control(1_000_000))) < 108


def test_discard_removes_whole_folders_and_minds_none(tmp_path: Path) -> None:
    """It may be asked twice."""
    with claimed(tmp_path, identity()) as folders:
        (folders.object(Version(1)) / "blocks").mkdir(parents=True)
        folders.discard(folders.states(Version(1)))
        folders.discard(folders.states(Version(1)))
        assert not folders.states(Version(1)).exists()
        assert list(folders.making.iterdir()) == []


def test_two_may_discard_at_once(tmp_path: Path) -> None:
    """An upgrade makes room for itself while old states are looked through."""
    versions = [Version(number) for number in range(1, 101)]
    with claimed(tmp_path, identity()) as folders, ThreadPoolExecutor(8) as several:
        for version in versions:
            folders.object(version).mkdir(parents=True)
        for _ in several.map(lambda version: folders.discard(folders.states(version)), sorted([*versions] * 8)):
            pass
        assert list((tmp_path / "states").iterdir()) == list(folders.making.iterdir()) == []


def test_a_past_simulations_folder_outlives_its_object(tmp_path: Path) -> None:
    """What is removed with the object is all else of that version; it may be asked twice."""
    with claimed(tmp_path, identity()) as folders:
        for version in (Version(1), Version(2)):
            (folders.object(version) / "blocks").mkdir(parents=True)
            (folders.states(version) / "transform.json").touch()
        (folders.past(Version(2)) / "names").mkdir(parents=True)
        for _ in range(2):
            folders.supersede(Version(1), NOON)
            folders.supersede(Version(2), NOON)
        assert not folders.states(Version(1)).exists()  # nothing came before it
        assert list(folders.states(Version(2)).iterdir()) == [folders.past(Version(2))]
        assert (folders.past(Version(2)) / "names").exists()


def test_a_superseded_state_is_kept_until_its_time_has_come(tmp_path: Path) -> None:
    """Whole, and under a name that tells since when: no file beside it could be lost."""
    with claimed(tmp_path, identity()) as folders:
        (folders.object(Version(1)) / "blocks").mkdir(parents=True)
        folders.supersede(Version(1), NOON)
        ((kept, since),) = folders.old_states().items()
        assert (since, list(kept.iterdir())) == (NOON, [kept / "blocks"])
        folders.remove_old(())
        assert kept.exists()
        folders.remove_old((kept, tmp_path / "states"))
        assert folders.old_states() == {}
        assert (tmp_path / "states").exists()


def test_sockets_that_would_be_too_deep_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says which setting to change; the folder can be claimed afterwards."""
    deep = tmp_path / ("long" * 20)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    with pytest.raises(OperatorError, match="XDG_RUNTIME_DIR"):
        Folders(tmp_path / "state", identity())
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path.parent))
    with claimed(tmp_path / "state", identity()):
        pass


def test_a_folder_that_is_let_go_leaves_no_sockets_behind(tmp_path: Path) -> None:
    """Those of processes that died are removed, too."""
    with claimed(tmp_path, identity()) as folders:
        folders.control(1).touch()
    assert not folders.run.exists()


def test_a_runtime_folder_that_is_not_there_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable outlives its folder after `su`; sockets then go to the temporary folder."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    with claimed(tmp_path / "state", identity()) as folders:
        assert folders.run.is_dir()
        assert tmp_path / "missing" not in folders.run.parents


def test_the_sockets_are_found_in_any_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator's shell has not the variables that the agent's supervisor set."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path.parent))
    with claimed(tmp_path / "state", identity()) as first:
        assert first.run.parent == tmp_path.parent
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        assert find_run_folder(tmp_path / "state") == first.run
    with claimed(tmp_path / "state", identity()) as second:
        assert find_run_folder(tmp_path / "state") == second.run != first.run


def test_processes_are_found_in_any_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that a supervisor starts finds what one in a shell has left; two on one state would be the end of it."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path.parent))
    with socket.socket(socket.AF_UNIX) as left, claimed(tmp_path / "state", identity()) as first:
        left.bind(str(first.control(7)))
        left.listen()
        first.close()
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        with claimed(tmp_path / "state", identity()) as second:
            assert second.control(7) == first.control(7)
            assert find_run_folder(tmp_path / "state") == first.run


def test_a_folder_that_is_no_nodes_has_no_sockets(tmp_path: Path) -> None:
    """And none is made by looking."""
    with pytest.raises(OperatorError, match="is no node's state folder"):
        find_run_folder(tmp_path / "state")
    assert not (tmp_path / "state").exists()
