"""A check holds only if what it promises was observed, and fails alone when its own fact changes."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from segue.demo.broken import SAID
from segue.demo.facts import ClientCalls, Facts, Failure, Reading
from segue.demo.verdict import judge
from segue.model.ids import NodeId, Version
from segue.schedule.rules import Rules
from segue.wire.messages import SystemStatus, UsageStatus

UPGRADED = "every node runs version 2"
CALLS = "no client call failed"
READ = "all files read back bit for bit through version {}"
SAMPLE = "a sample read back bit for bit through version {} meanwhile"
ONCE = "each node's process was replaced exactly once per upgrade"
AWAY = "never more nodes away than the schedule allows"
HALTED = "the rollout of version 2 has halted, and says why"
TRIED = "one node tried it, failed its self-test, and went back"
STAYS = "every node serves version 1"
CANARY = "the other nodes waited for the canary of version 2"
ADMITTED = "private blocks came back to their owners and readers"
REFUSED = "version {} clients were refused others' private blocks"
MIXED = "version {} {} were answered by {}"

WithStatus = Callable[..., Facts]
Read = Callable[..., Reading]
Moment = Callable[[float], datetime]


def failed(facts: Facts) -> list[str]:
    return [check.name for check in judge(facts) if not check.held]


def detail(facts: Facts, name: str) -> str:
    return next(check.detail for check in judge(facts) if check.name == name)


def last(facts: Facts) -> SystemStatus:
    assert facts.status is not None
    return facts.status


def test_all_hold_when_all_was_observed(facts: Facts) -> None:
    assert failed(facts) == []
    assert len(judge(facts)) == 13


def test_nothing_observed_holds_nothing(facts: Facts) -> None:
    """A check about which nothing was observed is not held."""
    blank = replace(
        facts, status=None, calls=(), samples=(), readings=(), pids_before={}, pids_seen={}, published_at={}
    )
    assert [check.name for check in judge(blank) if check.held] == []


def test_a_node_left_behind(facts: Facts, with_status: WithStatus) -> None:
    nodes = last(facts).nodes
    behind = with_status(nodes=(nodes[0].model_copy(update={"version": 1}), *nodes[1:]))
    assert failed(behind) == [UPGRADED]
    assert detail(behind, UPGRADED) == "n1 runs 1"


def test_a_failed_call(facts: Facts) -> None:
    failure = Failure(at_s=1.0, call="get", status="UNAVAILABLE", text="connection refused")
    calls = (facts.calls[0], ClientCalls(version=Version(2), calls=1000, failed=1, failures=(failure,)))
    assert failed(replace(facts, calls=calls)) == [CALLS]
    assert detail(replace(facts, calls=calls), CALLS) == "1 failed, first get: UNAVAILABLE connection refused"


def test_clients_that_never_called(facts: Facts) -> None:
    """That no call failed says nothing if none was made."""
    silent = (facts.calls[0], ClientCalls(version=Version(2), calls=0, failed=0))
    assert failed(replace(facts, calls=silent)) == [CALLS]


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_that_comes_back_changed(facts: Facts, read: Read, version: int) -> None:
    others = tuple(reading for reading in facts.readings if reading.version != version)
    changed = read(version, began_s=40, files=10, mismatches=("a.py: block 0: 3 bytes came back",))
    assert failed(replace(facts, readings=(*others, changed))) == [READ.format(version)]


@pytest.mark.parametrize("version", [1, 2])
def test_a_file_that_was_not_read(facts: Facts, read: Read, version: int) -> None:
    others = tuple(reading for reading in facts.readings if reading.version != version)
    assert failed(replace(facts, readings=(*others, read(version, began_s=40, files=9)))) == [READ.format(version)]


@pytest.mark.parametrize("version", [1, 2])
def test_a_sample_that_comes_back_changed(facts: Facts, read: Read, version: int) -> None:
    changed = read(version, began_s=6, files=4, mismatches=("a.py: block 0: the call failed",))
    assert failed(replace(facts, samples=(*facts.samples, changed))) == [SAMPLE.format(version)]


@pytest.mark.parametrize("began_s", [1.0, 12.2, 30.0])
def test_a_sample_outside_of_the_upgrade_counts_for_nothing(facts: Facts, read: Read, began_s: float) -> None:
    """Only what is read between the first node's leave and the last node's return is read during the upgrade."""
    samples = (facts.samples[0], read(2, began_s=began_s, files=4))
    assert failed(replace(facts, samples=samples)) == [SAMPLE.format(2)]


def test_a_process_that_was_replaced_twice(facts: Facts) -> None:
    seen = {**facts.pids_seen, NodeId("n2"): (101, 150, 201)}
    twice = replace(facts, pids_seen=seen)
    assert failed(twice) == [ONCE]
    assert detail(twice, ONCE) == "n2 was also process 150"


def test_a_process_that_is_not_the_one_it_was(facts: Facts) -> None:
    """A restart between the start and the publication shows in the pid before."""
    before = {**facts.pids_before, NodeId("n2"): 150}
    assert failed(replace(facts, pids_before=before)) == [ONCE]


def test_a_process_that_did_not_end(facts: Facts) -> None:
    """Two processes of one node are no replacement."""
    left = replace(facts, pids_left=frozenset({101}))
    assert failed(left) == [ONCE]
    assert detail(left, ONCE) == "n2's process 101 has not ended"


def test_a_restart_after_the_upgrade(facts: Facts, with_status: WithStatus) -> None:
    nodes = last(facts).nodes
    restarted = with_status(nodes=(nodes[0].model_copy(update={"pid": 999}), *nodes[1:]))
    assert failed(restarted) == [ONCE]


def test_too_many_away_in_one_zone(facts: Facts, with_status: WithStatus, moment: Moment) -> None:
    """n1 and n4 share zone a, of which one may be away; in the whole system two may be."""
    permits = last(facts).permits
    early = permits[0].model_copy(update={"returned_at": moment(11.5)})
    late = permits[3].model_copy(update={"granted_at": moment(9.5)})
    both = with_status(permits=(early, permits[1], permits[2], late))
    assert AWAY in failed(both)
    assert "2 of 1 in one zone" in detail(both, AWAY)


def test_too_many_away_in_the_system(facts: Facts, with_status: WithStatus, moment: Moment) -> None:
    permits = last(facts).permits
    long = permits[2].model_copy(update={"returned_at": moment(12)})
    longer = permits[1].model_copy(update={"returned_at": moment(12)})
    three = with_status(permits=(permits[0], longer, long, permits[3]))
    assert failed(three) == [AWAY]
    assert "3 of 2" in detail(three, AWAY)


@pytest.mark.parametrize("change", ["no permit", "another's", "before it", "after it"])
def test_a_node_that_goes_outside_of_its_permit(
    facts: Facts, with_status: WithStatus, moment: Moment, change: str
) -> None:
    """What the server granted says nothing about a node that goes without asking, too early or too long."""
    *others, own = last(facts).permits
    changed = {
        "no permit": [],
        "another's": [own.model_copy(update={"node": "n1"})],
        "before it": [own.model_copy(update={"granted_at": moment(12.1)})],
        "after it": [own.model_copy(update={"returned_at": moment(12.2)})],
    }[change]
    outside = with_status(permits=(*others, *changed))
    assert failed(outside) == [AWAY]
    assert "outside of its permit: n4" in detail(outside, AWAY)


def test_nodes_that_were_away_at_once_by_their_own_word(facts: Facts, with_status: WithStatus, moment: Moment) -> None:
    """Whatever the permits say: n4 left while n1, of its zone, was away."""
    nodes = last(facts).nodes
    row = nodes[3].upgrades[0].model_copy(update={"quiesced_at": moment(2.1), "serving_at": moment(2.2)})
    both = with_status(nodes=(*nodes[:3], nodes[3].model_copy(update={"upgrades": (row,)})))
    assert AWAY in failed(both)
    assert "2 of 1 in one zone" in detail(both, AWAY)


def test_a_node_that_did_not_wait_for_the_canary(facts: Facts, with_status: WithStatus, moment: Moment) -> None:
    permits = last(facts).permits
    hasty = permits[1].model_copy(update={"granted_at": moment(2.3) + timedelta(seconds=2.9)})
    assert failed(with_status(permits=(permits[0], hasty, *permits[2:]))) == [CANARY]


def test_no_canary_no_check(facts: Facts) -> None:
    free = replace(facts, rules={Version(2): Rules(budgets=facts.rules[Version(2)].budgets)})
    assert CANARY not in [check.name for check in judge(free)]


@pytest.mark.parametrize(
    ("caller", "by", "from_node", "name"),
    [
        (1, "past", False, MIXED.format(1, "clients", "upgraded nodes")),
        (1, "past", True, MIXED.format(1, "nodes", "upgraded nodes")),
        (2, "future", False, MIXED.format(2, "clients", "nodes not yet upgraded")),
        (2, "future", True, MIXED.format(2, "nodes", "nodes not yet upgraded")),
    ],
)
@pytest.mark.parametrize("change", [{"count": 0}, {"outcome": "UNAVAILABLE"}, None])
def test_a_way_of_mixed_mode_that_was_not_gone(
    facts: Facts,
    with_status: WithStatus,
    caller: int,
    by: str,
    from_node: bool,
    name: str,
    change: dict[str, object] | None,
) -> None:
    """Each of the four ways is counted by itself, and only calls that were answered count."""

    def is_it(row: UsageStatus) -> bool:
        return (row.caller_version, row.answered_by, row.from_node) == (caller, by, from_node)

    rows = last(facts).usage
    others = tuple(row for row in rows if not is_it(row))
    changed = tuple(row.model_copy(update=change) for row in rows if is_it(row)) if change else ()
    assert failed(with_status(usage=(*others, *changed))) == [name]


def test_all_hold_when_nodes_went_on_to_version_3(facts_of_3: Facts) -> None:
    """Every version's files, private blocks, canaries and both ways of mixed mode, each with a check."""
    assert failed(facts_of_3) == []
    names = [check.name for check in judge(facts_of_3)]
    assert len(names) == len(set(names)) == 25
    assert "the other nodes waited for the canary of version 3" in names
    assert {MIXED.format(2, "clients", one) for one in ("upgraded nodes", "nodes not yet upgraded")} < set(names)
    assert detail(facts_of_3, ONCE) == "4 before, 4 others and 4 others after"
    assert detail(facts_of_3, REFUSED.format(2)) == "30 DISALLOWED"


