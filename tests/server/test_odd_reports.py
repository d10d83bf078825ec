"""Rule: a node's id is one node's; its class stays; it runs what was published; else it is told so."""

import pytest

from segue.errors import OperatorError
from segue.model.ids import NodeId, SystemName
from segue.testing.server import SYSTEM, Bench, bundle_of
from segue.wire.messages import AgentRow, PermitRequest

#: An agent on its folder, the same started again, and what there should not be beside it.
FIRST = AgentRow(folder="f1", starts=1, run="r1", report_s=2)
AGAIN = AgentRow(folder="f1", starts=2, run="r2", report_s=2)
COPY = AgentRow(folder="f1", starts=1, run="r9", report_s=2)
OTHER = AgentRow(folder="f2", starts=1, run="s1", report_s=2)


async def publish(bench: Bench, *versions: int, **of: object) -> None:
    for version in versions:
        await bench.server.publish(bundle_of(version, **of))  # type: ignore[arg-type]  # what `bundle_of` takes


async def where(bench: Bench, node: str = "n1") -> str:
    return next(one.address for one in (await bench.server.status(SYSTEM)).nodes if one.id == node)


@pytest.mark.parametrize(
    ("second", "what"), [(OTHER, "a state folder of its own"), (COPY, "a copy of the same state folder")]
)
async def test_a_second_agent_with_one_id_is_refused(bench: Bench, second: AgentRow, what: str) -> None:
    """Both addresses are named, and the first stays known where it is, however often the second tries."""
    await publish(bench, 1)
    await bench.beat("n1", agent=FIRST, address="10.0.0.1:9001")
    for _ in range(10):
        bench.clock.move(3)
        with pytest.raises(OperatorError) as refused:
            await bench.beat("n1", agent=second, address="10.0.0.2:9001")
        assert str(refused.value) == (
            "node n1 of system blockstore is at 10.0.0.1:9001, seen 3 s ago, and another agent reports as n1 from "
            f"10.0.0.2:9001, on {what}: end one of them, or give one another --id and an empty --state. An agent takes "
            "the other's place when that was silent for 15 s, or was forgotten (`segue forget`)"
        )
        await bench.beat("n1", agent=FIRST, address="10.0.0.1:9001")
    assert await where(bench) == "10.0.0.1:9001"


async def test_an_agent_that_starts_again_is_known_at_once(bench: Bench) -> None:
    """On the same machine or on another to which its folder was moved: who has the folder is the node."""
    await publish(bench, 1)
    await bench.beat("n1", agent=FIRST, address="10.0.0.1:9001")
    await bench.beat("n1", agent=AGAIN, address="10.0.0.2:9001")
    assert await where(bench) == "10.0.0.2:9001"
    with pytest.raises(OperatorError, match=r"is at 10\.0\.0\.2:9001.* from 10\.0\.0\.1:9001, on a copy of the same"):
        await bench.beat("n1", agent=FIRST, address="10.0.0.1:9001")


@pytest.mark.parametrize(("report_s", "silent_s"), [(2.0, 15), (30.0, 90)])
async def test_another_folder_takes_the_place_of_a_silent_one(bench: Bench, report_s: float, silent_s: int) -> None:
    """An agent that seldom reports is silent later. When it is back, it is the second."""
    await publish(bench, 1)
    first = FIRST.model_copy(update={"report_s": report_s})
    await bench.beat("n1", agent=first, address="10.0.0.1:9001")
    bench.clock.move(silent_s - 0.1)
    with pytest.raises(OperatorError, match=rf"silent for {silent_s} s"):
        await bench.beat("n1", agent=OTHER)
    bench.clock.move(0.1)
    await bench.beat("n1", agent=OTHER, address="10.0.0.2:9001")
    with pytest.raises(OperatorError, match=r"n1 of system blockstore is at 10\.0\.0\.2:9001"):
        await bench.beat("n1", agent=first)
    assert await where(bench) == "10.0.0.2:9001"


async def test_a_permit_ends_with_the_folder_that_it_was_for(bench: Bench) -> None:
    """Nobody else could return it: the node that began anew would count as away for ever."""
    await publish(bench, 1, 2)
    for node in ("n1", "n2"):
        await bench.beat(node, agent=FIRST if node == "n1" else None)
    permit = (await bench.ask("n1")).permit
    bench.clock.move(15)
    await bench.beat("n2")
    assert (await bench.ask("n2")).reason == "1 of 1 node is away (n1 silent)"
    await bench.beat("n1", 2, agent=OTHER, address="10.0.0.2:9001")
    (ended,) = (await bench.server.status(SYSTEM)).permits
    assert (ended.permit, ended.returned_at) == (permit, bench.clock.now())
    assert ended.failure == "the node began on another state folder, at 10.0.0.2:9001"
    assert (await bench.ask("n2")).permit is not None
    await bench.give_back("n1", permit)  # by the first agent, when it is back: too late, and no fault
    assert (await bench.server.status(SYSTEM)).permits[0].failure == ended.failure


