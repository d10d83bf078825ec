"""Rule: a node that is several releases behind goes as far at once as every schedule on its way lets it now."""

import pytest

from segue.errors import OperatorError
from segue.model.ids import NodeId
from segue.testing.server import SYSTEM, Bench, bundle_of
from segue.wire.messages import Heartbeat, UpgradeRow

FREE = "max_unavailable = 9"
ONE = "max_unavailable = 1"


def canary(soak: str = "10s") -> str:
    return f'max_unavailable = 9\ncanary = {{ nodes = 1, soak = "{soak}" }}'


async def published(bench: Bench, *schedules: str, untouched: tuple[int, ...] = ()) -> None:
    """Publish release 1, and one after it for each schedule."""
    await bench.server.publish(bundle_of(1))
    for version, schedule in enumerate(schedules, start=2):
        classes = ("BlockNode",) if version in untouched else ()
        await bench.server.publish(bundle_of(version, schedule=schedule, untouched=classes))


async def test_as_far_as_it_asks_if_nothing_holds_it_up(bench: Bench) -> None:
    await published(bench, FREE, FREE, FREE, FREE)
    await bench.beat("n1")
    answer = await bench.ask("n1", since=1, to=5)
    assert (answer.to_version, answer.reason) == (5, "granted")
    (kept,) = (await bench.server.status(SYSTEM)).permits
    assert (kept.from_version, kept.to_version) == (1, 5)
    await bench.give_back("n1", answer.permit)
    assert (await bench.server.status(SYSTEM)).nodes[0].version == 5


async def test_only_as_far_as_the_first_schedule_that_holds_it_up(bench: Bench) -> None:
    """The canary of release 4 has not soaked: 3 is as far as it goes now, though 5 would take it."""
    await published(bench, FREE, FREE, canary(), FREE)
    for node, version in (("n1", 1), ("n2", 3)):
        await bench.beat(node, version)
    await bench.give_back("n2", (await bench.ask("n2", to=4)).permit)
    answer = await bench.ask("n1", since=1, to=5)
    assert answer.to_version == 3
    await bench.give_back("n1", answer.permit)
    bench.clock.move(1)
    assert (await bench.ask("n1", since=3, to=5)).reason == "canary n2 soaks until 12:00:10 UTC"


async def test_not_yet_if_the_first_release_holds_it_up(bench: Bench) -> None:
    await published(bench, ONE, FREE)
    for node in ("n1", "n2"):
        await bench.beat(node)
    await bench.ask("n2", since=1, to=3)
    answer = await bench.ask("n1", since=1, to=3)
    assert (answer.permit, answer.to_version, answer.reason) == (None, None, "1 of 1 node is away (n2)")
    status = await bench.server.status(SYSTEM)
    assert [node.waits_for for node in status.nodes] == ["1 of 1 node is away (n2)", None]


async def test_asking_again_leads_as_far_as_before(bench: Bench) -> None:
    """Not further, though a release was published since: that one's schedule was not asked."""
    await published(bench, FREE, FREE)
    await bench.beat("n1")
    first = await bench.ask("n1", since=1, to=3)
    await bench.server.publish(bundle_of(4, schedule=FREE))
    again = await bench.ask("n1", since=1, to=4)
    assert (again.permit, again.to_version) == (first.permit, 3)
    assert len((await bench.server.status(SYSTEM)).permits) == 1


async def test_a_node_that_can_no_longer_go_so_far_goes_less_far_by_its_permit(bench: Bench) -> None:
    """It never heard the first answer, and has lost its simulation of version 3 since."""
    await published(bench, FREE, FREE)
    await bench.beat("n1")
    first = await bench.ask("n1", since=1, to=3)
    again = await bench.ask("n1", since=1, to=2)
    assert (again.permit, again.to_version) == (first.permit, 2)
    await bench.give_back("n1", again.permit)
    assert (await bench.server.status(SYSTEM)).nodes[0].version == 2


async def test_releases_that_leave_the_class_untouched_are_no_obstacle(bench: Bench) -> None:
    """In the middle or at the end of its way; but nobody goes away for these alone."""
    await published(bench, FREE, FREE, FREE, FREE, untouched=(3, 5))
    await bench.beat("n1")
    answer = await bench.ask("n1", since=1, to=5)
    assert answer.to_version == 5
    await bench.give_back("n1", answer.permit)
    await bench.beat("n2", 4)
    with pytest.raises(OperatorError, match="release 5 of blockstore has no upgrade for class BlockNode"):
        await bench.ask("n2", to=5)


async def test_it_goes_no_further_than_its_class(bench: Bench) -> None:
    await published(bench, FREE)
    await bench.server.publish(bundle_of(3, classes=("Edge",)))
    await bench.beat("n1")
    assert (await bench.ask("n1", since=1, to=3)).to_version == 2


async def test_who_passes_through_is_the_canary_of_each_release(bench: Bench) -> None:
    """While it is away no other goes first; when it is back, it soaks for each of them."""
    await published(bench, canary(), canary("20s"))
    for node, version in (("n1", 1), ("n2", 1), ("n3", 2)):
        await bench.beat(node, version)
    answer = await bench.ask("n1", since=1, to=3)
    assert answer.to_version == 3
    assert (await bench.ask("n2", since=1, to=3)).reason == "canary n1 is away"
    assert (await bench.ask("n3", to=3)).reason == "canary n1 is away"
    await bench.give_back("n1", answer.permit)
    bench.clock.move(10)
    assert (await bench.ask("n3", to=3)).reason == "canary n1 soaks until 12:00:20 UTC"
    assert (await bench.ask("n2", since=1, to=3)).to_version == 2


