"""Every error that a person can cause is one clear line on standard error, a status that is not zero, no traceback."""

import json
import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from segue.model.ids import ClassName, NodeId, SystemName
from segue.node.folders import Folders, Identity
from segue.testing.rig import changed

BLOCKSTORE = Path(__file__).parents[2] / "examples" / "blockstore"
NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def refused(segue: Callable[..., Any]) -> Callable[..., str]:
    """Runs a command that must fail, and returns its one line."""

    def run(*arguments: str, status: int = 1) -> str:
        outcome = segue(*arguments)
        assert outcome.status == status
        assert outcome.out == ""
        assert "Traceback" not in outcome.err
        line: str
        (line,) = outcome.err.splitlines()
        assert line.startswith("segue: ")
        return line

    return run


def node(state: Path, *more: str, listen: str = "127.0.0.1:9001", system: str = "blockstore") -> list[str]:
    return [
        "node", "--server", NOBODY, "--system", system, "--class", "BlockNode",
        "--id", "n1", "--listen", listen, "--state", str(state), *more,
    ]  # fmt: skip


def test_a_node_on_another_systems_folder(refused: Callable[..., str], tmp_path: Path) -> None:
    """Whose folder it is, who came, and what to do."""
    card = {"system": "photos", "class_name": "BlockNode", "node_id": "n1"}
    (tmp_path / "node.json").write_text(json.dumps(card))
    line = refused(*node(tmp_path))
    assert "belongs to node n1 (BlockNode) of system photos" in line
    assert "--state" in line
    assert json.loads((tmp_path / "node.json").read_text()) == card


def test_a_node_on_a_port_in_use(refused: Callable[..., str], tmp_path: Path) -> None:
    """Before anything is started."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        line = refused(*node(tmp_path / "state", listen=address))
    assert address in line
    assert "--listen" in line


def test_a_server_on_a_port_in_use(refused: Callable[..., str], tmp_path: Path) -> None:
    """Before anything is started."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        line = refused("server", "--data", str(tmp_path / "data"), "--listen", address)
    assert address in line


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--attribute", "zone", "NAME=VALUE"),
        ("--config", "missing.toml", "missing.toml"),
        ("--listen", "9001", "HOST:PORT"),
        ("--id", "n 1", "letters"),
        ("--system", "", "letters"),
        ("--poll-s", "0", "more than 0"),
        ("--max-message-mib", "0", "a whole number from 1 to 2047"),
        ("--max-message-mib", "2048", "a whole number from 1 to 2047"),
        ("--unlabelled", "newest", "use current, or one version"),
        ("--park-calls", "0", "a whole number, 1 or more"),
        ("--park-mib", "0", "a whole number, 1 or more"),
        ("--stream-grace-s", "-1", "0 seconds or more"),
        ("--drain-limit-s", "-1", "0 seconds or more"),
    ],
)
def test_a_node_with_a_wrong_option(
    refused: Callable[..., str], tmp_path: Path, option: str, value: str, named: str
) -> None:
    """The option or its value is named, with what would do."""
    assert named in refused(*node(tmp_path / "state", option, value), status=2)


def test_a_node_with_an_upgrade_server_that_is_no_url(refused: Callable[..., str], tmp_path: Path) -> None:
    """The client of the upgrade server says so, when the agent begins."""
    assert "http://" in refused(*node(tmp_path / "state", "--server", "127.0.0.1:7000"))


def test_settings_that_are_no_toml(refused: Callable[..., str], tmp_path: Path) -> None:
    """The file is named, and the place in it."""
    (tmp_path / "c.toml").write_text("members = \n")
    assert "c.toml" in refused(*node(tmp_path / "state", "--config", str(tmp_path / "c.toml")), status=2)


@pytest.mark.parametrize(
    "command", [["status", "--system", "blockstore"], ["status", "--system", "blockstore", "--json"]]
)
def test_no_upgrade_server_answers(refused: Callable[..., str], command: list[str]) -> None:
    """Its URL is named."""
    assert NOBODY in refused(*command, "--server", NOBODY)


@pytest.mark.parametrize("command", ["restart", "retry"])
def test_an_order_that_nobody_can_take(refused: Callable[..., str], tmp_path: Path, command: str) -> None:
    """It is no node's folder, or no agent runs there."""
    assert "is no node's state folder" in refused(command, "--state", str(tmp_path))
    Folders(tmp_path, Identity(system=SystemName("s"), class_name=ClassName("C"), node_id=NodeId("n1"))).close()
    line = refused(command, "--state", str(tmp_path))
    assert f"no agent runs on {tmp_path}: start it with `segue node`" in line
    assert "more than 0 seconds" in refused(command, "--state", str(tmp_path), "--timeout-s", "0")


