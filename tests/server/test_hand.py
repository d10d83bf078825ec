"""Rule: what an operator does is kept with who and why, and its meaning told; what makes no sense is refused."""

import asyncio
from typing import Any

import pytest

from segue.errors import OperatorError
from segue.model.hand import Deed
from segue.model.ids import NodeId, SystemName
from segue.testing.server import SYSTEM, Bench, bundle_of
from segue.wire.hand import ActionAnswer, ActionRequest
from segue.wire.messages import Heartbeat, UsageRow


async def act(bench: Bench, deed: Deed, **fields: Any) -> ActionAnswer:
    return await bench.server.act(SYSTEM, ActionRequest(**{"deed": deed, "who": "ada"} | fields))


async def refused(bench: Bench, deed: Deed, **fields: Any) -> str:
    """Return why it is refused; nothing of it is kept then."""
    before = bench.store.actions_of(SYSTEM)
    with pytest.raises(OperatorError) as error:
        await act(bench, deed, **fields)
    assert bench.store.actions_of(SYSTEM) == before
    assert "\n" not in str(error.value)
    return str(error.value)


def calls(version: int, who: str, count: int = 1) -> UsageRow:
    return UsageRow(
        incarnation="a", node_version=2, caller_version=version, caller=who, method="/s/Get", answered_by="past",
        from_node=False, outcome="OK", count=count,
    )  # fmt: skip


async def fleet(bench: Bench, *versions: int, releases: int = 2, schedule: str = "max_unavailable = 1") -> None:
    """Have nodes n1, n2 … run these versions, of a system with so many releases."""
    for version in range(1, releases + 1):
        await bench.server.publish(bundle_of(version, schedule=schedule))
    for number, version in enumerate(versions, 1):
        await bench.beat(f"n{number}", version)


async def test_a_pause_is_kept_with_who_and_why(bench: Bench) -> None:
    await fleet(bench, 1, 2)
    answer = await act(bench, Deed.PAUSE, why="the disks are slow")
    (kept,) = bench.store.actions_of(SYSTEM)
    assert (kept.deed, kept.who, kept.why, kept.at) == (Deed.PAUSE, "ada", "the disks are slow", bench.clock.now())
    assert answer.words.splitlines() == [
        "blockstore is paused: no node gets a permit until `segue resume`.",
        "The fleet is mixed: 1 node runs version 1, 1 node runs version 2.",
        "They work together for as long as it takes: each node answers callers of every version, by simulations.",
        "No node holds a permit.",
    ]
    bench.clock.move(60)
    message = await refused(bench, Deed.PAUSE)
    assert message.startswith("system blockstore is paused already, since 12:00:00 UTC, by ada: the disks are slow: ")
    await act(bench, Deed.RESUME)
    await act(bench, Deed.PAUSE)


async def test_there_must_be_something_to_resume_from(bench: Bench) -> None:
    """A pause, or a failure: whether that spent a budget is the schedule's to say."""
    await fleet(bench, 1, 1)
    assert "nothing holds blockstore" in await refused(bench, Deed.RESUME)
    permit = (await bench.ask("n1")).permit
    await bench.give_back("n1", permit, "it broke", final=True)
    bench.clock.move(1)
    answer = await act(bench, Deed.RESUME, why="the disk was full")
    assert "Failures until now (n1) count against no failure budget any more" in answer.words
    assert "nothing holds blockstore" in await refused(bench, Deed.RESUME)


async def test_an_abort_says_what_the_mixed_fleet_means(bench: Bench) -> None:
    await fleet(bench, 2, 1, 1, 1)
    await bench.ask("n2")
    answer = await act(bench, Deed.ABORT, why="it loses files")
    assert answer.version == 2
    assert answer.words.splitlines() == [
        "Release 2 of blockstore is aborted: no node gets a permit to stop at it any more.",
        "The fleet is mixed: 3 nodes run version 1, 1 node runs version 2.",
        "They work together for as long as it takes: each node answers callers of every version, by simulations.",
        "n2 holds a permit and goes on to the end of it.",
        "The way out is the next release: nodes go through 2 on to 3, and do not stop at it. "
        "An abort is for good: `segue resume` does not undo it.",
    ]
    assert "there is nothing to abort" in await refused(bench, Deed.ABORT)
    assert "release 2 is aborted already, since 12:00:00 UTC, by ada: it loses files" in await refused(
        bench, Deed.ABORT, version=2
    )


