"""Rule: what happened is listed in its order, with who and why, part by part, and by node and kind."""

from datetime import timedelta
from typing import Any

import pytest

from segue.errors import OperatorError
from segue.model.hand import Deed
from segue.model.history import Kind
from segue.model.ids import NodeId, SystemName
from segue.model.silence import LEASE_S
from segue.testing.server import SYSTEM, Bench, bundle_of
from segue.wire.hand import ActionRequest, HistoryEntry, HistoryPage
from segue.wire.messages import Heartbeat


async def some_history(bench: Bench) -> None:
    """Two releases, a pause, and an upgrade that failed."""
    for version in (1, 2):
        await bench.server.publish(bundle_of(version, description=f"the {version}."))
        bench.clock.move(1)
    for node in ("n1", "n2"):
        await bench.beat(node)
    await bench.server.act(SYSTEM, ActionRequest(deed=Deed.PAUSE, who="ada", why="lunch"))
    bench.clock.move(1)
    await bench.server.act(SYSTEM, ActionRequest(deed=Deed.RESUME, who="grace"))
    bench.clock.move(1)
    permit = (await bench.ask("n1")).permit
    bench.clock.move(1)
    await bench.give_back("n1", permit, "it broke", final=True)


def told(entries: tuple[HistoryEntry, ...]) -> list[tuple[object, ...]]:
    """Return what releases, permits and operators did; a store may tell more than that."""
    kinds = ("published", "granted", "returned", "acted")
    return [(one.kind, one.node, one.version, one.who, one.text) for one in entries if one.kind in kinds]


HAPPENED = [
    ("published", None, 1, "", "the 1."),
    ("published", None, 2, "", "the 2."),
    ("acted", None, None, "ada", "lunch"),
    ("acted", None, None, "grace", ""),
    ("granted", "n1", 2, "", "from 1 to 2"),
    ("returned", "n1", 2, "", "it broke"),
]


async def test_all_of_it_in_its_order(bench: Bench) -> None:
    await some_history(bench)
    page = await bench.server.history(SYSTEM)
    assert told(page.entries) == HAPPENED
    assert page.more_after is None
    numbers = [entry.number for entry in page.entries]
    assert numbers == sorted(set(numbers))
    assert [entry.details["deed"] for entry in page.entries if entry.kind == "acted"] == ["pause", "resume"]


async def test_part_by_part(bench: Bench) -> None:
    """With the number of the last entry that is known, none is missed and none comes twice."""
    await some_history(bench)
    entries: tuple[HistoryEntry, ...] = ()
    after: int | None = 0
    while after is not None:
        response = await bench.http.get(f"/v1/systems/{SYSTEM}/history", params={"after": after, "limit": 2})
        page = response.json()
        assert len(page["entries"]) <= 2
        entries += tuple(HistoryEntry.model_validate(entry) for entry in page["entries"])
        after = page["more_after"]
    assert told(entries) == HAPPENED
    assert (await bench.server.history(SYSTEM, after=entries[-1].number)).entries == ()


async def test_of_a_node_and_of_a_kind(bench: Bench) -> None:
    await some_history(bench)
    assert told((await bench.server.history(SYSTEM, node="n1")).entries) == HAPPENED[4:]
    assert told((await bench.server.history(SYSTEM, node="n2")).entries) == []
    assert told((await bench.server.history(SYSTEM, kinds=("acted", "granted"))).entries) == HAPPENED[2:5]
    assert told((await bench.server.history(SYSTEM, kinds=("acted", "granted"), last=2)).entries) == HAPPENED[3:5]
    assert told((await bench.server.history(SYSTEM, kinds=("unheard-of",))).entries) == []