def test_nothing_went_through_two_simulations(facts_of_3: Facts) -> None:
    """Neighbours alone do not show a chain."""
    status = last(facts_of_3)
    rows = tuple(row for row in status.usage if (row.caller_version, row.node_version) != (1, 3))
    without = replace(facts_of_3, status=status.model_copy(update={"usage": rows}))
    assert failed(without) == ["version 1 was answered at version 3, through 2 simulations"]


def test_a_private_block_that_leaked(facts_of_3: Facts) -> None:
    """It is a failed call, too; that others were refused does not make it good."""
    leaky = replace(facts_of_3.calls[1], failed=1, leaked=1)
    calls = (facts_of_3.calls[0], leaky, facts_of_3.calls[2])
    assert failed(replace(facts_of_3, calls=calls)) == [CALLS, REFUSED.format(2)]
    assert detail(replace(facts_of_3, calls=calls), REFUSED.format(2)) == "1 came back; 30 DISALLOWED"


@pytest.mark.parametrize("version", [1, 2, 3])
def test_clients_that_never_tried_to_get_a_private_block(facts_of_3: Facts, version: int) -> None:
    calls = tuple(replace(row, refused={}) if row.version == version else row for row in facts_of_3.calls)
    assert failed(replace(facts_of_3, calls=calls)) == [REFUSED.format(version)]