async def test_an_agent_that_starts_again_keeps_its_permit(bench: Bench) -> None:
    """Also after a long silence: its journal goes on with the upgrade."""
    await publish(bench, 1, 2)
    await bench.beat("n1", agent=FIRST)
    permit = (await bench.ask("n1")).permit
    bench.clock.move(100)
    await bench.beat("n1", agent=AGAIN)
    assert (await bench.ask("n1")).permit == permit is not None


@pytest.mark.parametrize("second", [OTHER, COPY])
async def test_a_second_agent_gets_no_permit(bench: Bench, second: AgentRow) -> None:
    """Else both would go away on one permit."""
    await publish(bench, 1, 2)
    await bench.beat("n1", agent=FIRST, address="10.0.0.1:9001")
    assert (await bench.ask("n1")).permit is not None
    request = PermitRequest(class_name="BlockNode", from_version=1, to_version=2, agent=second)
    with pytest.raises(OperatorError, match=r"another agent than this one speaks for node n1, at 10\.0\.0\.1:9001"):
        await bench.server.ask_permit(SYSTEM, NodeId("n1"), request)
    request = request.model_copy(update={"agent": AGAIN})  # it asks before it has reported
    assert (await bench.server.ask_permit(SYSTEM, NodeId("n1"), request)).permit is not None


async def test_an_agent_that_does_not_say_who_it_is_is_believed(bench: Bench) -> None:
    """So agents of a Segue from before go on, in either order."""
    await publish(bench, 1)
    for agent in (None, FIRST, None, OTHER):
        await bench.beat("n1", agent=agent)


async def test_ids_are_of_one_system(bench: Bench) -> None:
    """Another system may have a node of the same id."""
    await publish(bench, 1)
    await bench.server.publish(bundle_of(1, system="shop"))
    await bench.beat("n1", agent=FIRST)
    bench.system = SystemName("shop")
    await bench.beat("n1", agent=OTHER)


async def test_a_node_stays_of_its_class(bench: Bench) -> None:
    """Both classes are named, and the node stays known as it was, also after a silence and from another folder."""
    await publish(bench, 1, classes=("Origin", "Edge"))
    await bench.beat("n1", cls="Origin", agent=FIRST)
    for agent in (FIRST, AGAIN, OTHER):
        bench.clock.move(60)
        with pytest.raises(OperatorError) as refused:
            await bench.beat("n1", cls="Edge", agent=agent)
        assert str(refused.value) == (
            "node n1 of system blockstore is of class Origin, and reports as Edge: a node stays of its class. Give the "
            "one of class Edge an id of its own with --id, or forget the other first (`segue forget`)"
        )
    (node,) = (await bench.server.status(SYSTEM)).nodes
    assert node.class_name == "Origin"


async def test_a_wrong_class_can_be_mended_before_the_node_ran(bench: Bench) -> None:
    """A slip on the command line costs nothing: as on the node itself."""
    await publish(bench, 1)
    await bench.beat("n1", 0, cls="BlokNode", agent=FIRST)
    await bench.beat("n1", 0, cls="BlockNode", agent=AGAIN)
    (node,) = (await bench.server.status(SYSTEM)).nodes
    assert node.class_name == "BlockNode"


async def test_a_version_that_was_never_published_is_refused(bench: Bench) -> None:
    """Such as after a backup of the upgrade database was put back: the message says what is to be published again."""
    told = (
        "if the upgrade database is older than the fleet, publish {} again, the very same bundles; else the node is at "
        "the wrong upgrade server"
    )
    with pytest.raises(OperatorError) as refused:
        await bench.beat("n1", 2)
    assert str(refused.value) == (
        "node n1 runs version 2, and no release of blockstore is here: " + told.format("releases 1 to 2")
    )
    await publish(bench, 1)
    with pytest.raises(OperatorError) as refused:
        await bench.beat("n1", 2)
    assert str(refused.value) == (
        "node n1 runs version 2, and the newest release of blockstore here is 1: " + told.format("release 2")
    )
    assert (await bench.server.status(SYSTEM)).nodes == ()
    await publish(bench, 2)
    assert await bench.beat("n1", 2) == 2


async def test_a_node_that_never_served_has_version_0(bench: Bench) -> None:
    """It waits for a release, whether there is one or not."""
    assert await bench.beat("n1", 0) == 0
    await publish(bench, 1)
    assert await bench.beat("n1", 0) == 1


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"agent": OTHER.model_dump()}, "a state folder of its own"),
        ({"class_name": "Edge"}, "node n1 of system blockstore is of class BlockNode"),
        ({"version": 9}, "node n1 runs version 9"),
    ],
)
async def test_a_refused_report_changes_nothing(bench: Bench, body: dict[str, object], message: str) -> None:
    """It is a conflict, for an operator to settle; not even its calls are counted."""
    await publish(bench, 1)
    await bench.beat("n1", agent=FIRST)
    before = await bench.server.status(SYSTEM)
    said = {"class_name": "BlockNode", "version": 1, "address": "h:2", "phase": "serving", "agent": FIRST.model_dump()}
    status, refusal = await bench.error("POST", "/v1/systems/blockstore/nodes/n1/heartbeat", json={**said, **body})
    assert (status, refusal["family"]) == (409, "operator")
    assert message in refusal["message"]
    assert await bench.server.status(SYSTEM) == before