async def test_what_cannot_be_aborted(bench: Bench) -> None:
    await fleet(bench, 2, 2)
    assert "no release of blockstore is on its way" in await refused(bench, Deed.ABORT)
    assert "every node runs release 2" in await refused(bench, Deed.ABORT, version=2)
    assert "release 1 upgrades no node" in await refused(bench, Deed.ABORT, version=1)
    assert "has no release 3: the newest is 2" in await refused(bench, Deed.ABORT, version=3)


async def test_a_gate_is_approved_by_its_name(bench: Bench) -> None:
    """By the one that the release's schedule has; a webhook is not an operator's to approve."""
    await fleet(bench, 1, 1, schedule='gate = ["night-shift", "https://watch.example/ok"]')
    assert (await bench.ask("n1")).reason == "gate night-shift is not approved"
    assert await refused(bench, Deed.APPROVE, gate="day-shift") == (
        "no release of blockstore has a gate day-shift: there is night-shift"
    )
    assert "release 1 has no gate night-shift" in await refused(bench, Deed.APPROVE, gate="night-shift", version=1)
    answer = await act(bench, Deed.APPROVE, gate="night-shift")
    assert (answer.version, answer.gate) == (2, "night-shift")
    assert "gate" not in (await bench.ask("n1")).reason
    assert "gate night-shift of release 2 is open already" in await refused(bench, Deed.APPROVE, gate="night-shift")


async def test_what_is_done_is_what_the_schedule_decides_by(bench: Bench) -> None:
    """A pause, a skip, an override and an abort, each as a node that asks for its permit finds it."""
    await fleet(bench, 1, 1, 1)
    await act(bench, Deed.PAUSE)
    assert (await bench.ask("n1")).reason == "paused by ada since 12:00:00 UTC"
    await act(bench, Deed.FORCE, node="n1", why="it must")
    assert (await bench.ask("n1")).permit is not None
    await act(bench, Deed.RESUME)
    await act(bench, Deed.SKIP, node="n2")
    assert (await bench.ask("n2")).reason == "skipped by ada"
    await act(bench, Deed.ABORT, why="it loses files")
    assert "aborted by ada" in (await bench.ask("n3")).reason
    assert "release 2 is aborted" in await refused(bench, Deed.FORCE, node="n3", why="x")


async def test_a_node_is_left_out_and_taken_in_again(bench: Bench) -> None:
    await fleet(bench, 1, 1)
    answer = await act(bench, Deed.SKIP, node="n2", why="it is sold")
    assert (answer.version, answer.node) == (2, "n2")
    assert "n2 is left out of the rollout of release 2" in answer.words
    assert "left out of release 2 already, since 12:00:00 UTC, by ada: it is sold" in await refused(
        bench, Deed.SKIP, node="n2"
    )
    assert "taken in again, when it next reports" in (await act(bench, Deed.RETRY, node="n2")).words
    assert "has nothing to try again" in await refused(bench, Deed.RETRY, node="n2")
    await act(bench, Deed.SKIP, node="n2")


async def test_a_node_that_is_on_its_way_is_not_left_out(bench: Bench) -> None:
    await fleet(bench, 1)
    await bench.ask("n1")
    assert "holds a permit to release 2" in await refused(bench, Deed.SKIP, node="n1")
    assert "holds a permit to release 2" in await refused(bench, Deed.FORCE, node="n1", why="now")