def test_private_blocks_that_nobody_got(facts_of_3: Facts) -> None:
    calls = tuple(replace(row, admitted=0) for row in facts_of_3.calls)
    assert failed(replace(facts_of_3, calls=calls)) == [ADMITTED]


def test_a_node_that_left_out_an_upgrade(facts_of_3: Facts) -> None:
    nodes = last(facts_of_3).nodes
    short = nodes[0].model_copy(update={"upgrades": nodes[0].upgrades[1:]})
    status = last(facts_of_3).model_copy(update={"nodes": (short, *nodes[1:])})
    assert detail(replace(facts_of_3, status=status), ONCE) == "n1 went through 2 to 3"


@pytest.mark.parametrize("pid", [100, 200])
def test_no_process_of_an_earlier_version_is_left(facts_of_3: Facts, pid: int) -> None:
    left = replace(facts_of_3, pids_left=frozenset({pid}))
    assert failed(left) == [ONCE]
    assert detail(left, ONCE) == f"n1's process {pid} has not ended"


def test_each_release_has_a_canary(facts_of_3: Facts, moment: Moment) -> None:
    """Who went to version 3 too early is told of version 3's canary alone."""
    permits = [
        permit.model_copy(update={"granted_at": moment(24)})
        if (permit.node, permit.to_version) == ("n3", 3)
        else permit
        for permit in last(facts_of_3).permits
    ]
    status = last(facts_of_3).model_copy(update={"permits": tuple(permits)})
    assert failed(replace(facts_of_3, status=status)) == ["the other nodes waited for the canary of version 3"]


@pytest.fixture
def halted(facts: Facts, with_status: WithStatus) -> Facts:
    """A run whose last version fails its self-test on the first node."""
    now = last(facts)
    first, *rest = (node.model_copy(update={"version": 1, "upgrades": ()}) for node in now.nodes)
    nodes = [first.model_copy(update={"failure": f"RuntimeError: {SAID}", "waits_for_operator": True})]
    nodes += [node.model_copy(update={"phase": "waiting", "waits_for": "canary n1 failed"}) for node in rest]
    (permit,) = (one for one in now.permits if one.node == first.id)
    permits = (permit.model_copy(update={"failure": "it failed"}),)
    return replace(with_status(nodes=tuple(nodes), permits=permits), broken=True)


def test_a_halt_that_was_observed(halted: Facts) -> None:
    assert failed(halted) == []
    blank = replace(halted, status=None, calls=(), readings=())
    assert [check.name for check in judge(blank) if check.held] == []


def test_a_halt_that_was_not(halted: Facts) -> None:
    """Another node tried as well; one went on; one does not say what it waits for."""
    now = last(halted)
    (permit,) = now.permits
    tried = replace(
        halted, status=now.model_copy(update={"permits": (permit, permit.model_copy(update={"node": "n2"}))})
    )
    assert TRIED in failed(tried)
    first, second, *rest = now.nodes
    on_two = second.model_copy(update={"version": 2})
    assert failed(replace(halted, status=now.model_copy(update={"nodes": (first, on_two, *rest)}))) == [STAYS]
    silent = second.model_copy(update={"waits_for": None})
    assert failed(replace(halted, status=now.model_copy(update={"nodes": (first, silent, *rest)}))) == [HALTED]
