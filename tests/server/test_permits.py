"""Rule: a node goes away only with a permit that the schedule allows, and it always learns why not."""

import pytest

from segue.errors import OperatorError
from segue.testing.server import SYSTEM, Bench, bundle_of

CANARY = 'max_unavailable = 3\ncanary = { nodes = 1, soak = "10s" }'


async def fleet(bench: Bench, *nodes: str, schedule: str = "max_unavailable = 1") -> None:
    """Publish two releases; `nodes` run the first, each in the zone that is its first letter."""
    await bench.server.publish(bundle_of(1))
    await bench.server.publish(bundle_of(2, schedule=schedule))
    for node in nodes:
        await bench.beat(node, zone=node[0])


async def test_one_at_a_time_unless_the_schedule_says_more(bench: Bench) -> None:
    await fleet(bench, "n1", "n2")
    first = await bench.ask("n1")
    assert first.permit is not None
    second = await bench.ask("n2")
    assert (second.permit, second.reason) == (None, "1 of 1 node is away (n1)")
    assert 0 < second.retry_after_s < 15
    await bench.give_back("n1", first.permit)
    assert (await bench.ask("n2")).permit is not None


async def test_asking_again_gets_the_same_permit(bench: Bench) -> None:
    """An agent that crashed before it wrote the permit down asks again."""
    await fleet(bench, "n1")
    first = await bench.ask("n1")
    bench.clock.move(60)
    again = await bench.ask("n1")
    assert again.permit == first.permit
    assert again.reason == "granted before, at 12:00:00"
    assert len((await bench.server.status(SYSTEM)).permits) == 1


async def test_returning_again_changes_nothing(bench: Bench) -> None:
    await fleet(bench, "n1")
    permit = (await bench.ask("n1")).permit
    await bench.give_back("n1", permit, failure="the transform failed")
    bench.clock.move(5)
    await bench.give_back("n1", permit)
    (kept,) = (await bench.server.status(SYSTEM)).permits
    assert kept.failure == "the transform failed"
    assert kept.returned_at == kept.granted_at


async def test_a_permit_of_another_node_cannot_be_returned(bench: Bench) -> None:
    await fleet(bench, "n1", "n2")
    permit = (await bench.ask("n1")).permit
    with pytest.raises(OperatorError, match="node n2 of system blockstore has no permit"):
        await bench.give_back("n2", permit)
    assert (await bench.ask("n2")).permit is None


async def test_only_the_node_that_asks_is_granted(bench: Bench) -> None:
    """n2 asked first, but does not know yet that it may go: its place is kept for it."""
    await fleet(bench, "n1", "n2", "n3")
    permit = (await bench.ask("n1")).permit
    assert (await bench.ask("n2")).permit is None
    bench.clock.move(1)
    await bench.give_back("n1", permit)
    third = await bench.ask("n3")
    assert (third.permit, third.reason) == (None, "n2 asked before")
    status = await bench.server.status(SYSTEM)
    assert [held.node for held in status.permits] == ["n1"]
    assert [node.waits_for for node in status.nodes] == [
        None,
        "nothing any more: it goes when it next asks",
        "n2 asked before",
    ]
    assert (await bench.ask("n2")).permit is not None


async def test_a_node_that_no_longer_asks_holds_up_nobody(bench: Bench) -> None:
    await fleet(bench, "n1", "n2", "n3")
    permit = (await bench.ask("n1")).permit
    assert (await bench.ask("n2")).permit is None
    bench.clock.move(20)
    for node in ("n1", "n2", "n3"):
        await bench.beat(node)
    await bench.give_back("n1", permit)
    assert (await bench.ask("n3")).permit is not None


async def test_waiting_keeps_a_nodes_place(bench: Bench) -> None:
    """n2 has waited longest, however often others ask."""
    await fleet(bench, "n1", "n2", "n3")
    permit = (await bench.ask("n1")).permit
    await bench.ask("n2")
    for _ in range(10):
        bench.clock.move(10)
        for node in ("n1", "n2", "n3"):
            await bench.beat(node)
        await bench.ask("n3")
        await bench.ask("n2")
    await bench.give_back("n1", permit)
    assert (await bench.ask("n3")).permit is None
    assert (await bench.ask("n2")).permit is not None


async def test_limits_per_attribute(bench: Bench) -> None:
    await fleet(bench, "a1", "a2", "b1", schedule='max_unavailable = 1\nper = "zone"')
    assert (await bench.ask("a1")).permit is not None
    assert (await bench.ask("a2")).reason == "zone a: 1 of 1 is away (a1)"
    assert (await bench.ask("b1")).permit is not None


