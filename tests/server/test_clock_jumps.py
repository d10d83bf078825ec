"""Rule: when the upgrade server's clock jumps, nobody goes who would not have, and nobody waits for ever."""

import pytest

from segue.testing.server import SYSTEM, Bench, bundle_of

HOURS_S = 3 * 3600.0
CANARY = 'max_unavailable = 1\ncanary = { nodes = 1, soak = "1h" }'
jumps = pytest.mark.parametrize("jump_s", [HOURS_S, -HOURS_S], ids=["forward", "back"])


async def fleet(bench: Bench, *nodes: str, schedule: str = "max_unavailable = 1") -> None:
    for version in (1, 2):
        await bench.server.publish(bundle_of(version, schedule=schedule))
    for node in nodes:
        await bench.beat(node)


async def reason(bench: Bench, node: str) -> str:
    answer = await bench.ask(node)
    assert answer.permit is None
    return answer.reason


@jumps
async def test_after_a_jump_all_are_silent_until_they_report(bench: Bench, jump_s: float) -> None:
    """Who crashed shortly before is not taken to serve for the hours by which the clock was put back."""
    await fleet(bench, "n1", "n2", "n3")
    bench.clock.jump(jump_s)
    await bench.beat("n1")
    assert "(n2 silent, n3 silent)" in await reason(bench, "n1")
    await bench.beat("n2")
    assert "(n3 silent)" in await reason(bench, "n1")
    await bench.beat("n3")
    assert (await bench.ask("n1")).permit is not None


@jumps
async def test_a_jump_takes_no_permit_from_its_node(bench: Bench, jump_s: float) -> None:
    """It asks again, and has it; the others wait for it as before."""
    await fleet(bench, "n1", "n2")
    permit = (await bench.ask("n1")).permit
    bench.clock.jump(jump_s)
    for node in ("n1", "n2"):
        await bench.beat(node)
    assert (await bench.ask("n1")).permit == permit
    assert "(n1)" in await reason(bench, "n2")
    await bench.give_back("n1", permit)
    assert (await bench.ask("n2")).permit is not None


@jumps
async def test_a_request_from_before_a_jump_lapses(bench: Bench, jump_s: float) -> None:
    """Its node may have given up: it is not said to wait for the hours by which the clock was put back."""
    await fleet(bench, "n1", "n2", "n3")
    permit = (await bench.ask("n1")).permit
    await reason(bench, "n2")
    await bench.give_back("n1", permit)
    bench.clock.jump(jump_s)
    for node, version in (("n1", 2), ("n2", 1), ("n3", 1)):
        await bench.beat(node, version)
    assert [node.waits_for for node in (await bench.server.status(SYSTEM)).nodes] == [None] * 3
    assert (await bench.ask("n3")).permit is not None


async def test_the_last_permit_of_a_node_is_the_last_though_the_clock_was_put_back(bench: Bench) -> None:
    """A canary that failed and then succeeded has succeeded."""
    await fleet(bench, "n1", "n2", schedule='max_unavailable = 1\ncanary = { nodes = 1, soak = "0s" }')
    await bench.give_back("n1", (await bench.ask("n1")).permit, failure="the self-test failed", final=True)
    bench.clock.jump(-HOURS_S)
    for node in ("n1", "n2"):
        await bench.beat(node)
    await bench.give_back("n1", (await bench.ask("n1")).permit)
    assert (await bench.ask("n2")).permit is not None
    permits = (await bench.server.status(SYSTEM)).permits
    assert [(one.node, one.failure) for one in permits if one.node == "n1"] == [
        ("n1", "the self-test failed"), ("n1", None),
    ]  # fmt: skip


async def test_a_soak_is_longer_by_what_the_clock_is_put_back(bench: Bench) -> None:
    """It was not watched for longer, so nobody goes earlier."""
    await fleet(bench, "n1", "n2", schedule=CANARY)
    await bench.give_back("n1", (await bench.ask("n1")).permit)
    bench.clock.jump(-HOURS_S)
    bench.clock.move(HOURS_S + 3599)
    for node, version in (("n1", 2), ("n2", 1)):
        await bench.beat(node, version)
    assert (await reason(bench, "n2")).startswith("canary n1 soaks until")
    bench.clock.move(1)
    await bench.beat("n1", 2)
    assert (await bench.ask("n2")).permit is not None


async def test_a_soak_ends_when_the_clock_is_put_forward_and_the_canary_has_reported_since(bench: Bench) -> None:
    """As documented: the time in between is taken to have passed. Before its report, the canary is silent."""
    await fleet(bench, "n1", "n2", schedule=CANARY)
    await bench.give_back("n1", (await bench.ask("n1")).permit)
    bench.clock.jump(HOURS_S)
    await bench.beat("n2")
    assert "n1 has not been seen" in await reason(bench, "n2")
    await bench.beat("n1", 2)
    assert (await bench.ask("n2")).permit is not None