async def test_which_release_is_meant_for_a_node(bench: Bench) -> None:
    """To be left out of, the newest; to be forced to, the next on its way; and only one that upgrades it."""
    await fleet(bench, 1, 3, releases=3)
    assert (await act(bench, Deed.FORCE, node="n1", why="x")).version == 2
    assert (await act(bench, Deed.SKIP, node="n1")).version == 3
    assert (await act(bench, Deed.SKIP, node="n1", version=2)).version == 2
    assert "runs version 3, and there is no later release" in await refused(bench, Deed.SKIP, node="n2")
    assert "runs version 3: release 2 is behind it" in await refused(bench, Deed.SKIP, node="n2", version=2)
    assert "has no node n9" in await refused(bench, Deed.SKIP, node="n9")
    await bench.beat("e1", 1, cls="Edge")
    assert "there is no later release for it" in await refused(bench, Deed.FORCE, node="e1", why="x")


async def test_a_failure_is_tried_again_once_for_each_order(bench: Bench) -> None:
    """The node hears of it with its heartbeats, each order by another name."""
    await fleet(bench, 1)
    assert "has nothing to try again" in await refused(bench, Deed.RETRY, node="n1")
    said = Heartbeat(class_name="BlockNode", version=1, address="h:1", phase="serving", failure="a disk was full")
    reply = await bench.server.heartbeat(SYSTEM, NodeId("n1"), said)
    assert reply.retry is None
    await act(bench, Deed.RETRY, node="n1")
    first = (await bench.server.heartbeat(SYSTEM, NodeId("n1"), said)).retry
    assert first == (await bench.server.heartbeat(SYSTEM, NodeId("n1"), said)).retry
    assert (await bench.server.heartbeat(SYSTEM, NodeId("n2"), said)).retry is None
    bench.clock.move(1)
    await act(bench, Deed.RETRY, node="n1")
    second = (await bench.server.heartbeat(SYSTEM, NodeId("n1"), said)).retry
    assert len({None, first, second}) == 3


async def test_an_override_needs_a_reason_and_says_what_it_goes_against(bench: Bench) -> None:
    await fleet(bench, 1, 1)
    await bench.ask("n1")
    await bench.ask("n2")
    assert "needs a reason (--why)" in await refused(bench, Deed.FORCE, node="n2")
    answer = await act(bench, Deed.FORCE, node="n2", why="its data must move today")
    assert "whatever the rules say; it waits for this: 1 of 1 node is away (n1)" in answer.words
    assert "override" in answer.words


async def dead_canary(bench: Bench, *, upgraded: bool) -> None:
    """Have n1 go first, and die on its way or in its soak; n2 and n3 are there, and ask."""
    await fleet(bench, 1, 1, 1, schedule='max_unavailable = 2\ncanary = { nodes = 1, soak = "60s" }')
    permit = (await bench.ask("n1")).permit
    if upgraded:
        await bench.beat("n1", 2)
        await bench.give_back("n1", permit)
    bench.clock.move(30)
    await bench.beat("n2")
    await bench.beat("n3")
    for node in ("n2", "n3"):
        assert "canary n1 " in (await bench.ask(node)).reason


@pytest.mark.parametrize("upgraded", [False, True])
async def test_a_canary_that_died_is_left_out(bench: Bench, upgraded: bool) -> None:
    """In the middle of its upgrade, or in its soak: another is the canary then."""
    await dead_canary(bench, upgraded=upgraded)
    answer = await act(bench, Deed.SKIP, node="n1", why="its mainboard")
    assert answer.version == 2
    assert answer.words == (
        "n1 counts in no rule of release 2 any more but max_unavailable: nobody waits for it.\n"
        "It has not been heard of since 12:00:00 UTC, and is away until it is: `segue forget n1` if it is gone for "
        "good. `segue retry n1 --release 2` takes it in again."
    )
    assert "left out of release 2 already" in await refused(bench, Deed.SKIP, node="n1", version=2)
    assert (await bench.ask("n2")).permit is not None
    assert (await bench.ask("n3")).reason == "canary n2 is away"


