"""Whatever the fleet and the rules: every request is answered, no grant passes a budget, facts have no order."""

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from segue.model.amount import Percent, at_least
from segue.model.fleet import Fleet, NodeFact
from segue.model.hand import Action, Deed, Hand
from segue.model.hours import Freeze, Window
from segue.model.ids import ClassName, NodeId, Version
from segue.schedule import (
    Behind,
    Bound,
    Budget,
    BudgetSpent,
    Canary,
    CanaryAway,
    CanaryFailed,
    NodeHolds,
    Rate,
    Rules,
    Waves,
    decide,
    halted,
)  # fmt: skip

BLOCKS, EDGE = ClassName("BlockNode"), ClassName("Edge")
NOON = datetime(2024, 5, 2, 12, 0, 0, tzinfo=UTC)
STEADY = settings(derandomize=True, deadline=None, max_examples=150)

MOMENTS = st.integers(-5, 120).map(lambda ago: NOON - timedelta(seconds=ago))
ATTRIBUTES = st.dictionaries(st.sampled_from(["zone", "rack"]), st.sampled_from(["a", "b"]))
RULES = st.builds(
    Rules,
    budgets=st.lists(
        st.builds(
            Budget,
            limit=st.integers(1, 4) | st.sampled_from([Percent(10), Percent(50), Percent(100)]),
            per=st.sampled_from([None, "zone", "rack"]),
        ),
        max_size=3,
    ).map(tuple),
    canary=st.none() | st.builds(Canary, nodes=st.integers(1, 3), soak_s=st.integers(0, 60).map(float)),
    stale_s=st.just(60.0),
)
#: One or several of each kind of rule.
ALL_RULES = st.builds(
    Rules,
    budgets=RULES.map(lambda rules: rules.budgets),
    canary=st.none()
    | st.builds(
        Canary,
        nodes=st.integers(1, 3) | st.just(Percent(50)) | st.just((NodeId("n1"), NodeId("n9"))),
        soak_s=st.integers(0, 60).map(float),
    ),
    waves=st.none()
    | st.builds(Waves, sizes=st.sampled_from([(1, 4), (Percent(20), Percent(80))]), soak_s=st.just(20.0)),
    rate=st.none() | st.builds(Rate, nodes=st.integers(1, 3), per_s=st.just(60.0)),
    spread_s=st.none() | st.just(120.0),
    after=st.sampled_from([(), (EDGE,)]),
    freezes=st.sampled_from([(), (Freeze(zone=ZoneInfo("UTC"), first=NOON.date(), last=NOON.date()),)]),
    windows=st.sampled_from([(), (Window(zone=ZoneInfo("Europe/Berlin"), begin=time(15)),)]),
    gates=st.sampled_from([(), (), ("qa",)]),
    healthy=st.sampled_from([(), (Bound(fact="ms", most=5),), (Bound(fact="ms", most_times=2, dry_run=True),)]),
    failure_budget=st.none() | st.integers(1, 3) | st.just(Percent(30)),
    deadline=st.none() | st.sampled_from([1.0, 1e6]),
    stale_s=st.just(60.0),
)


@st.composite
def fleets(draw: DrawFn) -> Fleet:
    """Draw a fleet: mostly of nodes that make sense, and some that only a confused server would tell of."""
    seldom = st.sampled_from([False] * 5 + [True])
    facts = [
        NodeFact(
            id=NodeId(f"n{number}"),
            class_name=draw(st.sampled_from([BLOCKS, BLOCKS, BLOCKS, EDGE])),
            version=Version(draw(st.sampled_from([1, 1, 1, 0, 2, 3]))),
            attributes=draw(ATTRIBUTES),
            last_seen=draw(MOMENTS) if draw(seldom) else NOON,
            away_since=draw(MOMENTS) if draw(seldom) else None,
            waits_since=None if draw(seldom) else draw(MOMENTS),
            granted_at=draw(MOMENTS) if draw(seldom) else None,
            upgraded_at=draw(MOMENTS) if draw(seldom) else None,
            failed=draw(seldom),
            failed_at=draw(st.none() | MOMENTS),
            facts=draw(st.sampled_from([{"ms": 3.0}] * 4 + [{"ms": 9.0}, {}])),
            holds="busy" if draw(seldom) else None,
            report_s=draw(st.sampled_from([0.0, 2.0, 25.0, 30.0])),
        )
        for number in range(draw(st.sampled_from([8, 6, 5, 4, 3, 2, 1, 0])))
    ]
    grants = tuple(sorted(draw(st.lists(MOMENTS, max_size=4))))
    return Fleet.of(BLOCKS, Version(2), facts, begun_at=NOON - timedelta(seconds=100), grants=grants)


