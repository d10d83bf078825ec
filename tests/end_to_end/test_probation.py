"""A new object that does not stay: the way back is there until the first call is answered, and not after."""

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from segue.model.ids import NodeId, Version
from segue.testing.crashing.callers import StoreCaller, patiently
from segue.testing.keeping import N1, N2, NODE, OBJECT, Keeping, keeping
from segue.wire.messages import PermitStatus

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(120)]

Segue = Callable[..., Awaitable[str]]

#: Version 2's object leaves its process a moment after it has started, and after it had the port.
LEAVES = f"""{OBJECT}    async def start(self):
        await super().start()
        import asyncio
        asyncio.get_running_loop().call_later(1.0, os._exit, 9)
"""
#: Or a moment after it has answered a call with poison in it.
IS_POISONED = f"""{OBJECT}    async def Put(self, request, context):
        reply = await super().Put(request, context)
        if b"poison" in request:
            import asyncio
            asyncio.get_running_loop().call_later(0.1, os._exit, 9)
        return reply
"""
IMPORT = {"from .kept": "import os\nfrom .kept"}
CANARY = {"release.toml": {"max_unavailable = 1": 'max_unavailable = 1\ncanary = { nodes = 1, soak = "0s" }'}}


async def test_before_the_first_call_the_old_version_comes_back(segue: Segue, tmp_path: Path) -> None:
    """With the process that had begun to leave, if it is still there; the release is tried again, and given up."""
    async with keeping(tmp_path, "--retries", "1", "--retry-s", "0.2", "--probation-s", "10") as rig:
        await rig.put("a", "b", "c")
        before = rig.state_of(1)
        await rig.release(2, {NODE: {OBJECT: LEAVES, **IMPORT}})
        node = await rig.until_given_up()
        said = "the new process ended within 10 s, before it answered a call"
        assert (node.version, node.attempts, node.failure) == (1, 2, said)
        assert rig.state_of(1) == before
        await rig.put("later1")
        await rig.put("later2", version=2)
        await rig.check_values(1, 2)
        assert not rig.left_over()
        assert [folder.name for folder in (rig.local.state(N1) / "states").iterdir()] == ["1"]
        returned = [(permit.failure, permit.returned_at is None) for permit in await permits(rig)]
        assert returned == [(said, False)] * 2
        assert rig.local.log(N1).count("(Disproven)") == 2
        assert said in rig.local.log(N1)
        shown = await segue("status", "--system", "crashing", "--server", rig.local.url)
        assert said in shown
        assert "gave up after 2 failures" in shown


async def test_after_the_first_call_there_is_no_way_back(segue: Segue, tmp_path: Path) -> None:
    """What the new object acknowledged is only in its state: the fleet stops, and the next release is the way out."""
    async with keeping(tmp_path, "--retries", "0", "--probation-s", "30", nodes=2) as rig:
        for node in (N1, N2):
            await rig.put("a", "b", "c", node=node)
        await rig.release(2, {NODE: {OBJECT: IS_POISONED, **IMPORT}, **CANARY})
        now = await rig.until(lambda now: any(node.phase == "proving" for node in now.nodes), "one proves itself")
        (canary,) = (NodeId(node.id) for node in now.nodes if node.phase == "proving")
        other = N2 if canary == N1 else N1
        for index in range(3):
            await poison(rig, f"poison{index}", canary)
        failed = await rig.until_node(canary, lambda node: bool(node.failure) and node.phase == "serving", "has failed")
        assert (failed.version, failed.away, failed.waits_for_operator) == (2, False, True)
        assert "ended 3 times within 30 s; as it has answered calls" in (failed.failure or "")
        waits = await rig.until_node(other, lambda node: "failed" in (node.waits_for or ""), "is held up")
        assert waits.version == 1
        await rig.check_values(1, 2, node=canary)
        shown = await segue("status", "--system", "crashing", "--server", rig.local.url)
        assert "version 2 failed its probation after it had answered calls: the way out is the next release" in shown
        assert f"canary {canary} failed: no other node may go" in shown
        assert "Disproven" in rig.local.log(canary)
        # They need not prove themselves one after the other here.
        await rig.release(3, {"release.toml": {"max_unavailable = 1": "max_unavailable = 2"}})
        await rig.until(
            lambda now: all((node.phase, node.target_version) == ("proving", 3) for node in now.nodes),
            "both have the release that is better in service",
        )
        ways = {(permit.node, permit.from_version, permit.to_version) for permit in await permits(rig)}
        assert ways == {(canary, 1, 2), (canary, 2, 3), (other, 1, 3)}
        for node in (N1, N2):
            await rig.check_values(1, 2, 3, node=node)


async def permits(rig: Keeping) -> Sequence[PermitStatus]:
    """Return all permits there were."""
    return (await rig.until(lambda now: True, "there is a status")).permits


async def poison(rig: Keeping, key: str, node: NodeId) -> None:
    """Put a value that ends the process, and wait until it has ended and another serves."""
    before = await rig.until_node(node, lambda found: found.pid is not None, "serves")
    async with StoreCaller(Version(2), rig.local.members[node]) as caller:
        rig.acknowledged[node][key] = await patiently(caller, key, b"poison")
    await rig.until_node(node, lambda found: found.pid not in (None, before.pid), "has another process")