@pytest.mark.parametrize("upgraded", [False, True])
async def test_a_canary_that_died_is_to_try_again(bench: Bench, upgraded: bool) -> None:
    """Until it is heard of it counts as one that has yet to go; then as one that has gone, as before."""
    await dead_canary(bench, upgraded=upgraded)
    answer = await act(bench, Deed.RETRY, node="n1", why="it is started again")
    assert answer.words == (
        "n1 has not been heard of since 12:00:00 UTC: until it is, it counts as if it had yet to go to release 2, and "
        "its silence is no failure.\nIf it is gone for good: `segue forget n1`."
    )
    assert (await bench.ask("n2")).permit is not None
    bench.clock.move(1)
    await bench.beat("n1", 2 if upgraded else 1)
    assert "canary n" in (await bench.ask("n3")).reason
    assert "nothing to try again" in await refused(bench, Deed.RETRY, node="n1")


async def test_a_canary_that_is_unwell_is_left_out(bench: Bench) -> None:
    """What it reports, or does not report, then holds nobody; taken in again, it does again."""
    await fleet(bench, 1, 1, schedule='max_unavailable = 2\nhealthy = { fact = "error_rate", most = 0.01 }')
    permit = (await bench.ask("n1")).permit
    await bench.beat("n1", 2)
    await bench.give_back("n1", permit)
    unwell = "n1 is upgraded and does not report error_rate"
    assert unwell in (await bench.ask("n2")).reason
    assert await refused(bench, Deed.RETRY, node="n1") == (
        "node n1 has nothing to try again: it has not failed, and it is not left out; "
        "`segue skip n1 --release 2` has no rule of release 2 but max_unavailable count it"
    )
    answer = await act(bench, Deed.SKIP, node="n1")
    assert answer.words == (
        "n1 counts in no rule of release 2 any more but max_unavailable: nobody waits for it.\n"
        "`segue retry n1 --release 2` takes it in again."
    )
    assert (
        await act(bench, Deed.RETRY, node="n1")
    ).words == "n1 is taken in again: it counts in the rules of release 2."
    assert unwell in (await bench.ask("n2")).reason
    await act(bench, Deed.SKIP, node="n1", version=2)
    assert (await bench.ask("n2")).permit is not None


async def test_a_node_that_has_gone_is_left_out_of_the_release_that_is_named(bench: Bench) -> None:
    """And without a name of the newest, with a word on the others that it counts in."""
    await fleet(bench, 1, 1, 1)
    permit = (await bench.ask("n1")).permit
    await bench.beat("n1", 2)
    await bench.give_back("n1", permit)
    await bench.beat("n3", 2)
    await bench.server.publish(bundle_of(3))
    answer = await act(bench, Deed.SKIP, node="n1")
    assert answer.version == 3
    assert answer.words.endswith("It still counts in the rules of release 2: `segue skip n1 --release 2`.")
    assert (await act(bench, Deed.SKIP, node="n1", version=2)).version == 2
    assert "n3 runs version 2: release 2 is behind it, and counts it in no rule but max_unavailable" in await refused(
        bench, Deed.SKIP, node="n3", version=2
    )


async def test_nobody_is_left_out_of_a_rollout_that_is_over(bench: Bench) -> None:
    await fleet(bench, 1)
    permit = (await bench.ask("n1")).permit
    await bench.beat("n1", 2)
    await bench.give_back("n1", permit)
    assert "there is no later release for it" in await refused(bench, Deed.SKIP, node="n1")
    assert "n1 runs version 2: release 2 is behind it" in await refused(bench, Deed.SKIP, node="n1", version=2)


async def test_whoever_cannot_force_a_dead_node_hears_what_to_do(bench: Bench) -> None:
    await dead_canary(bench, upgraded=False)
    assert await refused(bench, Deed.FORCE, node="n1", why="it must") == (
        "node n1 holds a permit to release 2, and has not been heard of since 12:00:00 UTC: `segue skip n1` has the "
        "others go on without it, `segue forget n1` closes its permit if it is gone for good"
    )


