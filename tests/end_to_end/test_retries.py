"""What failed is tried again, later each time, and then the node waits for its operator or for the next release."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from segue.testing.keeping import N1, NODE, OBJECT, UPGRADE, keeping

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(120)]

Segue = Callable[..., Awaitable[str]]

TRANSFORM = '(new / "shelves").mkdir()\n'


async def test_a_cause_that_is_mended(segue: Segue, tmp_path: Path) -> None:
    """So many attempts, with growing waits between, and no more; `segue retry` begins anew."""
    mended = tmp_path / "mended"
    needs = f'if not __import__("os").path.exists({str(mended)!r}):\n        raise RuntimeError("no service")'
    options = ("--retries", "2", "--retry-s", "0.8")
    async with keeping(tmp_path, *options) as rig:
        await rig.put("a", "b", "c")
        async with rig.reading():
            await rig.release(2, {UPGRADE: {TRANSFORM: f"{TRANSFORM}    {needs}\n"}})
            once = await rig.until_node(N1, lambda node: bool(node.attempts and node.retry_at), "has failed")
            assert (once.attempts, once.attempts_limit, once.waits_for_operator) == (1, 3, False)
            shown = await segue("status", "--system", "crashing", "--server", rig.local.url)
            assert "no service" in shown
            assert "gave up" not in shown
            given_up = await rig.until_given_up()
            assert (given_up.attempts, given_up.attempts_limit, given_up.retry_at) == (3, 3, None)
            shown = await segue("status", "--system", "crashing", "--server", rig.local.url)
            assert f"gave up after 3 failures: `segue retry {N1} --system crashing`, or the next release" in shown
            tried = (await rig.until_serving(1)).permits
            waits = [after.granted_at - (before.returned_at or after.granted_at) for before, after in pairwise(tried)]
            assert waits[0] >= timedelta(seconds=0.7), waits  # the return and the wait begin at about the same time
            assert waits[1] >= timedelta(seconds=1.5), waits
            seen = given_up.last_seen + timedelta(seconds=2)
            rested = await rig.until_node(N1, lambda node: node.last_seen > seen, "has rested")
            assert (rested.attempts, rested.phase) == (3, "serving")
            assert len((await rig.until_serving(1)).permits) == len(tried) == 3
            mended.touch()
            assert "tries again" in await segue("retry", "--state", str(rig.local.state(N1)))
            after = (await rig.until_serving(2)).nodes[0]
            assert (after.failure, after.attempts, after.waits_for_operator) == (None, 0, False)
        await rig.put("later")
        await rig.check_values(1, 2)


async def test_the_next_release_leads_past_one_that_was_given_up(tmp_path: Path) -> None:
    """Through its transform: its object is never started again."""
    began = tmp_path / "began"
    starts = (
        f"{OBJECT}    async def self_test(self):\n"
        f'        open({str(began)!r}, "a").write("2")\n        raise RuntimeError("not well")\n'
    )
    async with keeping(tmp_path, "--retries", "0") as rig:
        await rig.put("a", "b", "c")
        async with rig.reading():
            await rig.release(2, {NODE: {OBJECT: starts}})
            assert "not well" in ((await rig.until_given_up()).failure or "")
            await rig.put("meanwhile", version=2)
            await rig.release(3)
            node = (await rig.until_serving(3)).nodes[0]
        assert [(row.from_version, row.to_version) for row in node.upgrades] == [(1, 3)]
        assert (node.failure, node.attempts, node.waits_for_operator) == (None, 0, False)
        assert began.read_text() == "2"
        await rig.put("later", version=3)
        await rig.check_values(1, 2, 3)


async def test_what_cannot_be_had_yet_is_tried_on_and_on(segue: Segue, tmp_path: Path) -> None:
    """To look for it disturbs nobody, so there is no limit."""
    lock = f"nowhere-to-be-had==1.0 --hash=sha256:{'0' * 64}\n"
    async with keeping(tmp_path, "--retries", "0", "--retry-s", "0.2", "--offline") as rig:
        await rig.put("a", "b", "c")
        async with rig.reading():
            await rig.release(2, files={"requirements.txt": lock})
            node = await rig.until_node(N1, lambda node: node.attempts > 1 and bool(node.retry_at), "tries on")
        assert not node.waits_for_operator
        assert "this node uses no network" in (node.failure or "")
        shown = await segue("status", "--system", "crashing", "--server", rig.local.url)
        assert "this node uses no network" in shown
        assert "nowhere-to-be-had" in rig.local.log(N1)
        await rig.check_values(1)