async def test_canary_soaks(bench: Bench) -> None:
    await fleet(bench, "n1", "n2", schedule='max_unavailable = 2\ncanary = { nodes = 1, soak = "10s" }')
    permit = (await bench.ask("n1")).permit
    assert (await bench.ask("n2")).reason == "canary n1 is away"
    await bench.give_back("n1", permit)
    bench.clock.move(9)
    assert (await bench.ask("n2")).reason == "canary n1 soaks until 12:00:10 UTC"
    bench.clock.move(1)
    assert (await bench.ask("n2")).permit is not None


async def test_a_failed_canary_stops_the_others(bench: Bench) -> None:
    await fleet(bench, "n1", "n2", schedule='max_unavailable = 2\ncanary = { nodes = 1, soak = "0s" }')
    await bench.give_back("n1", (await bench.ask("n1")).permit, failure="the self-test failed", final=True)
    assert (await bench.ask("n2")).reason == "canary n1 failed: no other node may go"


async def test_a_canary_that_tries_again_keeps_its_place(bench: Bench) -> None:
    """Else a release that is wrong would be tried by one node after the other, before the first gave it up."""
    await fleet(bench, "n1", "n2", "n3", schedule=CANARY)
    permit = (await bench.ask("n1")).permit
    await bench.give_back("n1", permit, failure="calls inside did not end")
    (kept,) = (await bench.server.status(SYSTEM)).permits
    assert (kept.failure, kept.returned_at) == ("calls inside did not end", bench.clock.now())
    bench.clock.move(1)
    assert (await bench.ask("n2")).reason == "canary n1 failed, and tries again"
    assert (await bench.ask("n1")).permit is not None


async def test_the_last_failure_counts(bench: Bench) -> None:
    await fleet(bench, "n1", "n2", schedule=CANARY)
    await bench.give_back("n1", (await bench.ask("n1")).permit, failure="calls inside did not end")
    bench.clock.move(1)
    await bench.give_back("n1", (await bench.ask("n1")).permit, failure="the self-test failed", final=True)
    assert (await bench.ask("n2")).reason == "canary n1 failed: no other node may go"


async def test_a_canary_that_gave_up_goes_again_when_it_asks_again(bench: Bench) -> None:
    """It asks only if an operator told it to retry: so that is no reason to refuse it, and the others wait for it."""
    await fleet(bench, "n1", "n2", schedule=CANARY)
    await bench.give_back("n1", (await bench.ask("n1")).permit, failure="the self-test failed", final=True)
    bench.clock.move(1)
    again = await bench.ask("n1")
    assert again.permit is not None
    assert (await bench.ask("n2")).reason == "canary n1 is away"
    bench.clock.move(1)
    await bench.give_back("n1", again.permit, failure="the self-test failed", final=True)
    assert (await bench.ask("n2")).reason == "canary n1 failed: no other node may go"


async def test_a_node_that_joined_is_no_canary(bench: Bench) -> None:
    """A fresh node on the new version transformed nothing: it says nothing of the upgrade."""
    await fleet(bench, "n1", "n2", "n3", schedule=CANARY)
    await bench.beat("n4", 2)
    assert (await bench.ask("n1")).permit is not None
    assert [(await bench.ask(node)).reason for node in ("n2", "n3")] == ["canary n1 is away"] * 2


@pytest.mark.parametrize(
    ("schedule", "reason"),
    [
        ("max_unavailable = 1", "1 of 1 node is away (o1)"),
        ('max_unavailable = 1\nper = "zone"', "zone a: 1 of 1 is away (o1)"),
        ("max_unavailable = { system = 2, zone = 1 }", "zone a: 1 of 1 is away (o1)"),
    ],
)
async def test_a_budget_is_of_the_whole_system(bench: Bench, schedule: str, reason: str) -> None:
    """An Origin and an Edge are away in one zone: whoever wrote the budget wants neither that nor two Edges."""
    for version in (1, 2):
        await bench.server.publish(bundle_of(version, schedule=schedule, classes=("Origin", "Edge")))
    await bench.beat("o1", cls="Origin")
    await bench.beat("e1", cls="Edge")
    permit = (await bench.ask("o1", cls="Origin")).permit
    assert permit is not None
    assert (await bench.ask("e1", cls="Edge")).reason == reason
    await bench.give_back("o1", permit)
    assert (await bench.ask("e1", cls="Edge")).permit is not None


async def test_a_canary_is_of_its_class(bench: Bench) -> None:
    """An Origin's upgrade says nothing of how an Edge's will go."""
    for version in (1, 2):
        await bench.server.publish(bundle_of(version, schedule=CANARY, classes=("Origin", "Edge")))
    for node, cls in (("o1", "Origin"), ("e1", "Edge"), ("e2", "Edge")):
        await bench.beat(node, cls=cls)
    await bench.give_back("o1", (await bench.ask("o1", cls="Origin")).permit)
    bench.clock.move(10)
    assert (await bench.ask("e1", cls="Edge")).permit is not None
    assert (await bench.ask("e2", cls="Edge")).reason == "canary e1 is away"