async def test_an_override_is_for_one_permit(bench: Bench) -> None:
    """What fails under it is tried again by the rules, and a pause that came later holds the node."""
    await fleet(bench, 1, 1, schedule='gate = "night-shift"')
    await act(bench, Deed.FORCE, node="n1", why="its disk is full")
    bench.clock.move(1)
    await act(bench, Deed.PAUSE)
    assert (await bench.ask("n1")).reason == "paused by ada since 12:00:01 UTC"
    await act(bench, Deed.RESUME)
    permit = (await bench.ask("n1")).permit
    await bench.give_back("n1", permit, "it failed in passing")
    bench.clock.move(1)
    assert (await bench.ask("n1")).reason == "gate night-shift is not approved"
    answer = await act(bench, Deed.FORCE, node="n1", why="once more")
    assert "for this one permit" in answer.words
    assert (await bench.ask("n1")).permit is not None


async def test_of_a_skip_and_an_override_the_later_holds(bench: Bench) -> None:
    """Also for what the node does to the others, and for where it goes with the next release."""
    await fleet(bench, 1, 1, 1, schedule="max_unavailable = 9\nfailure_budget = 1")
    await act(bench, Deed.SKIP, node="n1")
    await act(bench, Deed.FORCE, node="n1", why="it is mended")
    permit = (await bench.ask("n1")).permit
    await bench.give_back("n1", permit, "it broke", final=True)
    assert "halted: 1 of 1 failures (n1 failed)" in (await bench.ask("n2")).reason
    await act(bench, Deed.RESUME)
    await act(bench, Deed.FORCE, node="n3", why="it must")
    await act(bench, Deed.SKIP, node="n3")
    assert (await bench.ask("n3")).reason == "skipped by ada"
    await bench.server.publish(bundle_of(3, schedule="max_unavailable = 9"))
    assert (await bench.ask("n3", to=3, since=1)).to_version == 3


async def test_a_node_that_is_gone_is_forgotten_with_its_permit(bench: Bench) -> None:
    """It counts in no limit then; one that speaks again is a node again."""
    await fleet(bench, 1, 1)
    permit = (await bench.ask("n1")).permit
    assert "n1 was heard of at 12:00:00 UTC: end its agent first" in await refused(bench, Deed.FORGET, node="n1")
    bench.clock.move(20)
    await bench.beat("n2")
    assert (await bench.ask("n2")).permit is None
    answer = await act(bench, Deed.FORGET, node="n1")
    assert "Its permit to release 2 is closed." in answer.words
    assert [node.id for node in (await bench.server.status(SYSTEM)).nodes] == ["n2"]
    assert (await bench.ask("n2")).permit is not None
    assert "has no node n1" in await refused(bench, Deed.FORGET, node="n1")
    bench.clock.move(1)
    await bench.beat("n1")
    assert [node.id for node in (await bench.server.status(SYSTEM)).nodes] == ["n1", "n2"]
    await bench.give_back("n1", permit)
    (closed,) = (one for one in (await bench.server.status(SYSTEM)).permits if one.node == "n1")
    assert closed.failure == "the node was forgotten by ada"


async def test_a_version_is_retired_when_nobody_needs_it(bench: Bench) -> None:
    """Whoever called lately, and each node that has yet to get past it, is named; of callers, with when that was."""
    await fleet(bench, 1, 2)
    await bench.beat("n2", 2, usage=(calls(1, "billing"), calls(2, "stock")))
    bench.clock.move(30)
    message = await refused(bench, Deed.RETIRE, version=1)
    assert message == (
        "version 1 is in use: called within 3600 s by billing with 1, last at 12:00:00 UTC; needed to catch up by "
        "n1 at 1: move them first, or retire it all the same with --force and a reason (--why)"
    )
    await bench.beat("n1", 2)
    assert "billing" in await refused(bench, Deed.RETIRE, version=1)
    assert "billing" in await refused(bench, Deed.RETIRE, version=1, unused_s=31)
    answer = await act(bench, Deed.RETIRE, version=1, unused_s=30)
    assert "Version 1 is retired: calls of it are refused as RETIRED_VERSION" in answer.words
    said = Heartbeat(class_name="BlockNode", version=2, address="h:1", phase="serving")
    assert (await bench.server.heartbeat(SYSTEM, NodeId("n1"), said)).oldest == 2
    assert "version 1 is retired already" in await refused(bench, Deed.RETIRE, version=1)


