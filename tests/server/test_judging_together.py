"""Rule: many requests at once get what some order of single ones would have got, and no limit is ever passed."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

from hypothesis import given, settings
from hypothesis import strategies as st

from segue.errors import OperatorError, SegueError
from segue.model.ids import ClassName, ContentHash, NodeId, SystemName, Version
from segue.release.bundle import manifest_of
from segue.server.decisions import rules_of
from segue.server.facts import Ask, Granted, Held, NodeRecord, NotYet, Permit, Picture, Release, Verdict
from segue.server.judging import Request, groups_of, judge, judge_together
from segue.server.verdicts import outcome_of
from segue.testing.server import bundle_of
from segue.wire.messages import Heartbeat

SYSTEM = SystemName("blockstore")
NOON = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
CLASSES = ("Edge", "Origin")
SCHEDULES = st.sampled_from(
    [
        "max_unavailable = 1",
        "max_unavailable = 3",
        'max_unavailable = "50%"',
        'max_unavailable = 1\nper = "zone"',
        "max_unavailable = { system = 3, zone = 2 }",
        'max_unavailable = 9\nrate = "2/h"',
        'max_unavailable = 9\ncanary = { nodes = 1, soak = "10m" }',
        'max_unavailable = 9\nwaves = { sizes = [2, 4], soak = "10m" }',
        "max_unavailable = 9\nfailure_budget = 2",
        'max_unavailable = 2\nafter = ["Origin"]',
        'max_unavailable = 3\nin_progress = "queue"',
    ]
)


@lru_cache
def release(version: int, schedule: str) -> Release:
    own = schedule.replace('after = ["Origin"]', "")  # a class does not wait for itself
    bundle = bundle_of(version, schedule=own, classes=CLASSES)
    return Release(
        system=SYSTEM, version=Version(version), sha256=ContentHash("a" * 64), size_bytes=1, description="",
        published_at=NOON - timedelta(hours=1), manifest=manifest_of(bundle).model_dump_json(exclude_none=True),
    )  # fmt: skip


def node(name: str, version: int, cls: str, zone: str, seen_s: int, holds: dict[int, str]) -> NodeRecord:
    said = Heartbeat(
        class_name=cls, version=version, address="h:1", phase="serving", attributes={"zone": zone}, holds=holds
    )
    seen = NOON - timedelta(seconds=seen_s)
    return NodeRecord(id=NodeId(name), version=Version(version), said=said, last_seen=seen)


def asks(node: NodeRecord, to: int, asked_s: int, ago_s: int) -> Ask:
    return Ask(
        node=node.id, class_name=ClassName(node.said.class_name), from_version=node.version, to_version=Version(to),
        asked_at=NOON - timedelta(seconds=asked_s), last_asked_at=NOON - timedelta(seconds=ago_s),
    )  # fmt: skip


@st.composite
def fleets(draw: st.DrawFn) -> Picture:
    releases = [release(version, draw(SCHEDULES)) for version in range(1, draw(st.integers(2, 4)) + 1)]
    nodes, permits, waiting = [], [], []
    for number in range(draw(st.integers(1, 7))):
        version = draw(st.integers(1, len(releases) - 1))
        holds = draw(st.sampled_from([{}, {}, {}, {2: "busy"}, {3: "busy"}]))
        seen_s = draw(st.sampled_from([0, 0, 0, 60]))
        one = node(f"n{number}", version, draw(st.sampled_from(CLASSES)), draw(st.sampled_from("ab")), seen_s, holds)
        nodes.append(one)
        what = draw(
            st.sampled_from(["nothing", "waits", "waits", "away", "failed", "tries again", "gave up, and waits"])
        )
        to = draw(st.integers(version + 1, len(releases)))
        if what in ("away", "failed", "tries again", "gave up, and waits"):
            back = None if what == "away" else NOON - timedelta(minutes=1)
            failure = None if what == "away" else "it broke"
            permits.append(
                Permit(
                    id=f"old-{number}", node=one.id, class_name=ClassName(one.said.class_name),
                    from_version=one.version, to_version=Version(to),
                    granted_at=NOON - timedelta(minutes=10 - number), returned_at=back,
                    failure=failure, final=failure is not None and what != "tries again",
                )
            )  # fmt: skip
        if what.endswith("waits"):
            waiting.append(asks(one, to, draw(st.integers(1, 9)), draw(st.sampled_from([1, 1, 20]))))
    return Picture(
        system=SYSTEM, at=NOON, releases=tuple(releases), nodes=tuple(nodes), permits=tuple(permits),
        asks=tuple(sorted(waiting, key=lambda ask: (ask.asked_at, ask.node))),
    )  # fmt: skip


@st.composite
def fleets_that_ask(draw: st.DrawFn) -> tuple[Picture, list[Request]]:
    picture = draw(fleets())
    places = draw(st.lists(st.integers(0, len(picture.nodes) - 1), min_size=1, max_size=9))
    requests = []
    for number, place in enumerate(places):
        one = picture.nodes[place]
        ask = asks(one, draw(st.integers(one.version, len(picture.releases) + 1)), 0, 0)
        if draw(st.integers(0, 9)) == 0:
            ask = replace(ask, class_name=ClassName("Other"))
        avoided = draw(st.sampled_from([(), (), (), (Version(2),)]))
        holds = draw(st.sampled_from([None, {}, {}, {2: "busy"}, {3: "busy"}]))
        requests.append(Request(replace(ask, avoided=avoided, holds=holds), f"p{number}"))
    return picture, requests


def heard_of(picture: Picture, requests: Sequence[Request]) -> Picture:
    """Have all that ask heard of just before."""
    asking = {request.ask.node for request in requests}
    return replace(
        picture,
        nodes=tuple(replace(one, last_seen=NOON) if one.id in asking else one for one in picture.nodes),
    )


def kind(became: Verdict | Exception) -> object:
    """Return what of a verdict does not depend on who else asks: the words of a refusal may name others."""
    match became:
        case NotYet(ask):
            return ("not yet", ask.node, ask.asked_at)
        case Exception():
            return str(became)
        case Granted(permit) | Held(permit):
            return (type(became), permit)


def one_by_one(picture: Picture, requests: Sequence[Request]) -> list[Verdict | Exception]:
    verdicts: list[Verdict | Exception] = []
    for request in requests:
        try:
            verdicts.append(judge(picture, request.ask, request.permit))
        except OperatorError as error:
            verdicts.append(error)
        picture = outcome_of(picture, verdicts[-1:]).of(picture)
    return verdicts


def order_of(requests: Sequence[Request], became: Sequence[Verdict | SegueError], picture: Picture) -> list[int]:
    """Return the order of single requests that is said to have these answers."""
    since = {ask.node: ask.asked_at for ask in picture.asks if ask.counts_at(NOON)}

    def key(place: int) -> tuple[object, ...]:
        node, verdict = requests[place].ask.node, became[place]
        return (0, -verdict.permit.to_version, since.get(node, NOON), node) if isinstance(verdict, Granted) else (1,)

    return [place for group in groups_of(picture, requests) for place in sorted(group, key=key)]


@settings(derandomize=True, deadline=None, max_examples=150)
@given(fleets_that_ask())
def test_the_answers_are_those_of_single_requests(made: tuple[Picture, list[Request]]) -> None:
    picture, requests = made
    picture = heard_of(picture, requests)
    became = judge_together(picture, requests)
    order = order_of(requests, became, picture)
    alone = one_by_one(picture, [requests[place] for place in order])
    assert [kind(became[place]) for place in order] == [kind(one) for one in alone]


@settings(derandomize=True, deadline=None, max_examples=150)
@given(fleets_that_ask())
def test_no_limit_is_passed_and_only_those_that_ask_go(made: tuple[Picture, list[Request]]) -> None:
    picture, requests = made
    became = judge_together(picture, requests)
    granted = [one.permit for one in became if isinstance(one, Granted)]
    assert {permit.node for permit in granted} <= {request.ask.node for request in requests}
    assert len({permit.node for permit in granted}) == len(granted)
    assert len({permit.id for permit in granted}) == len(granted)
    away = sum(permit.returned_at is None for permit in picture.permits)
    for place in order_of(requests, became, picture):
        one = became[place]
        if not isinstance(one, Granted):
            continue
        # On its way it may go past releases that failed; at the last it stops.
        rules = rules_of(picture.releases[one.permit.to_version - 1], one.permit.class_name)
        assert rules is not None
        limits = [budget.limit_of(len(picture.nodes)) for budget in rules.budgets if budget.per is None]
        assert all(away < limit for limit in limits)
        away += 1


def fleet(count: int, schedule: str, *, waiting: bool = False) -> tuple[Picture, list[Request]]:
    nodes = tuple(node(f"n{number:05}", 1, "Edge", "a", 0, {}) for number in range(count))
    picture = Picture(
        system=SYSTEM, at=NOON, releases=(release(1, schedule), release(2, schedule)), nodes=nodes,
        asks=tuple(asks(one, 2, 5, 1) for one in nodes) if waiting else (),
    )  # fmt: skip
    return picture, [Request(asks(one, 2, 0, 0), f"p{one.id}") for one in nodes]


def test_one_wrong_request_is_refused_alone() -> None:
    picture, requests = fleet(3, "max_unavailable = 9")
    requests[1] = replace(requests[1], ask=replace(requests[1].ask, to_version=Version(7)))
    first, wrong, third = judge_together(picture, requests)
    assert isinstance(wrong, OperatorError)
    assert "has no release 7" in str(wrong)
    assert (type(first), type(third)) == (Granted, Granted)


def test_a_node_that_asks_twice_at_once_has_one_permit() -> None:
    picture, (request, _) = fleet(2, "max_unavailable = 9")
    first, second = judge_together(picture, [request, replace(request, permit="another")])
    assert isinstance(first, Granted)
    assert second == Held(first.permit)


def test_who_is_far_behind_asks_less_often() -> None:
    """So that 10,000 that wait ask a few hundred times in a second, and whoever is next asks at once."""
    picture, requests = fleet(10_000, "max_unavailable = 1", waiting=True)
    verdicts = judge_together(picture, requests)
    assert isinstance(verdicts[0], Granted)
    waits_s = [one.retry_after_s for one in verdicts if isinstance(one, NotYet)]
    assert waits_s == sorted(waits_s)
    assert (waits_s[0], waits_s[49], waits_s[-1]) == (1, 1, 60)
    assert 200 < sum(1 / wait_s for wait_s in waits_s) < 500


def test_nobody_lapses_between_two_requests() -> None:
    """An agent asks up to a quarter later than it was told; its request counts for longer than that."""
    picture, requests = fleet(10_000, "max_unavailable = 1", waiting=True)
    for one in judge_together(picture, requests):
        if isinstance(one, NotYet):
            assert one.kept.counts_at(NOON + timedelta(seconds=1.25 * one.retry_after_s + 5))
            assert not one.kept.counts_at(NOON + timedelta(seconds=1.25 * one.retry_after_s + 16))


def test_a_fast_rollout_has_its_nodes_ask_sooner() -> None:
    """Those whose turn will have come by then: else their places stood empty until they ask."""
    picture, requests = fleet(4000, "max_unavailable = 1", waiting=True)
    gone = [
        Permit(
            id=f"g{number}", node=NodeId(f"gone{number}"), class_name=ClassName("Edge"), from_version=Version(1),
            to_version=Version(2), granted_at=NOON - timedelta(seconds=number / 200), returned_at=NOON,
        )
        for number in range(2000, 0, -1)
    ]  # fmt: skip
    slow, fast = (
        judge_together(picture, requests)[-1],
        judge_together(replace(picture, permits=tuple(gone)), requests)[-1],
    )
    assert isinstance(slow, NotYet)
    assert isinstance(fast, NotYet)
    assert slow.retry_after_s == 60
    assert 0.75 * 3998 / 200 < fast.retry_after_s < 0.85 * 3998 / 200