async def test_each_failure_is_told(bench: Bench) -> None:
    """One that is as the last was, too, with its own traceback; but not that it is put off, or tried again."""
    await bench.server.publish(bundle_of(1))

    async def says(failure: str | None, attempts: int, details: str = "", **more: Any) -> None:
        said = Heartbeat(
            class_name="BlockNode", version=1, address="h:1", phase="serving", failure=failure, attempts=attempts,
            failure_details=details, **more,
        )  # fmt: skip
        await bench.server.heartbeat(SYSTEM, NodeId("n1"), said)

    await says("it broke", 1, "line 1")
    await says("it broke", 1, "line 1", crashes=1)
    await says("it broke", 2, "line 2")
    await says("it broke", 0)
    await says("it broke", 1, "line 3")
    await says("another", 1, "line 4")
    await says(None, 0)
    await says("another", 1, "line 5")
    failed = bench.store.history(SYSTEM, kinds=(Kind.FAILED,))
    assert [(one.text, one.details["attempts"], one.bulk) for one in failed] == [
        ("it broke", 1, "line 1"), ("it broke", 2, "line 2"), ("it broke", 1, "line 3"), ("another", 1, "line 4"),
        ("another", 1, "line 5"),
    ]  # fmt: skip


async def test_a_permit_tells_that_its_lease_ended(bench: Bench) -> None:
    for version in (1, 2):
        await bench.server.publish(bundle_of(version))
    await bench.beat("n1")
    await bench.ask("n1")
    assert [one.lapsed_at for one in (await bench.server.status(SYSTEM)).permits] == [None]
    bench.store.tend(timedelta(days=1))
    for _ in range(12):  # only time in which a server is there to hear the node counts as its silence
        bench.clock.move(LEASE_S / 12)
        bench.store.tend(timedelta(days=1))
    assert [one.lapsed_at for one in (await bench.server.status(SYSTEM)).permits] == [bench.clock.now()]
    assert [one.lapsed_at for one in (await bench.server.node(SYSTEM, NodeId("n1"))).permits] == [bench.clock.now()]


async def test_one_node_with_its_permits(bench: Bench) -> None:
    """And what it waits for, which the others decide about."""
    await some_history(bench)
    await bench.ask("n2")
    await bench.ask("n1")
    detail = await bench.server.node(SYSTEM, NodeId("n1"))
    assert (detail.node.id, detail.node.waits_for) == ("n1", "1 of 1 node is away (n2)")
    assert [(permit.node, permit.failure) for permit in detail.permits] == [("n1", "it broke")]
    with pytest.raises(OperatorError, match="has no node n9"):
        await bench.server.node(SYSTEM, NodeId("n9"))


async def test_what_is_not_known_has_no_history(bench: Bench) -> None:
    nobody = SystemName("nobody")
    for asked in (bench.server.history(nobody), bench.server.node(nobody, NodeId("n1")), bench.server.summary(nobody)):
        with pytest.raises(OperatorError, match="no system nobody is known here"):
            await asked


async def test_each_answer_says_up_to_where_was_looked(bench: Bench) -> None:
    """Who follows a kind that is rare would else look at all that came meanwhile, again and again."""
    await some_history(bench)
    whole = (await bench.server.history(SYSTEM)).entries
    end, acted = whole[-1].number, [one.number for one in whole if one.kind == "acted"]
    assert (await bench.server.history(SYSTEM, kinds=("acted",))).up_to == end
    assert (await bench.server.history(SYSTEM, kinds=("acted",), after=end)).up_to == end
    assert (await bench.server.history(SYSTEM, kinds=("of a newer Segue",))).up_to == end
    response = await bench.http.get(f"/v1/systems/{SYSTEM}/history", params={"kind": "acted", "limit": 1})
    page = HistoryPage.model_validate(response.json())
    assert (page.more_after, page.up_to) == (acted[0], acted[0])


async def test_from_the_end(bench: Bench) -> None:
    await some_history(bench)
    whole = (await bench.server.history(SYSTEM)).entries
    found: list[HistoryEntry] = []
    before: int | None = None
    while True:
        page = await bench.server.history(SYSTEM, last=4, before=before)
        assert (page.more_after, page.up_to) == (None, before - 1 if before else whole[-1].number)
        found = [*page.entries, *found]
        if page.more_before is None:
            break
        before = page.more_before
    assert tuple(found) == whole