async def test_an_older_version_goes_with_the_one_that_is_retired(bench: Bench) -> None:
    """Simulations of older versions stand on those of newer ones: whoever calls with one keeps both."""
    await fleet(bench, 3, releases=3)
    await bench.beat("n1", 3, usage=(calls(1, "billing"),))
    assert "billing with 1" in await refused(bench, Deed.RETIRE, version=2)
    answer = await act(bench, Deed.RETIRE, version=2, force=True, why="billing is switched off")
    assert "Versions 1 to 2 are retired" in answer.words
    assert "version 1 is retired already" in await refused(bench, Deed.RETIRE, version=1)


async def test_the_history_tells_how_a_version_was_retired(bench: Bench) -> None:
    """By force, or as nobody had called with it for so long."""
    await fleet(bench, 3, releases=3)
    bench.clock.move(30)
    await act(bench, Deed.RETIRE, version=1, unused_s=30)
    await act(bench, Deed.RETIRE, version=2, force=True, why="billing is switched off")
    told = [entry.details for entry in (await bench.server.history(SYSTEM, kinds=("acted",))).entries]
    assert told == [{"deed": "retire", "unused_s": 30}, {"deed": "retire", "forced": True}]
    assert [(one.forced, one.unused_s) for one in bench.store.actions_of(SYSTEM)] == [(False, 30), (True, None)]


async def test_what_force_does_not_do(bench: Bench) -> None:
    """It needs a reason, and leaves the newest version."""
    await fleet(bench, 1, 2)
    assert "retire by force needs a reason (--why)" in await refused(bench, Deed.RETIRE, version=1, force=True)
    assert "version 2 is the newest" in await refused(bench, Deed.RETIRE, version=2, force=True, why="x")
    assert "only retire can be forced" in await refused(bench, Deed.PAUSE, force=True)
    answer = await act(bench, Deed.RETIRE, version=1, force=True, why="x")
    assert "n1 runs no later one yet" in answer.words


@pytest.mark.parametrize(
    ("deed", "fields", "words"),
    [
        (Deed.SKIP, {}, "skip needs a node"),
        (Deed.APPROVE, {}, "approve needs a gate"),
        (Deed.RETIRE, {}, "retire needs a version"),
        (Deed.PAUSE, {"node": "n1"}, "pause has no node, and n1 is given"),
        (Deed.FORGET, {"node": "n1", "version": 2}, "forget has no version, and 2 is given"),
    ],
)
async def test_a_deed_has_the_fields_that_it_needs(
    bench: Bench, deed: Deed, fields: dict[str, Any], words: str
) -> None:
    await fleet(bench, 1)
    assert words in await refused(bench, deed, **fields)


async def test_an_unknown_system_has_no_operator(bench: Bench) -> None:
    path = "/v1/systems/nobody/actions"
    status, refusal = await bench.error("POST", path, json={"deed": "pause", "who": "ada"})
    assert (status, refusal["family"]) == (404, "operator")
    assert "no system nobody is known here" in refusal["message"]
    assert bench.store.actions_of(SystemName("nobody")) == ()
    status, refusal = await bench.error("POST", path, json={"deed": "explode", "who": "a\nb"})
    assert status == 422
    assert "deed" in refusal["message"]
    assert "who" in refusal["message"]


async def test_two_at_once_do_not_both_pause(bench: Bench) -> None:
    """An action is judged in the transaction that keeps it."""
    await fleet(bench, 1)

    async def pause() -> bool:
        try:
            await act(bench, Deed.PAUSE)
        except OperatorError:
            return False
        return True

    async with asyncio.TaskGroup() as tasks:
        pauses = [tasks.create_task(pause()) for _ in range(5)]
    assert [pause.result() for pause in pauses].count(True) == 1
    assert len(bench.store.actions_of(SYSTEM)) == 1
