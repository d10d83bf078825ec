"""Rule: a system at a glance says of ten thousand nodes no more than of ten, and each node counts once."""

from segue.model.hand import Deed
from segue.model.ids import NodeId
from segue.testing.server import SYSTEM, Bench, bundle_of
from segue.wire.hand import ActionRequest
from segue.wire.messages import Heartbeat, UsageRow
from segue.wire.summary import SystemSummary


async def fleet(bench: Bench, nodes: int, *, upgraded: int = 0, releases: int = 2) -> None:
    for version in range(1, releases + 1):
        await bench.server.publish(bundle_of(version, classes=("BlockNode", "Edge"), untouched=("Edge",)))
    for number in range(nodes):
        await bench.beat(f"n{number:02}", 2 if number < upgraded else 1, zone="ab"[number % 2])


async def glance(bench: Bench) -> SystemSummary:
    return await bench.server.summary(SYSTEM)


async def test_nodes_are_counted_by_version_class_and_attribute(bench: Bench) -> None:
    await fleet(bench, 6, upgraded=2)
    await bench.beat("e1", 1, cls="Edge", zone="b")
    now = await glance(bench)
    assert (now.nodes, now.newest, now.versions) == (7, 2, {1: 5, 2: 2})
    assert [(one.name, one.nodes, one.versions) for one in now.classes] == [
        ("BlockNode", 6, {1: 4, 2: 2}), ("Edge", 1, {1: 1}),
    ]  # fmt: skip
    (zone,) = now.attributes
    assert [(one.name, one.nodes, one.versions) for one in zone.values] == [
        ("a", 3, {1: 2, 2: 1}),
        ("b", 4, {1: 3, 2: 1}),
    ]
    (rollout,) = now.rollouts
    assert (rollout.class_name, rollout.version, rollout.done, rollout.left) == ("BlockNode", 2, 2, 4)


async def test_nodes_that_wait_for_the_same_are_told_together(bench: Bench) -> None:
    await fleet(bench, 12)
    for number in range(12):
        await bench.ask(f"n{number:02}")
    now = await glance(bench)
    (wait,) = now.waits
    assert (wait.text, wait.kind, wait.nodes.count) == ("1 of 1 node is away (n00)", "BudgetSpent", 11)
    assert wait.nodes.first == ("n01", "n02", "n03", "n04")
    assert (now.away.count, now.away.first) == (1, ("n00",))
    assert sum(group.waiting for group in now.classes) == 11


async def test_an_attribute_with_a_value_for_each_node_makes_no_groups(bench: Bench) -> None:
    """And of one with very many values, a few are told, those first that somebody should look at."""
    await fleet(bench, 0)
    for number in range(40):
        said = Heartbeat(
            class_name="BlockNode", version=1, address="h:1", phase="serving",
            attributes={"host": f"h{number}", "rack": f"r{number // 2:02}"},
            failure="it broke" if number == 39 else None,
        )  # fmt: skip
        await bench.server.heartbeat(SYSTEM, NodeId(f"n{number}"), said)
    (rack,) = (await glance(bench)).attributes
    assert rack.name == "rack"
    assert (len(rack.values), rack.others) == (5, 15)
    assert (rack.values[0].name, rack.values[0].failed) == ("r19", 1)


async def test_failures_are_told_by_what_they_say(bench: Bench) -> None:
    await fleet(bench, 0)
    for number in range(9):
        said = Heartbeat(
            class_name="BlockNode", version=1, address="h:1", phase="serving",
            failure="the disk is full" if number < 3 else f"failure {number}", waits_for_operator=number == 0,
        )  # fmt: skip
        await bench.server.heartbeat(SYSTEM, NodeId(f"n{number}"), said)
    now = await glance(bench)
    assert (now.failures[0].text, now.failures[0].nodes.count, now.failures[0].gave_up) == ("the disk is full", 3, 1)
    assert (len(now.failures), now.more_failures) == (3, 4)


async def test_the_end_is_estimated_by_the_pace_so_far(bench: Bench) -> None:
    """Not before some are through, and not while an operator holds it."""
    await fleet(bench, 5)
    for number in range(2):
        assert (await glance(bench)).rollouts[0].ends_at is None
        permit = (await bench.ask(f"n0{number}")).permit
        bench.clock.move(60)
        await bench.give_back(f"n0{number}", permit)
        for other in range(5):
            await bench.beat(f"n0{other}", 2 if other <= number else 1)
    (rollout,) = (await glance(bench)).rollouts
    assert rollout.ends_at is not None
    assert (rollout.ends_at - bench.clock.now()).total_seconds() == 180
    await bench.server.act(SYSTEM, ActionRequest(deed=Deed.PAUSE, who="ada"))
    assert (await glance(bench)).rollouts[0].ends_at is None