async def test_a_failure_counts_for_the_release_that_failed(bench: Bench) -> None:
    """Its transform to 3 raised: that says nothing against 2, where others may go, but against 3 and all beyond."""
    await published(bench, canary("0s"), canary("0s"), canary("0s"))
    for node, version in (("n1", 1), ("n2", 1), ("n3", 2), ("n4", 3)):
        await bench.beat(node, version)
    permit = (await bench.ask("n1", since=1, to=4)).permit
    await bench.give_back("n1", permit, failure="the transform failed", final=True, by=3)
    assert (await bench.ask("n3", since=2, to=4)).reason == "canary n1 failed: no other node may go"
    assert (await bench.ask("n4", to=4)).reason == "canary n1 failed: no other node may go"
    assert (await bench.ask("n2", since=1, to=4)).to_version == 2


async def test_a_release_that_failed_is_gone_past_to_a_later_one(bench: Bench) -> None:
    """The way out of it is the next release, which one node tries; nobody stops at what failed."""
    await published(bench, canary("0s"), canary("0s"))
    for node in ("n1", "n2", "n3"):
        await bench.beat(node, 1)
    permit = (await bench.ask("n1", since=1, to=2)).permit
    await bench.give_back("n1", permit, failure="its self-test failed", final=True, by=2)
    assert (await bench.ask("n2", since=1, to=2)).reason == "canary n1 failed: no other node may go"
    assert (await bench.ask("n2", since=1, to=3)).to_version == 3
    assert (await bench.ask("n3", since=1, to=3)).reason == "canary n2 is away"


async def test_a_node_stops_at_nothing_that_it_avoids(bench: Bench) -> None:
    """It knows what it cannot run, whatever the schedule allows."""
    await published(bench, FREE, FREE)
    await bench.beat("n1", 1)
    assert (await bench.ask("n1", since=1, to=3, avoided=(3,))).to_version == 2
    await bench.beat("n2", 1)
    with pytest.raises(OperatorError, match="stops at none of the versions"):
        await bench.ask("n2", since=1, to=3, avoided=(2, 3))


async def test_a_failure_of_unknown_cause_counts_for_each(bench: Bench) -> None:
    await published(bench, canary("0s"), canary("0s"))
    for node, version in (("n1", 1), ("n2", 1), ("n3", 2)):
        await bench.beat(node, version)
    permit = (await bench.ask("n1", since=1, to=3)).permit
    await bench.give_back("n1", permit, failure="the transform failed", final=True)
    for node, since in (("n2", 1), ("n3", 2)):
        assert (await bench.ask(node, since=since, to=3)).reason == "canary n1 failed: no other node may go"


async def test_a_node_that_is_held_up_below_holds_up_nobody_above(bench: Bench) -> None:
    """n1 asked first for release 3, too, but must wait for release 2: n2 need not stand behind it."""
    await published(bench, canary(), ONE)
    for node, version in (("n0", 1), ("n1", 1), ("n2", 2)):
        await bench.beat(node, version)
    await bench.give_back("n0", (await bench.ask("n0")).permit)
    assert (await bench.ask("n1", since=1, to=3)).reason == "canary n0 soaks until 12:00:10 UTC"
    bench.clock.move(1)
    assert (await bench.ask("n2", to=3)).to_version == 3


async def test_who_asked_before_goes_before_on_the_way_as_well(bench: Bench) -> None:
    """n1 may go through 2 and 3, and asked first: n2 waits for it, and n1 does not lose its place by a new release."""
    await published(bench, FREE, ONE)
    for node, version in (("n0", 2), ("n1", 1), ("n2", 2)):
        await bench.beat(node, version)
    permit = (await bench.ask("n0", to=3)).permit
    assert (await bench.ask("n1", since=1, to=2)).to_version == 2
    await bench.give_back("n1", (await bench.ask("n1", since=1, to=2)).permit)
    assert (await bench.ask("n1", to=3)).permit is None
    bench.clock.move(1)
    assert (await bench.ask("n2", to=3)).permit is None
    await bench.server.publish(bundle_of(4, schedule=FREE))
    await bench.give_back("n0", permit)
    await bench.ask("n1", since=2, to=4)
    assert (await bench.ask("n2", since=2, to=4)).reason == "1 of 1 node is away (n1)"


async def test_a_release_after_another_is_asked_for_as_ever(bench: Bench) -> None:
    """As nodes do that know nothing of permits through several releases."""
    await published(bench, ONE, ONE)
    await bench.beat("n1")
    for to in (2, 3):
        answer = await bench.ask("n1", to=to)
        assert answer.to_version == to
        await bench.give_back("n1", answer.permit)
    assert (await bench.server.status(SYSTEM)).nodes[0].version == 3


async def test_a_canary_that_failed_its_probation_stops_all(bench: Bench) -> None:
    """It answered calls before it crashed, so it stays with the release; the next release is the way out."""
    await published(bench, canary("0s"))
    for node in ("n1", "n2"):
        await bench.beat(node)
    permit = (await bench.ask("n1")).permit
    now = bench.clock.now()
    row = UpgradeRow(
        from_version=1, to_version=2, pids=(1, 2), pause_ms=1.0, install_future_ms=1.0, transform_ms=1.0,
        transform_bytes=1, quiesced_at=now, serving_at=now, probation_failed=True,
    )  # fmt: skip
    said = Heartbeat(
        class_name="BlockNode", version=2, address="127.0.0.1:9001", attributes={}, phase="returning", upgrades=(row,)
    )
    await bench.server.heartbeat(SYSTEM, NodeId("n1"), said)
    await bench.give_back("n1", permit, "the new process ended 3 times", final=True, by=2)
    assert (await bench.ask("n2")).reason == "canary n1 failed: no other node may go"
    await bench.server.publish(bundle_of(3, schedule=FREE))
    assert (await bench.ask("n2", since=1, to=3)).to_version == 3