def test_publishing_what_is_no_bundle(refused: Callable[..., str], tmp_path: Path) -> None:
    """Neither a missing file nor garbage is sent anywhere."""
    assert "segue build" in refused("publish", str(tmp_path / "missing.segue"), "--server", NOBODY)
    (tmp_path / "garbage.segue").write_bytes(b"x" * 2000)
    assert "bundle" in refused("publish", str(tmp_path / "garbage.segue"), "--server", NOBODY)


@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        ("release.toml", "version = 2", 'version = "two"', "release.version"),
        ("release.toml", 'BlockNode"', 'NoSuchNode"', "NoSuchNode"),
        ("release.toml", "upgrade:transform", "upgrade:transfrom", "transfrom"),
        ("release.toml", "blockstore.upgrade:", "blockstore.upgrades:", "blockstore.upgrades"),
        ("release.toml", "[release]", "[release", "release.toml"),
        ("blockstore/node.py", "class BlockNode", "class BlockNode(:", "node.py"),
    ],
)
def test_building_a_release_that_is_wrong(
    refused: Callable[..., str], tmp_path: Path, file: str, old: str, new: str, named: str
) -> None:
    """The file and the key, the name or the line are named, and no bundle is written."""
    folder = changed(BLOCKSTORE / "blockstore-2", tmp_path / "wrong", {file: {old: new}})
    bundle = tmp_path / "out.segue"
    previous = str(BLOCKSTORE / "blockstore-1")
    assert named in refused("build", str(folder), "--previous", previous, "--output", str(bundle))
    assert not bundle.exists()


def test_building_without_the_release_before(refused: Callable[..., str], tmp_path: Path) -> None:
    """What is missing is named."""
    line = refused("build", str(BLOCKSTORE / "blockstore-2"), "--output", str(tmp_path / "out.segue"))
    assert "previous" in line


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--nodes", "1"], "--nodes"),
        (["--data", "no-such-folder"], "no-such-folder"),
    ],
)
def test_a_demo_that_cannot_be(refused: Callable[..., str], tmp_path: Path, options: list[str], named: str) -> None:
    """Nothing is started."""
    assert named in refused("demo", "--report", str(tmp_path / "report"), *options)


@pytest.mark.parametrize("command", ["server", "node", "build", "publish", "status", "demo", "restart", "retry"])
def test_each_command_has_help(segue: Callable[..., Any], command: str) -> None:
    """It says what the command does and what each option is for."""
    outcome = segue(command, "--help")
    assert outcome.status == 0
    assert "Usage" in outcome.out
    assert len(outcome.out.splitlines()) > 12


@pytest.mark.parametrize(
    ("arguments", "named", "hint"),
    [
        (["upgrade-everything"], "upgrade-everything", "segue --help"),
        (["--bogus"], "--bogus", "segue --help"),
        (["demo", "--nodes", "abc"], "--nodes", "segue demo --help"),
        (["demo", "--bogus"], "--bogus", "segue demo --help"),
        (["demo", "word"], "word", "segue demo --help"),
        (["status"], "--system", "segue status --help"),
        (["server", "--data"], "--data", "segue --help"),
        (["build"], "folder", "segue build --help"),
        (["node", "--poll-s", "soon"], "--poll-s", "segue node --help"),
    ],
)
def test_words_that_are_no_command(segue: Callable[..., Any], arguments: list[str], named: str, hint: str) -> None:
    """A usage error is one line as well, with where to read on, and a status of its own."""
    outcome = segue(*arguments)
    assert (outcome.status, outcome.out) == (2, "")
    (line,) = outcome.err.splitlines()
    assert line.startswith("segue: ")
    assert named in line
    assert f"`{hint}`" in line


@pytest.mark.parametrize(("arguments", "status"), [([], 2), (["--help"], 0)])
def test_help(segue: Callable[..., Any], arguments: list[str], status: int) -> None:
    """Without a word, too, it says what there is."""
    outcome = segue(*arguments)
    assert (outcome.status, outcome.err) == (status, "")
    assert all(command in outcome.out for command in ("demo", "build", "publish", "status", "server", "node"))


def test_ctrl_c(segue: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that is interrupted ends as a shell expects it."""

    def interrupted(*arguments: object, **options: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr("segue.cli.release.build", interrupted)
    outcome = segue("build", ".")
    assert (outcome.status, outcome.out, outcome.err) == (130, "", "")
