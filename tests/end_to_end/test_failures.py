"""A release that is wrong does no harm: the old version serves, nothing is lost, and the cause can be read."""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from segue.errors import PeerError
from segue.testing.disks import fill, small_disk
from segue.testing.keeping import N1, NODE, OBJECT, UPGRADE, Keeping, keeping
from segue.testing.rig import Rig
from segue.testing.wheels import make_wheel, serving_index

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(120)]

Segue = Callable[..., Awaitable[str]]

#: What the transform does first.
TRANSFORM = '(new / "shelves").mkdir()\n'
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """What is wrong with version 2.

    Attributes:
        edits: to the release, as `rig.changed` takes them.
        said: what the failure says.
        options: of the node's agent.
        files: further files of the release.
        away: whether the node had a permit for it.
        answers: whether the callers of version 2 are answered all the same.
        traced: whether there is a traceback.
    """

    edits: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    said: str
    options: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    away: bool = True
    answers: bool = True
    traced: bool = True


def in_transform(code: str) -> Mapping[str, Mapping[str, str]]:
    """Return the edits by which the transform does `code` when it has written something."""
    return {UPGRADE: {TRANSFORM: f'{TRANSFORM}    (new / "shelves" / "half").write_bytes(b"done")\n    {code}\n'}}


def in_object(code: str) -> Mapping[str, Mapping[str, str]]:
    """Return the edits by which version 2's object has `code` among its methods."""
    return {NODE: {OBJECT: f"{OBJECT}{code}\n\n"}}


WRONG = {
    "the transform raises": Wrong(edits=in_transform('raise RuntimeError("no luck")'), said="no luck"),
    "the transform hangs": Wrong(
        edits=in_transform("import time; time.sleep(3600)"),
        options=("--transform-timeout-s", "6"),  # it has as long to import, which takes seconds on a busy machine
        said="did not do its work within 6 s (--transform-timeout-s)",
        traced=False,
    ),
    "the transform kills itself": Wrong(edits=in_transform("import os; os.abort()"), said="signal 6", traced=False),
    "the transform writes into the old state": Wrong(
        edits=in_transform('(old / "values" / "a").write_bytes(b"")'), said="a transform can write only below"
    ),
    "the transform takes too much memory": Wrong(
        edits=in_transform("bytearray(1 << 30)"),
        options=("--transform-memory-mib", "256"),
        said="may use 256 MiB (--transform-memory-mib)",
    ),
    "there is not the room that is to be left": Wrong(
        options=("--disk-reserve-mib", str(1 << 40)), said="make room there", traced=False
    ),
    "the object does not start": Wrong(
        edits=in_object('    async def start(self):\n        raise RuntimeError("no start")'), said="no start"
    ),
    "the self-test says no": Wrong(
        edits=in_object('    async def self_test(self):\n        raise RuntimeError("not well")'), said="not well"
    ),
    "the new process dies as it imports": Wrong(
        edits={NODE: {"from .kept": "import os; os._exit(7)\nfrom .kept"}},
        said="ended while it was asked 'warm'",
        traced=False,
    ),
    "the new process dies as its object starts": Wrong(
        edits=in_object("    async def start(self):\n        import os; os._exit(7)"),
        said="ended while it was asked 'start'",
        traced=False,
    ),
    "the object does not import": Wrong(
        edits={NODE: {"from .kept": "import no_such_module\nfrom .kept"}}, said="no_such_module"
    ),
    "the simulation does not import": Wrong(
        edits={UPGRADE: {"import segue\n": "import no_such_module\nimport segue\n"}},
        said="no_such_module",
        away=False,
        answers=False,
    ),
    "the future simulation does not start": Wrong(
        edits={
            UPGRADE: {
                "class Future(segue.FutureSimulation):\n": "class Future(segue.FutureSimulation):\n"
                '    async def start(self):\n        raise RuntimeError("no index")\n\n'
            }
        },
        said="no index",
        away=False,
        answers=False,
    ),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=list(WRONG))
async def test_the_old_version_serves_on(wrong: Wrong, segue: Segue, tmp_path: Path) -> None:
    """Whatever fails: no call does, what was put is there, more can be put, and what failed can be read."""
    async with keeping(tmp_path, "--retries", "0", *wrong.options) as rig:
        await rig.put("a", "b", "c")
        before, pid = rig.state_of(1), (await rig.until_serving(1)).nodes[0].pid
        async with rig.reading():
            await rig.release(2, wrong.edits, files=wrong.files)
            node = await rig.until_given_up()
        assert node.pid == pid
        assert rig.state_of(1) == before
        await check_old_version(rig, wrong.said, segue, versions=(1, 2) if wrong.answers else (1,))
        await check_permits(rig, count=int(wrong.away))
        if wrong.traced:
            assert "Traceback" in rig.local.log(N1)
            assert "Traceback" in node.failure_details


async def check_old_version(rig: Keeping, said: str, segue: Segue, *, versions: tuple[int, ...] = (1,)) -> None:
    """Check that version 1 serves with all that was acknowledged, and that the cause can be read, after one attempt."""
    node = (await rig.until_serving(1)).nodes[0]
    assert said in (node.failure or "")
    assert (node.version, node.away, node.attempts, node.attempts_limit, node.retry_at) == (1, False, 1, 1, None)
    for version in versions:
        await rig.put(f"later{version}", version=version)
    await rig.check_values(*versions)
    assert not rig.left_over()
    assert [folder.name for folder in (rig.local.state(N1) / "states").iterdir()] == ["1"]
    assert said in rig.local.log(N1)
    shown = await segue("status", "--system", "crashing", "--server", rig.local.url)
    assert "serving, gave up" in shown
    assert said in shown
    assert f"gave up after a failure: `segue retry {N1} --system crashing`, or the next release" in shown


