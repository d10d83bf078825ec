"""A block whose Put was acknowledged survives kill -9, and one that was half written is not there."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WRITE = {
    1: """
import pathlib, sys
from blockstore.blocks import Blocks, key_of
blocks = Blocks(pathlib.Path(sys.argv[1]))
blocks.open()
for number in range(1_000_000):
    data = (b"%d " % number) * 20_000
    blocks.write(key_of(data), data)
    print(number, flush=True)
""",
    2: """
import pathlib, sys
from blockstore.block import compress, key_of
from blockstore.blocks import Blocks
blocks = Blocks(pathlib.Path(sys.argv[1]))
blocks.open()
for number in range(1_000_000):
    data = (b"%d " % number) * 20_000
    blocks.write(key_of(data), compress(data))
    print(number, flush=True)
""",
    3: """
import pathlib, sys
from blockstore.block import compress, key_of
from blockstore.blocks import Files
blocks = Files(pathlib.Path(sys.argv[1]), "ring")
blocks.open()
for number in range(1_000_000):
    data = (b"%d " % number) * 20_000
    blocks.write(key_of(data), compress(data))
    print(number, flush=True)
""",
}

#: `{version: a node's blocks in a folder}`
OPEN: dict[int, Callable[[Any, Path], Any]] = {
    1: lambda module, folder: module.Blocks(folder),
    2: lambda module, folder: module.Blocks(folder),
    3: lambda module, folder: module.Files(folder, "ring"),
}


def listed(blocks: Any) -> list[Any]:
    return list(blocks.listed() if hasattr(blocks, "listed") else blocks)


def content(number: int) -> bytes:
    return (b"%d " % number) * 20_000


@pytest.mark.parametrize("version", [1, 2, 3])
def test_what_was_acknowledged_survives_kill_9(
    tmp_path: Path, example: Path, releases: dict[int, Any], version: int
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(example / f"blockstore-{version}")}
    with subprocess.Popen(
        [sys.executable, "-c", WRITE[version], str(tmp_path)], stdout=subprocess.PIPE, env=environment, text=True
    ) as writer:
        assert writer.stdout is not None
        for _ in range(200):
            acknowledged = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
    blocks = OPEN[version](releases[version].load("blockstore.blocks"), tmp_path)
    blocks.open()
    key_of = releases[version].resolve("blockstore.blocks:key_of" if version == 1 else "blockstore.block:key_of")
    for number in range(acknowledged + 1):
        found = blocks.read(key_of(content(number)))
        assert (found if version == 1 else found[0]) == content(number)
    assert all(blocks.read(key) is not None for key in listed(blocks))


@pytest.mark.parametrize("version", [1, 2, 3])
def test_a_write_that_fails_leaves_nothing_behind(
    tmp_path: Path, releases: dict[int, Any], monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    """Here it fails as at a crash: after the bytes are written, before they have their name."""
    module = releases[version].load("blockstore.blocks")
    blocks = OPEN[version](module, tmp_path)
    blocks.open()
    incoming = next(tmp_path.glob("*incoming"))
    key_of = releases[version].resolve("blockstore.blocks:key_of" if version == 1 else "blockstore.block:key_of")
    stored = content(1) if version == 1 else releases[version].resolve("blockstore.block:compress")(content(1))

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(module.os, "replace", kill)
        with pytest.raises(Killed):
            blocks.write(key_of(content(1)), stored)
    assert listed(blocks) == []
    assert len(list(incoming.iterdir())) == 1
    blocks.open()
    assert list(incoming.iterdir()) == []
    blocks.write(key_of(content(1)), stored)
    assert listed(blocks) == [key_of(content(1))]