async def test_a_node_that_failed_may_try_again(bench: Bench) -> None:
    await fleet(bench, "n1")
    await bench.give_back("n1", (await bench.ask("n1")).permit, failure="calls inside did not end")
    again = await bench.ask("n1")
    assert again.permit is not None
    await bench.give_back("n1", again.permit)
    (node,) = (await bench.server.status(SYSTEM)).nodes
    assert node.version == 2


async def test_a_silent_node_counts_as_away(bench: Bench) -> None:
    await fleet(bench, "n1", "n2")
    bench.clock.move(60)
    await bench.beat("n2")
    assert (await bench.ask("n2")).reason == "1 of 1 node is away (n1 silent)"


async def test_a_node_on_its_way_asks_for_the_next_version(bench: Bench) -> None:
    """The permit's return tells the version, before the next heartbeat does."""
    await fleet(bench, "n1")
    await bench.server.publish(bundle_of(3))
    await bench.give_back("n1", (await bench.ask("n1")).permit)
    assert (await bench.ask("n1", to=3)).permit is not None


@pytest.mark.parametrize(
    ("since", "to", "cls", "status", "message"),
    [
        (1, 3, "BlockNode", 404, "blockstore has no release 3, the newest is 2: publish it first"),
        (2, 3, "BlockNode", 409, "runs version 1 by its last heartbeat, and asks to go from 2 to 3"),
        (1, 1, "BlockNode", 409, "its next step is from 1 to a later one"),
        (1, 2, "Edge", 409, "node n1 runs class BlockNode by its last heartbeat, and asks for Edge"),
    ],
)
async def test_a_senseless_request_is_refused(
    bench: Bench, since: int, to: int, cls: str, status: int, message: str
) -> None:
    await fleet(bench, "n1")
    request = {"class_name": cls, "from_version": since, "to_version": to}
    got, refusal = await bench.error("POST", "/v1/systems/blockstore/nodes/n1/permits", json=request)
    assert (got, refusal["family"]) == (status, "operator")
    assert message in refusal["message"]
    assert (await bench.server.status(SYSTEM)).nodes[0].waits_for is None


async def test_a_release_that_is_not_published_is_refused(bench: Bench) -> None:
    await bench.server.publish(bundle_of(1))
    await bench.beat("n1")
    with pytest.raises(OperatorError, match="blockstore has no release 2, the newest is 1: publish it first"):
        await bench.ask("n1")


async def test_a_class_that_the_release_has_not_is_refused(bench: Bench) -> None:
    await fleet(bench)
    await bench.beat("e1", cls="Edge")
    with pytest.raises(OperatorError, match="release 2 of blockstore has no class 'Edge'; it has BlockNode"):
        await bench.ask("e1", cls="Edge")


async def test_a_node_that_never_sent_a_heartbeat_is_refused(bench: Bench) -> None:
    await fleet(bench)
    with pytest.raises(OperatorError, match="node n9 of system blockstore never sent a heartbeat"):
        await bench.ask("n9")


async def test_a_node_that_holds_another_permit_is_refused(bench: Bench) -> None:
    await fleet(bench, "n1")
    await bench.server.publish(bundle_of(3))
    permit = (await bench.ask("n1")).permit
    await bench.beat("n1", 2)
    with pytest.raises(OperatorError, match=f"holds permit {permit} to go from version 1 to 2: return it before"):
        await bench.ask("n1", to=3)


async def test_nobody_goes_away_for_a_release_that_leaves_its_class_untouched(bench: Bench) -> None:
    """Its nodes carry the number without a permit; those of other classes go as ever."""
    await bench.server.publish(bundle_of(1, classes=("Origin", "Edge")))
    await bench.server.publish(bundle_of(2, classes=("Origin", "Edge"), untouched=("Edge",)))
    await bench.beat("e1", cls="Edge")
    with pytest.raises(OperatorError, match="release 2 of blockstore has no upgrade for class Edge"):
        await bench.ask("e1", cls="Edge")
    await bench.beat("e1", 2, cls="Edge")
    await bench.beat("o1", cls="Origin")
    assert (await bench.ask("o1", cls="Origin")).permit is not None


async def test_a_return_does_not_take_back_what_a_node_carries(bench: Bench) -> None:
    """It said so before it returned the permit to a version below, and asks for its next step at once."""
    for version in (1, 2, 3, 4):
        await bench.server.publish(bundle_of(version, untouched=("BlockNode",) if version == 3 else ()))
    await bench.beat("n1", 1)
    permit = (await bench.ask("n1")).permit
    await bench.beat("n1", 3)
    await bench.give_back("n1", permit)
    assert (await bench.server.status(SYSTEM)).nodes[0].version == 3
    assert (await bench.ask("n1", to=4)).permit is not None
