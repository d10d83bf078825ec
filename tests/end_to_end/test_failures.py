"""A release that is wrong does no harm: the old version serves, nothing is lost, and the cause can be read."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from segue.model.ids import NodeId
from segue.testing.rig import Rig, changed

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(120)]

N1 = NodeId("n1")
TRANSFORM, FUTURE = "blockstore/upgrade/state.py", "blockstore/upgrade/version2.py"
NODE, BLOCKS = "blockstore/node.py", "blockstore/blocks.py"

#: `{what is wrong: (edits, what the failure says, whether version 2's callers are answered all the same)}`
WRONG: dict[str, tuple[dict[str, dict[str, str]], str, bool]] = {
    "the transform raises": (
        {TRANSFORM: {"known = known_names(context.simulation)": "raise RuntimeError('no luck')"}},
        "no luck",
        True,
    ),
    "the transform kills its process": (
        {
            TRANSFORM: {
                "known = known_names(context.simulation)": "os.abort()\n    known = known_names(context.simulation)"
            }
        },
        "signal 6",
        True,
    ),
    "the object does not start": (
        {NODE: {"self.blocks.open()": "raise RuntimeError('no start')"}},
        "no start",
        True,
    ),
    "the self-test says no": (
        {NODE: {"for key in islice(": "raise DamagedError('not well')\n        for key in islice("}},
        "not well",
        True,
    ),
    "the new process dies at its start": (
        {NODE: {"self.blocks.open()": "import os; os._exit(7)"}},
        "ended",
        True,
    ),
    "the code does not import": (
        {FUTURE: {"import segue\n": "import segue\nimport no_such_module\n"}},
        "no_such_module",
        False,
    ),
    "the future simulation does not start": (
        {
            FUTURE: {
                "async for _ in self._keys():": "raise RuntimeError('no index')\n        async for _ in self._keys():"
            }
        },
        "no index",
        False,
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_the_old_version_serves_on(
    wrong: str,
    start: Callable[[int], AbstractAsyncContextManager[Rig]],
    calling: Callable[[int, str], AbstractAsyncContextManager[Any]],
    releases: dict[int, Path],
    tmp_path: Path,
) -> None:
    """Whatever fails, what was put before is there, more can be put, and the status says what failed."""
    edits, said, future_answers = WRONG[wrong]
    release = changed(releases[2], tmp_path / "wrong-2", edits)
    async with start(1) as rig, calling(1, rig.local.members[N1]) as old, calling(2, rig.local.members[N1]) as new:
        key = await old.put(b"before")
        pid = (await rig.until_serving(1)).nodes[0].pid
        await rig.publish(release, releases[1])
        status = await rig.until_node(N1, lambda node: bool(node.failure) and node.phase == "serving", "failed")
        assert said in (status.failure or "")
        assert status.version == 1
        assert not status.away
        assert await old.get(key) == b"before"
        later = await old.put(b"after")
        assert await old.get(later) == b"after"
        if future_answers:
            in_v2 = await new.put(b"before")
            assert await new.get(in_v2) == b"before"
        now = await rig.until_serving(1)
        assert now.nodes[0].pid == pid
        assert [permit.failure is not None for permit in now.permits] == ([True] if future_answers else [])
        if "process" not in wrong:  # a process that is killed leaves no traceback
            assert "Traceback" in rig.local.log(N1)
            assert "Traceback" in status.failure_details
            assert said in status.failure_details


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
