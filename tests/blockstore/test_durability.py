"""A block whose Put was acknowledged survives kill -9, and one that was half written is not there."""

import os
import signal
import subprocess
import sys
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
}


def content(number: int) -> bytes:
    return (b"%d " % number) * 20_000


@pytest.mark.parametrize("version", [1, 2])
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
    blocks = releases[version].resolve("blockstore.blocks:Blocks")(tmp_path)
    blocks.open()
    key_of = releases[version].resolve({1: "blockstore.blocks:key_of", 2: "blockstore.block:key_of"}[version])
    for number in range(acknowledged + 1):
        found = blocks.read(key_of(content(number)))
        assert (found if version == 1 else found[0]) == content(number)
    assert all(blocks.read(key) is not None for key in blocks)


@pytest.mark.parametrize("version", [1, 2])
def test_a_write_that_fails_leaves_nothing_behind(
    tmp_path: Path, releases: dict[int, Any], monkeypatch: pytest.MonkeyPatch, version: int
) -> None:
    """Here it fails as at a crash: after the bytes are written, before they have their name."""
    module = releases[version].load("blockstore.blocks")
    blocks = module.Blocks(tmp_path)
    blocks.open()
    key_of = releases[version].resolve({1: "blockstore.blocks:key_of", 2: "blockstore.block:key_of"}[version])
    stored = content(1) if version == 1 else releases[2].resolve("blockstore.block:compress")(content(1))

    class Killed(BaseException):
        pass

    def kill(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(module.os, "replace", kill)
        with pytest.raises(Killed):
            blocks.write(key_of(content(1)), stored)
    assert list(blocks) == []
    assert len(list((tmp_path / "incoming").iterdir())) == 1
    blocks.open()
    assert list((tmp_path / "incoming").iterdir()) == []
    blocks.write(key_of(content(1)), stored)
    assert list(blocks) == [key_of(content(1))]