@st.composite
def hands(draw: DrawFn) -> Hand:
    """Draw what operators may have done."""
    nodes = st.integers(0, 7).map(lambda number: NodeId(f"n{number}"))

    def act(deed: Deed, node: NodeId | None = None) -> Action:
        return Action(deed=deed, at=draw(MOMENTS), who="ann", version=Version(2), node=node)

    def of_nodes(deed: Deed) -> dict[tuple[Version, NodeId], Action]:
        return {(Version(2), node): act(deed, node=node) for node in draw(st.sets(nodes, max_size=2))}

    skipped = of_nodes(Deed.SKIP)
    return Hand(
        paused=act(Deed.PAUSE) if draw(st.booleans()) else None,
        resumed=act(Deed.RESUME) if draw(st.booleans()) else None,
        approved={(Version(2), "qa"): act(Deed.APPROVE)} if draw(st.booleans()) else {},
        skipped=skipped,
        retried=of_nodes(Deed.RETRY),
        forced={place: force for place, force in of_nodes(Deed.FORCE).items() if place not in skipped},
    )


def is_silent(fact: NodeFact) -> bool:
    """By the rule as it is documented, for rules that call no node silent before 60 s."""
    return abs((NOON - fact.last_seen).total_seconds()) >= max(60, 3 * fact.report_s)


def away_by_group(fleet: Fleet, per: str | None, away: set[NodeId]) -> Counter[str]:
    return Counter(fleet.nodes[node].attributes.get(per, "(none)") if per else "" for node in away)


@STEADY
@given(fleet=fleets(), rules=RULES)
def test_every_request_is_granted_or_refused_with_a_reason(fleet: Fleet, rules: Rules) -> None:
    decision = decide(fleet, rules, NOON)
    asked = {
        fact.id
        for fact in fleet.nodes.values()
        if fact.class_name == BLOCKS
        and fact.waits_since
        and not fact.away_since
        and not fact.upgraded_at
        and fact.version < 2
    }
    assert sorted((*decision.grants, *decision.refusals)) == sorted(asked)
    for refusal in decision.refusals.values():
        assert refusal.text
        assert "\n" not in refusal.text
        assert refusal.until is None or refusal.until > NOON


@STEADY
@given(fleet=fleets(), rules=ALL_RULES, hand=hands())
def test_every_request_is_answered_whatever_rules_and_operators_say(fleet: Fleet, rules: Rules, hand: Hand) -> None:
    fleet = replace(fleet, hand=hand)
    decision = decide(fleet, rules, NOON)
    assert sorted((*decision.grants, *decision.refusals)) == sorted(fact.id for fact in fleet.requests())
    assert decision == decide(fleet, rules, NOON)
    for refusal in decision.refusals.values():
        assert refusal.text
        assert "\n" not in refusal.text
        assert refusal.until is None or refusal.until > NOON


@STEADY
@given(fleet=fleets(), rules=ALL_RULES, hand=hands())
def test_operators_have_the_last_word(fleet: Fleet, rules: Rules, hand: Hand) -> None:
    fleet = replace(fleet, hand=hand)
    grants = set(decide(fleet, rules, NOON).grants)
    forced = {node for _, node in hand.forced}
    assert not grants & {node for _, node in hand.skipped}
    if hand.paused:
        assert grants <= forced
    for fact in fleet.requests():
        if fact.id in forced and not is_silent(fact):
            is_spent = fact.granted_at is not None and fact.granted_at >= hand.forced[Version(2), fact.id].at
            assert is_spent or fact.id in grants
    abort = Action(deed=Deed.ABORT, at=NOON, who="ann", version=Version(2))
    assert not decide(replace(fleet, hand=replace(hand, aborted={Version(2): abort})), rules, NOON).grants


@STEADY
@given(fleet=fleets(), rules=ALL_RULES)
def test_what_is_spent_is_not_spent_twice(fleet: Fleet, rules: Rules) -> None:
    """Rates, waves and failure budgets, as budgets, are kept by all grants of one decision together."""
    grants = decide(fleet, rules, NOON).grants
    if not grants:
        return
    if halted(fleet, rules, NOON):
        raise AssertionError(grants)
    late = rules.is_late(NOON - timedelta(seconds=100), NOON)
    if rules.rate is not None and not late:
        recent = [at for at in fleet.grants if at > NOON - timedelta(seconds=60)]
        assert len(recent) + len(grants) <= rules.rate.nodes
    if rules.waves is not None and rules.failure_budget is None:
        members = [fact for fact in fleet.of_the_class() if fact.upgraded_at or not fleet.is_upgraded(fact)]
        gone = [fact for fact in members if fact.failed or fact.upgraded_at or fact.is_away_to(Version(2))]
        sizes = [min(len(members), at_least(size, len(members))) for size in rules.waves.sizes]
        soaked = [
            fact
            for fact in gone
            if fact.upgraded_at
            and not fact.failed
            and fact.upgraded_at + timedelta(seconds=0 if late else 20) <= (fact.last_seen if is_silent(fact) else NOON)
        ]
        size = next((size for size in sizes if len(soaked) < size), len(members))
        assert len(gone) + len(grants) <= size