async def check_permits(rig: Keeping, *, count: int) -> None:
    """Check that there were so many permits, each of which was returned with the reason."""
    permits = (await rig.until_serving(1)).permits
    assert [(permit.returned_at is None, permit.failure is None) for permit in permits] == [(False, False)] * count


async def test_what_it_requires_cannot_be_installed(segue: Segue, tmp_path: Path) -> None:
    """The node is not away for it; what the index has is not what the author locked."""
    locked = make_wheel("stamps", "2.0", {"stamps.py": "RIGHT = True"})
    with serving_index() as index:
        index.add(make_wheel("stamps", "2.0", {"stamps.py": "EVIL = True"}))
        async with keeping(tmp_path, "--retries", "0", "--index", index.url) as rig:
            await rig.put("a", "b", "c")
            before = rig.state_of(1)
            async with rig.reading():
                await rig.release(2, files={"requirements.txt": locked.line()})
                await rig.until_given_up()
            assert rig.state_of(1) == before
            await check_old_version(rig, "Hash mismatch", segue)
            await check_permits(rig, count=0)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB for the state of n1."""
    state = tmp_path / "system" / "n1"
    state.mkdir(parents=True)
    with ExitStack() as mounted:
        try:
            mounted.enter_context(small_disk(state, 8))
        except PermissionError as error:
            pytest.skip(str(error))
        yield state


async def test_a_disk_without_room(disk: Path, segue: Segue, tmp_path: Path) -> None:
    """It is asked before the node goes away: the old object is not even closed."""
    async with keeping(tmp_path, "--retries", "0", "--disk-reserve-mib", "1") as rig:
        await rig.put("a", "b", "c")
        (disk / "somebody's").write_bytes(bytes(7 * MIB + MIB // 4))
        before = rig.state_of(1)
        async with rig.reading():
            await rig.release(2)
            await rig.until_given_up()
        assert rig.state_of(1) == before
        (disk / "somebody's").unlink()
        await check_old_version(rig, "the transform to version 2 needs 2: 1 times the state's", segue, versions=(1, 2))
        await check_permits(rig, count=1)
        assert "quiescing" not in rig.local.log(N1)


@pytest.mark.parametrize("whose", ["its own", "somebody's"])
async def test_a_disk_that_fills_up_meanwhile(whose: str, disk: Path, segue: Segue, tmp_path: Path) -> None:
    """By the transform, or by somebody else, who does not stop: what the transform wrote is removed."""
    others = disk / "somebody's"
    code = {
        "its own": '(new / "large").write_bytes(bytes(16 << 20))',
        # It waits until nothing is left, so that it is not spoilt by when the agent measures.
        "somebody's": f"""
    import os, time
    while not os.path.exists({str(tmp_path / "filled")!r}):
        time.sleep(0.01)
    (new / "more").write_bytes(bytes(1 << 20))
""",
    }
    async with keeping(tmp_path, "--retries", "0", "--disk-reserve-mib", "1") as rig:
        await rig.put("a", "b", "c")
        before = rig.state_of(1)
        async with rig.reading():
            await rig.release(2, in_transform(code[whose]))
            if whose == "somebody's":
                await rig.until_node(N1, lambda node: node.phase == "transforming", "transforms")
                fill(others)
                (tmp_path / "filled").touch()
            await rig.until_given_up()
        assert rig.state_of(1) == before
        others.unlink(missing_ok=True)
        await check_old_version(rig, "No space left on device", segue, versions=(1, 2))
        await check_permits(rig, count=1)


async def test_a_disk_that_is_full(disk: Path, segue: Segue, tmp_path: Path) -> None:
    """The node serves on, says what is missing, and goes on by itself when there is room, also for its journal."""
    async with keeping(tmp_path, "--retry-s", "0.2", "--disk-reserve-mib", "1") as rig:
        await rig.put("a", "b", "c")
        async with rig.reading():
            fill(disk / "somebody's")
            await rig.release(2)
            while "journal.jsonl: the disk is full" not in rig.local.log(N1):  # a retry is an entry of it
                with suppress(PeerError):
                    await segue("retry", "--state", str(disk), "--timeout-s", "1")
            (disk / "somebody's").unlink()
            await rig.until_serving(2)
        await rig.check_values(1, 2)


async def test_bytes_that_were_not_published_are_not_run(
    start: Callable[[int], AbstractAsyncContextManager[Rig]],
    calling: Callable[[int, str], AbstractAsyncContextManager[Any]],
    releases: dict[int, Path],
) -> None:
    """A bundle that was changed on the upgrade server's disk is refused by its hash, and the node serves on."""
    async with start(1) as rig, calling(1, rig.local.members[N1]) as old:
        bundle = await rig.local.build(releases[2], releases[1])
        await rig.local.end(N1)
        await rig.local.publish(bundle)
        published = bundle.read_bytes()
        files = [path for path in rig.local.server_data.rglob("*") if path.is_file()]
        (kept,) = [path for path in files if path.read_bytes() == published]
        kept.chmod(0o600)
        kept.write_bytes(published.replace(b"def transform", b"def Transform", 1))
        assert kept.read_bytes() != published
        await rig.local.start_node(N1)
        status = await rig.until_node(N1, lambda node: bool(node.failure) and node.phase == "serving", "refused it")
        assert "SHA-256" in (status.failure or "")
        assert status.version == 1
        assert await old.get(await old.put(b"x")) == b"x"