async def test_what_holds_a_rollout_is_told_until_it_does_not(bench: Bench) -> None:
    await fleet(bench, 2)
    await bench.server.act(SYSTEM, ActionRequest(deed=Deed.PAUSE, who="ada", why="lunch"))
    await bench.server.act(SYSTEM, ActionRequest(deed=Deed.ABORT, who="grace"))
    holds = (await glance(bench)).holds
    assert [(one.deed, one.who, one.why, one.version) for one in holds] == [
        ("pause", "ada", "lunch", None), ("abort", "grace", "", 2),
    ]  # fmt: skip
    await bench.server.act(SYSTEM, ActionRequest(deed=Deed.RESUME, who="ada"))
    await bench.server.publish(bundle_of(3))
    for node in ("n00", "n01"):
        await bench.beat(node, 3)
    assert (await glance(bench)).holds == ()


async def test_a_spent_failure_budget_is_told_also_if_nobody_waits(bench: Bench) -> None:
    for version in (1, 2):
        await bench.server.publish(bundle_of(version, schedule="failure_budget = 1"))
    for node in ("n1", "n2"):
        await bench.beat(node)
    await bench.give_back("n1", (await bench.ask("n1")).permit, "it broke", final=True)
    (halt,) = (await glance(bench)).halts
    assert (halt.class_name, halt.version) == ("BlockNode", 2)
    assert halt.text.startswith("halted: 1 of 1 failures (n1 failed)")
    bench.clock.move(1)
    await bench.beat("n1")
    await bench.server.act(SYSTEM, ActionRequest(deed=Deed.RESUME, who="ada"))
    assert (await glance(bench)).halts == ()


async def test_a_rule_that_is_tried_dry_is_told_also_if_nobody_waits(bench: Bench) -> None:
    """Until no node is left that it would hold."""
    schedule = 'max_unavailable = 2\nhealthy = { fact = "ms", most = 9, dry_run = true }'
    for version in (1, 2):
        await bench.server.publish(bundle_of(version, schedule=schedule))
    for node in ("n1", "n2"):
        await bench.beat(node, 1, facts={"ms": 10.0})
    await bench.give_back("n1", (await bench.ask("n1")).permit)
    (one,) = (await glance(bench)).dry_runs
    told = "n1 is upgraded and reports ms 10: at most 9 is healthy"
    assert (one.class_name, one.version, one.text) == ("BlockNode", 2, told)
    await bench.give_back("n2", (await bench.ask("n2")).permit)
    assert (await glance(bench)).dry_runs == ()


async def test_who_still_calls_with_which_version(bench: Bench) -> None:
    """The last callers by name; clients before nodes."""
    await fleet(bench, 1)

    def calls(version: int, who: str, *, from_node: bool = False) -> UsageRow:
        return UsageRow(
            incarnation="a", node_version=2, caller_version=version, caller=who, method="/s/Get", answered_by="past",
            from_node=from_node, outcome="OK", count=2,
        )  # fmt: skip

    await bench.beat("n00", usage=(calls(1, "n01", from_node=True), calls(1, "old")))
    bench.clock.move(60)
    await bench.beat("n00", usage=tuple(calls(1, f"c{number}") for number in range(5)))
    (use,) = (await glance(bench)).callers
    assert (use.version, use.calls, use.others, use.last_at) == (1, 14, 3, bench.clock.now())
    assert {one.name for one in use.callers} <= {f"c{number}" for number in range(5)}


async def test_silent_nodes_are_told(bench: Bench) -> None:
    await fleet(bench, 2)
    bench.clock.move(16)
    await bench.beat("n00")
    now = await glance(bench)
    assert now.silent.first == ("n01",)
    assert now.classes[0].silent == 1


async def test_a_large_fleet_is_told_as_shortly_as_a_small_one(bench: Bench) -> None:
    await fleet(bench, 10)
    for number in range(10):
        await bench.ask(f"n{number:02}")
    small = len((await glance(bench)).model_dump_json())
    for number in range(10, 30):
        await bench.beat(f"n{number:02}", 1, zone="ab"[number % 2])
        await bench.ask(f"n{number:02}")
    assert len((await glance(bench)).model_dump_json()) < small + 20
