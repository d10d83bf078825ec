"""What a release requires is on the node before anything of the release runs, or the old version serves on."""

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from segue.local import LocalSettings
from segue.model.ids import ClassName, NodeId, SystemName
from segue.testing.rig import Rig, changed, rigged
from segue.testing.wheels import Index, Wheel, make_wheel, serving_index

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(120)]

N1 = NodeId("n1")
NODE = "blockstore/node.py"
SETTINGS = LocalSettings(system=SystemName("blockstore"), class_name=ClassName("BlockNode"), nodes=1)

#: What the object of each version asks of its library when it starts.
CODE = """
import stamps
import importlib.metadata
assert stamps.VERSION == importlib.metadata.version("stamps") == "{0}.0", stamps.VERSION
assert stamps.DATA == "data of {0}.0", stamps.DATA
import segue
"""


def stamps(version: int) -> Wheel:
    """Return a wheel of the library that both releases require, in the version for one of them."""
    code = "import importlib.resources\nVERSION = {0!r}\n"
    code += 'DATA = importlib.resources.files("stamps").joinpath("data.txt").read_text()\n'
    files = {"stamps/__init__.py": code.format(f"{version}.0"), "stamps/data.txt": f"data of {version}.0"}
    return make_wheel("stamps", f"{version}.0", files)


@pytest.fixture
def requiring(releases: dict[int, Path], tmp_path: Path) -> Callable[..., Path]:
    """Makes a release of a version that requires a wheel, and ships it or not."""

    def requiring(version: int, wheel: Wheel, *, ships: bool) -> Path:
        code = {"import segue\n": CODE.format(version)}
        release = changed(releases[version], tmp_path / f"requiring-{version}", {NODE: code})
        (release / "requirements.txt").write_text(wheel.line())
        if ships:
            wheel.write(release / "wheels")
        return release

    return requiring


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    """An index on loopback, which is that of all nodes."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving_index() as index:
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        yield index


async def test_two_versions_of_a_library_without_a_network(
    requiring: Callable[..., Path],
    calling: Callable[[int, str], AbstractAsyncContextManager[Any]],
    tmp_path: Path,
    index: Index,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The wheels of the bundles are enough: each version has its own, in one process with the other's simulation."""
    monkeypatch.setenv("UV_OFFLINE", "1")
    one, two = (requiring(version, stamps(version), ships=True) for version in (1, 2))
    async with rigged(tmp_path / "system", SETTINGS, one) as rig:
        address = rig.local.members[N1]
        async with calling(1, address) as old, calling(2, address) as new:
            key = await old.put(b"block")
            await rig.publish(two, one)
            await rig.until_serving(2)
            assert await old.get(key) == b"block"
            assert await new.get(await new.put(b"more")) == b"more"
    assert index.asked == []


async def test_the_old_version_serves_on(
    start: Callable[[int], AbstractAsyncContextManager[Rig]],
    calling: Callable[[int, str], AbstractAsyncContextManager[Any]],
    requiring: Callable[..., Path],
    releases: dict[int, Path],
    index: Index,
) -> None:
    """What cannot be installed is a fault of the release: its words are in the status and in the log."""
    index.add(make_wheel("stamps", "2.0", {"stamps/__init__.py": "EVIL = True"}))
    release = requiring(2, stamps(2), ships=False)
    async with start(1) as rig, calling(1, rig.local.members[N1]) as old:
        key = await old.put(b"before")
        pid = (await rig.until_serving(1)).nodes[0].pid
        await rig.publish(release, releases[1])
        status = await rig.until_node(N1, lambda node: bool(node.failure) and node.phase == "serving", "failed")
        assert "Hash mismatch" in (status.failure or "")
        assert "requirements.txt:1: stamps==2.0" in (status.failure or "")
        assert "error: " in rig.local.log(N1)
        assert (status.version, status.pid) == (1, pid)
        assert await old.get(key) == b"before"
        assert await old.get(await old.put(b"after")) == b"after"


async def test_an_index_that_is_away_is_waited_for(
    start: Callable[[int], AbstractAsyncContextManager[Rig]],
    calling: Callable[[int, str], AbstractAsyncContextManager[Any]],
    requiring: Callable[..., Path],
    releases: dict[int, Path],
    index: Index,
) -> None:
    """The node says what it waits for, serves, and goes on by itself when the index is back."""
    index.status = 503
    async with start(1) as rig, calling(1, rig.local.members[N1]) as old:
        key = await old.put(b"before")
        await rig.publish(requiring(2, stamps(2), ships=False), releases[1])
        status = await rig.until_node(N1, lambda node: bool(node.failure), "failed")
        assert "the index cannot be used now" in (status.failure or "")
        assert await old.get(key) == b"before"
        index.add(stamps(2))
        index.status = 200
        await rig.until_serving(2)
        assert await old.get(key) == b"before"