@STEADY
@given(fleet=fleets(), rules=ALL_RULES)
def test_without_a_rule_that_no_grant_changes_no_less_is_granted(fleet: Fleet, rules: Rules) -> None:
    """Gates, orders of classes and the clock hold all or nobody: taken away, at least those go that went before."""
    fewer = replace(rules, gates=(), after=(), freezes=(), windows=())
    assert set(decide(fleet, rules, NOON).grants) <= set(decide(fleet, fewer, NOON).grants)


@STEADY
@given(fleet=fleets(), rules=RULES)
def test_no_grant_passes_a_budget(fleet: Fleet, rules: Rules) -> None:
    grants = set(decide(fleet, rules, NOON).grants)
    away = {fact.id for fact in fleet.nodes.values() if fact.away_since or (fact.version > 0 and is_silent(fact))}
    assert not grants & away
    for budget in rules.budgets:
        before, after = (away_by_group(fleet, budget.per, nodes) for nodes in (away, away | grants))
        sizes = away_by_group(fleet, budget.per, {fact.id for fact in fleet.nodes.values() if fact.version > 0})
        for group, count in after.items():
            assert count <= budget.limit_of(sizes[group]) or count == before[group]


@STEADY
@given(fleet=fleets(), rules=RULES)
def test_a_refusal_is_no_whim(fleet: Fleet, rules: Rules) -> None:
    """Were the rule that is named taken away, as well as the others, the node could go."""
    decision = decide(fleet, rules, NOON)
    free = decide(fleet, Rules(budgets=(), stale_s=rules.stale_s), NOON)
    for node in decision.refusals:
        seen = not is_silent(fleet.nodes[node])
        assert (node in free.grants) is (seen and not isinstance(decision.refusals[node].reason, NodeHolds))


@STEADY
@given(fleet=fleets(), rules=RULES)
def test_a_refusal_is_true(fleet: Fleet, rules: Rules) -> None:
    """Who is called away is away or silent; who is said to stand before does, and may go."""
    decision = decide(fleet, rules, NOON)
    asked = [fact.id for fact in fleet.requests()]
    for node, refusal in decision.refusals.items():
        match refusal.reason:
            case BudgetSpent(away=away):
                facts = [fleet.nodes[other] for other in away]
                assert all(fact.away_since or is_silent(fact) for fact in facts)
            case CanaryAway(node=canary):
                assert fleet.nodes[canary].away_since
            case Behind(node=before):
                assert before in decision.grants
                assert asked.index(before) < asked.index(node)


@STEADY
@given(fleet=fleets(), rules=RULES)
def test_a_failed_canary_ends_grants(fleet: Fleet, rules: Rules) -> None:
    decision = decide(fleet, rules, NOON)
    if any(isinstance(refusal.reason, CanaryFailed) for refusal in decision.refusals.values()):
        assert decision.grants == ()


@STEADY
@given(fleet=fleets(), rules=RULES)
def test_nodes_that_joined_at_the_target_change_nothing(fleet: Fleet, rules: Rules) -> None:
    """They transformed nothing, so they are no canaries; and while they are seen they spend no budget.

    They are there, though: of a share of all nodes, theirs may be away.
    """
    rules = replace(rules, budgets=tuple(budget for budget in rules.budgets if isinstance(budget.limit, int)))
    joined = {
        fact.id
        for fact in fleet.nodes.values()
        if fact.version >= 2 and not fact.upgraded_at and not fact.away_since and not is_silent(fact)
    }
    rest = replace(fleet, nodes={node: fact for node, fact in fleet.nodes.items() if node not in joined})
    assert decide(fleet, rules, NOON) == decide(rest, rules, NOON)


@STEADY
@given(fleet=fleets(), rules=RULES, data=st.data())
def test_the_order_of_facts_is_nothing(fleet: Fleet, rules: Rules, data: st.DataObject) -> None:
    shuffled = Fleet.of(BLOCKS, fleet.target, data.draw(st.permutations(list(fleet.nodes.values()))))
    first, second = decide(fleet, rules, NOON), decide(shuffled, rules, NOON)
    assert first == second
    assert list(first.refusals) == list(second.refusals)


@STEADY
@given(fleet=fleets(), rules=RULES)
def test_grants_written_down_leave_nothing_to_grant(fleet: Fleet, rules: Rules) -> None:
    """A server that decides again at the same moment, its grants written down, has no more to give."""
    grants = decide(fleet, rules, NOON).grants
    granted = Fleet.of(
        BLOCKS,
        fleet.target,
        (
            replace(fact, away_since=NOON, waits_since=None) if fact.id in grants else fact
            for fact in fleet.nodes.values()
        ),
    )
    again = decide(granted, rules, NOON)
    # A node two versions behind that was let go is away for another version, and so no canary of this one.
    if all(fleet.nodes[node].version == 1 for node in grants):
        assert again.grants == ()
