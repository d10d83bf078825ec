"""Each rule holds whom it should until it should, and says why as an operator would; all of them together hold all."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from segue.model.amount import Percent
from segue.model.fleet import Answer, Fleet, NodeFact
from segue.model.hand import Action, Deed, Hand
from segue.model.hours import Freeze, Window
from segue.model.ids import ClassName, NodeId, Version
from segue.schedule import Bound, Budget, Canary, Decision, Rate, Rules, Waves, decide, halted
from segue.schedule.pace import share_of

Fact = Callable[..., NodeFact]
CLASS, TARGET = ClassName("BlockNode"), Version(2)
BERLIN = ZoneInfo("Europe/Berlin")


def ask(noon: datetime, rules: Rules, *facts: NodeFact, **more: object) -> Decision:
    return decide(Fleet.of(CLASS, TARGET, facts, **more), rules, noon)


def texts(decision: Decision) -> dict[str, str]:
    return {node: refusal.text for node, refusal in decision.refusals.items()}


def free(**rules: object) -> Rules:
    return Rules(budgets=(), **rules)  # type: ignore[arg-type]


def done(deed: Deed, at: datetime, *, node: str | None = None, gate: str | None = None, why: str = "") -> Action:
    return Action(deed=deed, at=at, who="ann", why=why, version=TARGET, node=NodeId(node) if node else None, gate=gate)


class TestShares:
    def test_a_share_of_the_system_is_rounded_down(self, fact: Fact, noon: datetime) -> None:
        nodes = [fact(f"n{number}", waits=9) for number in range(7)]
        assert ask(noon, Rules(budgets=(Budget(limit=Percent(30)),)), *nodes).grants == ("n0", "n1")

    def test_but_lets_one_go(self, fact: Fact, noon: datetime) -> None:
        rules = Rules(budgets=(Budget(limit=Percent(10), per="zone"),))
        nodes = [fact(f"n{number}", waits=9, zone="ab"[number % 2]) for number in range(4)]
        assert ask(noon, rules, *nodes).grants == ("n0", "n1")

    def test_nodes_that_are_down_count_as_away(self, fact: Fact, noon: datetime) -> None:
        nodes = [*(fact(f"n{number}", waits=9) for number in range(3)), fact("x", seen=99)]
        assert texts(ask(noon, Rules(budgets=(Budget(limit=Percent(25)),)), *nodes))["n0"] == (
            "1 of 1 node is away (x silent)"
        )

    def test_a_share_of_canaries_is_rounded_up(self, fact: Fact, noon: datetime) -> None:
        nodes = [fact(f"n{number}", waits=9) for number in range(7)]
        assert ask(noon, free(canary=Canary(nodes=Percent(20), soak_s=9)), *nodes).grants == ("n0", "n1")


class TestNamedCanaries:
    RULES = free(canary=Canary(nodes=(NodeId("n2"), NodeId("n3")), soak_s=30))

    def test_they_go_and_the_others_wait(self, fact: Fact, noon: datetime) -> None:
        decision = ask(noon, self.RULES, fact("n1", waits=9), fact("n2", waits=1), fact("n3"))
        assert decision.grants == ("n2",)
        assert texts(decision) == {"n1": "canary n2 goes first"}

    def test_one_that_nobody_knows_is_waited_for(self, fact: Fact, noon: datetime) -> None:
        decision = ask(noon, self.RULES, fact("n1", waits=9), fact("n2", version=2, upgraded=60))
        assert texts(decision) == {"n1": "canary n3 goes first, and nobody has heard of it"}

    def test_each_must_soak(self, fact: Fact, noon: datetime) -> None:
        facts = fact("n1", waits=9), fact("n2", version=2, upgraded=60), fact("n3", version=2, upgraded=10)
        assert texts(ask(noon, self.RULES, *facts)) == {"n1": "canary n3 soaks until 12:00:20 UTC"}

    def test_when_all_have_soaked_all_go(self, fact: Fact, noon: datetime) -> None:
        facts = fact("n1", waits=9), fact("n2", version=2, upgraded=60), fact("n3", version=2, upgraded=30)
        assert ask(noon, self.RULES, *facts).grants == ("n1",)

    def test_one_that_is_skipped_is_not_waited_for(self, fact: Fact, noon: datetime) -> None:
        facts = fact("n1", waits=9), fact("n2", version=2, upgraded=60), fact("n3", failed=True)
        hand = Hand(skipped={(TARGET, NodeId("n3")): done(Deed.SKIP, noon, node="n3")})
        assert texts(ask(noon, self.RULES, *facts)) == {"n1": "canary n3 failed: no other node may go"}
        assert ask(noon, self.RULES, *facts, hand=hand).grants == ("n1",)


class TestWaves:
    RULES = free(waves=Waves(sizes=(Percent(20), Percent(50), Percent(100)), soak_s=60))

    def test_the_first_wave_alone(self, fact: Fact, noon: datetime) -> None:
        decision = ask(noon, self.RULES, *(fact(f"n{number}", waits=9) for number in range(10)))
        assert decision.grants == ("n0", "n1")

    def test_the_second_when_the_first_has_soaked(self, fact: Fact, noon: datetime) -> None:
        waiting = [fact(f"n{number}", waits=9) for number in range(8)]
        first = [fact("x", version=2, upgraded=60), fact("y", version=2, upgraded=50)]
        assert texts(ask(noon, self.RULES, *waiting, *first))["n0"] == (
            "wave 1 of 3 (2 nodes) soaks until 12:00:10 UTC"
        )
        assert ask(noon + timedelta(seconds=10), self.RULES, *waiting, *first).grants == ("n0", "n1", "n2")

    def test_who_is_away_is_named(self, fact: Fact, noon: datetime) -> None:
        decision = ask(noon, free(waves=Waves(sizes=(1,), soak_s=0)), fact("n1", waits=1), fact("x", away=9))
        assert texts(decision) == {"n1": "wave 1 of 1 (1 node): x away"}

    def test_a_failure_ends_its_wave(self, fact: Fact, noon: datetime) -> None:
        rules = free(waves=Waves(sizes=(1, 3), soak_s=0))
        facts = fact("n1", waits=1), fact("n2", waits=1), fact("x", version=2, upgraded=9), fact("y", failed=True)
        assert ask(noon, rules, *facts).grants == ("n1",)
        facts = fact("n2", waits=1), fact("n1", version=2, upgraded=1), *facts[2:]
        assert texts(ask(noon, rules, *facts)) == {"n2": "wave 2 of 2 (3 nodes): y failed: no other node may go"}

    def test_with_a_failure_budget_others_take_its_place(self, fact: Fact, noon: datetime) -> None:
        rules = free(waves=Waves(sizes=(1, 3), soak_s=0), failure_budget=2)
        facts = fact("n1", waits=1), fact("n2", waits=1), fact("x", version=2, upgraded=9), fact("y", failed=True)
        assert ask(noon, rules, *facts).grants == ("n1", "n2")

    def test_after_the_last_wave_all_go(self, fact: Fact, noon: datetime) -> None:
        rules = free(waves=Waves(sizes=(1,), soak_s=0))
        assert ask(noon, rules, fact("n1", waits=1), fact("n2", waits=1), fact("x", version=2, upgraded=9)).grants == (
            "n1",
            "n2",
        )


class TestPace:
    def test_so_many_within_an_hour(self, fact: Fact, noon: datetime) -> None:
        rules = free(rate=Rate(nodes=2, per_s=3600))
        grants = tuple(noon - timedelta(minutes=minutes) for minutes in (70, 50))
        decision = ask(noon, rules, fact("n1", waits=9), fact("n2", waits=8), grants=grants)
        assert decision.grants == ("n1",)
        assert texts(decision) == {"n2": "n1 asked before"}
        decision = ask(noon, rules, fact("n2", waits=8), grants=(*grants, noon))
        assert texts(decision) == {"n2": "2 nodes went within the last hour: the next at 12:10:00 UTC"}
        assert decision.refusals[NodeId("n2")].until == noon + timedelta(minutes=10)

    def test_each_has_its_moment(self, fact: Fact, noon: datetime) -> None:
        rules, nodes = free(spread_s=3600.0), [fact(f"n{number}", waits=9) for number in range(40)]
        went: list[set[str]] = []
        for minutes in range(0, 61, 5):
            decision = ask(noon + timedelta(minutes=minutes), rules, *_seen(nodes, minutes), begun_at=noon)
            went.append(set(decision.grants))
            for refusal in decision.refusals.values():
                assert refusal.until is not None
                assert refusal.until > noon + timedelta(minutes=minutes)
        assert went[0] == set()
        assert len(went[-1]) == 40
        assert all(before <= after for before, after in pairwise(went))
        assert len({len(one) for one in went}) > 8

    def test_moments_are_the_same_for_ever(self) -> None:
        assert [round(share_of(NodeId(node)), 6) for node in ("n1", "n2")] == [0.403985, 0.017588]

    def test_what_a_spread_says(self, fact: Fact, noon: datetime) -> None:
        decision = ask(noon, free(spread_s=1000.0), fact("n2", waits=9), begun_at=noon)
        assert texts(decision) == {"n2": "its moment is 12:00:17 UTC"}


def _seen(nodes: list[NodeFact], minutes: int) -> list[NodeFact]:
    at = nodes[0].last_seen + timedelta(minutes=minutes)
    return [NodeFact(id=fact.id, class_name=CLASS, version=Version(1), last_seen=at, waits_since=at) for fact in nodes]


class TestOrder:
    RULES = free(after=(ClassName("Origin"),))

    @pytest.mark.parametrize("origin", [{"version": 1}, {"version": 2, "away": 3}, {"version": 1, "seen": 99}])
    def test_a_class_that_goes_first(self, fact: Fact, noon: datetime, origin: dict[str, float]) -> None:
        decision = ask(noon, self.RULES, fact("n1", waits=1), fact("o1", cls="Origin", **origin))
        assert texts(decision) == {"n1": "class Origin goes first: 1 node not upgraded yet (o1)"}

    @pytest.mark.parametrize("origin", [{"version": 2}, {"version": 3, "seen": 99}, {"version": 0}])
    def test_and_has_gone(self, fact: Fact, noon: datetime, origin: dict[str, float]) -> None:
        assert ask(noon, self.RULES, fact("n1", waits=1), fact("o1", cls="Origin", **origin)).grants == ("n1",)

    def test_one_that_is_skipped_is_not_waited_for(self, fact: Fact, noon: datetime) -> None:
        hand = Hand(skipped={(TARGET, NodeId("o1")): done(Deed.SKIP, noon, node="o1")})
        assert ask(noon, self.RULES, fact("n1", waits=1), fact("o1", cls="Origin"), hand=hand).grants == ("n1",)

    def test_a_release_that_goes_first(self, fact: Fact, noon: datetime) -> None:
        facts = fact("n1", version=2, waits=1), fact("n2", version=1), fact("n3", version=1, seen=99)
        fleet = Fleet.of(CLASS, Version(3), facts, before=Version(2))
        assert texts(decide(fleet, free(queues=True), noon)) == {
            "n1": "release 2 goes first: 1 node not there yet (n2)"
        }
        assert decide(fleet, free(), noon).grants == ("n1",)
        gone = Fleet.of(CLASS, Version(3), (facts[0], facts[2]), before=Version(2))
        assert decide(gone, free(queues=True), noon).grants == ("n1",)


class TestTime:
    def test_a_window(self, fact: Fact, noon: datetime) -> None:
        rules = free(windows=(Window(zone=BERLIN, begin=time(22), end=time(6)),))
        decision = ask(noon, rules, fact("n1", waits=1))
        assert texts(decision) == {"n1": "the next window opens at 20:00:00 UTC"}
        assert decision.refusals[NodeId("n1")].until == noon + timedelta(hours=8)
        assert ask(noon + timedelta(hours=8), rules, *_seen([fact("n1", waits=1)], 480)).grants == ("n1",)

    def test_a_freeze(self, fact: Fact, noon: datetime) -> None:
        rules = free(freezes=(Freeze(zone=BERLIN, first=date(2024, 5, 1), last=date(2024, 5, 3)),))
        decision = ask(noon, rules, fact("n1", waits=1))
        assert texts(decision) == {"n1": "a freeze holds all until 2024-05-03 22:00:00 UTC"}


class TestGates:
    def test_an_approval(self, fact: Fact, noon: datetime) -> None:
        rules, hand = free(gates=("qa",)), Hand(approved={(TARGET, "qa"): done(Deed.APPROVE, noon, gate="qa")})
        assert texts(ask(noon, rules, fact("n1", waits=1))) == {"n1": "gate qa is not approved"}
        assert ask(noon, rules, fact("n1", waits=1), hand=hand).grants == ("n1",)

    @pytest.mark.parametrize(
        ("answer", "text"),
        [
            (None, "https://ci/go was not asked yet"),
            (
                Answer(says=None, since=datetime(2024, 5, 2, tzinfo=UTC), text="timeout"),
                "https://ci/go gives no answer: timeout",
            ),
        ],
    )
    def test_a_webhook_that_is_not_known(self, fact: Fact, noon: datetime, answer: Answer | None, text: str) -> None:
        answers = {"https://ci/go": answer} if answer else {}
        decision = ask(noon, free(webhooks=("https://ci/go",)), fact("n1", waits=1), answers=answers)
        assert texts(decision) == {"n1": text}

    @pytest.mark.parametrize(("why", "more"), [("", ""), ("build 7\nis red", ": build 7 is red")])
    def test_a_webhook_that_says_no(self, fact: Fact, noon: datetime, why: str, more: str) -> None:
        answers = {"https://ci/go": Answer(says=False, since=noon, text=why)}
        decision = ask(noon, free(webhooks=("https://ci/go",)), fact("n1", waits=1), answers=answers)
        assert texts(decision) == {"n1": f"https://ci/go says no since 12:00:00 UTC{more}"}

    def test_a_webhook_that_says_yes(self, fact: Fact, noon: datetime) -> None:
        answers = {"https://ci/go": Answer(says=True, since=noon)}
        assert ask(noon, free(webhooks=("https://ci/go",)), fact("n1", waits=1), answers=answers).grants == ("n1",)


class TestHealth:
    def held(self, fact: Fact, noon: datetime, bound: Bound, **facts: float) -> str | None:
        nodes = fact("n1", waits=1, facts={"ms": 10.0}), fact("n2", facts={"ms": 30.0}), fact("n3", facts={"ms": 20.0})
        upgraded = fact("u1", version=2, upgraded=9, facts=facts)
        return texts(ask(noon, free(healthy=(bound,)), *nodes, upgraded)).get("n1")

    def test_within_bounds(self, fact: Fact, noon: datetime) -> None:
        assert self.held(fact, noon, Bound(fact="ms", most=50), ms=50) is None
        assert self.held(fact, noon, Bound(fact="ms", least=50), ms=50) is None
        assert self.held(fact, noon, Bound(fact="ms", most_times=1.5, least_times=1.5), ms=30) is None

    def test_out_of_bounds(self, fact: Fact, noon: datetime) -> None:
        assert self.held(fact, noon, Bound(fact="ms", most=50), ms=51) == (
            "u1 is upgraded and reports ms 51: at most 50 is healthy"
        )
        assert self.held(fact, noon, Bound(fact="ms", least=50), ms=49) == (
            "u1 is upgraded and reports ms 49: at least 50 is healthy"
        )
        assert self.held(fact, noon, Bound(fact="ms", most_times=1.5), ms=31) == (
            "u1 is upgraded and reports ms 31: at most 30 is healthy, as the median of the nodes not upgraded is 20"
        )

    def test_a_fact_that_is_not_reported(self, fact: Fact, noon: datetime) -> None:
        assert self.held(fact, noon, Bound(fact="ms", most=50)) == (
            "u1 is upgraded and does not report ms: nobody knows whether it is healthy"
        )

    def test_with_nobody_to_compare_with(self, fact: Fact, noon: datetime) -> None:
        rules = free(healthy=(Bound(fact="other", most_times=1.5),))
        nodes = fact("n1", waits=1), fact("u1", version=2, upgraded=9, facts={"other": 99.0})
        assert ask(noon, rules, *nodes).grants == ("n1",)

    def test_a_dry_run_holds_nobody_and_is_told(self, fact: Fact, noon: datetime) -> None:
        rules = free(healthy=(Bound(fact="ms", most=50, dry_run=True),))
        nodes = fact("n1", waits=1), fact("u1", version=2, upgraded=9, facts={"ms": 99.0})
        decision = ask(noon, rules, *nodes)
        assert decision.grants == ("n1",)
        assert decision.dry_run is not None
        assert decision.dry_run.text == "u1 is upgraded and reports ms 99: at most 50 is healthy"


class TestFailures:
    RULES = free(failure_budget=2)

    def test_a_budget_that_is_spent_halts(self, fact: Fact, noon: datetime) -> None:
        facts = fact("n1", waits=1), fact("f1", failed_at=50), fact("s1", version=2, upgraded=99, seen=70)
        assert ask(noon, self.RULES, *facts[:2]).grants == ("n1",)
        assert texts(ask(noon, self.RULES, *facts)) == {
            "n1": "halted: 2 of 2 failures (f1 failed, s1 silent); an operator must resume"
        }

    def test_it_is_known_when_nobody_waits(self, fact: Fact, noon: datetime) -> None:
        fleet = Fleet.of(CLASS, TARGET, (fact("f1", failed_at=50), fact("s1", away=80, seen=70)))
        refusal = halted(fleet, self.RULES, noon)
        assert refusal is not None
        assert refusal.text.startswith("halted: 2 of 2 failures")
        assert halted(fleet, free(failure_budget=3), noon) is None

    def test_what_was_before_a_resumption_does_not_count(self, fact: Fact, noon: datetime) -> None:
        facts = fact("n1", waits=1), fact("f1", failed_at=50), fact("s1", version=2, upgraded=99, seen=70)
        resumed = Hand(resumed=done(Deed.RESUME, noon - timedelta(seconds=30)))
        assert ask(noon, self.RULES, *facts, hand=resumed).grants == ("n1",)
        again = fact("f2", failed_at=20), fact("f3", failed_at=10)
        assert "f2 failed, f3 failed" in texts(ask(noon, self.RULES, *facts, *again, hand=resumed))["n1"]

    def test_a_node_that_is_silent_and_not_yet_lost_does_not_count(self, fact: Fact, noon: datetime) -> None:
        """Silence costs a place among those that are away at once; a failure it is when the lease of a permit ends."""
        facts = fact("n1", waits=1), fact("f1", failed_at=50), fact("s1", version=2, upgraded=99, seen=59)
        assert ask(noon, self.RULES, *facts).grants == ("n1",)

    def test_a_node_that_seldom_reports_is_lost_when_it_missed_six(self, fact: Fact, noon: datetime) -> None:
        for seen, is_lost in ((179, False), (180, True)):
            seldom = fact("s1", version=2, upgraded=999, seen=seen, report_s=30)
            decision = ask(noon, self.RULES, fact("n1", waits=1), fact("f1", failed_at=50), seldom)
            assert (decision.grants == ()) is is_lost

    def test_nobody_is_lost_whom_nobody_could_have_heard(self, fact: Fact, noon: datetime) -> None:
        """The upgrade server was away, or its clock was put forward: all are silent, and none need have failed."""
        facts = fact("n1", waits=1), fact("f1", failed_at=50), fact("s1", version=2, upgraded=9999, seen=3600)
        for ago, is_lost in ((0, False), (59, False), (60, True)):
            decision = ask(noon, self.RULES, *facts, listens_since=noon - timedelta(seconds=ago))
            assert (decision.grants == ()) is is_lost

    def test_a_node_whose_silence_halted_counts_though_it_is_back(self, fact: Fact, noon: datetime) -> None:
        """It may have crashed by the release, and been started anew: somebody has to look."""
        facts = fact("n1", waits=1), fact("f1", failed_at=50), fact("s1", version=2, upgraded=999)
        lost_at = {NodeId("s1"): noon - timedelta(seconds=40)}
        text = "halted: 2 of 2 failures (f1 failed, s1 was silent); an operator must resume"
        assert texts(ask(noon, self.RULES, *facts, lost_at=lost_at)) == {"n1": text}
        for seconds, goes in ((41, False), (40, True), (30, True)):
            resumed = Hand(resumed=done(Deed.RESUME, noon - timedelta(seconds=seconds)))
            decision = ask(noon, free(failure_budget=1), *facts[::2], lost_at=lost_at, hand=resumed)
            assert (decision.grants == ("n1",)) is goes

    def test_a_node_that_died_after_somebody_looked_is_a_new_failure(self, fact: Fact, noon: datetime) -> None:
        """Also if it was heard of for the last time right before."""
        dead = fact("s1", version=2, upgraded=999, seen=70)
        for seconds, goes in ((69, False), (56, False), (55, True)):
            resumed = Hand(resumed=done(Deed.RESUME, noon - timedelta(seconds=seconds)))
            decision = ask(noon, free(failure_budget=1), fact("n1", waits=1), dead, hand=resumed)
            assert (decision.grants == ("n1",)) is goes

    def test_what_was_before_a_retry_does_not_count(self, fact: Fact, noon: datetime) -> None:
        facts = fact("n1", waits=1), fact("f1", failed_at=50), fact("f2", failed_at=40)
        hand = Hand(retried={(TARGET, NodeId("f1")): done(Deed.RETRY, noon - timedelta(seconds=45), node="f1")})
        assert ask(noon, self.RULES, *facts, hand=hand).grants == ("n1",)

    def test_what_has_nothing_to_do_with_the_release_does_not_count(self, fact: Fact, noon: datetime) -> None:
        others = fact("s1", seen=99), fact("s2", seen=99), fact("o1", cls="Origin", failed=True)
        assert ask(noon, self.RULES, fact("n1", waits=1), *others).grants == ("n1",)

    def test_a_share_is_rounded_up(self, fact: Fact, noon: datetime) -> None:
        nodes = [fact(f"n{number}", waits=1) for number in range(10)]
        rules = free(failure_budget=Percent(15))
        assert len(ask(noon, rules, *nodes, fact("f1", failed=True)).grants) == 10
        assert ask(noon, rules, *nodes, fact("f1", failed=True), fact("f2", failed=True)).grants == ()


class TestNode:
    def test_a_node_that_says_no(self, fact: Fact, noon: datetime) -> None:
        decision = ask(noon, free(), fact("n1", waits=1, holds="3 sessions\nare open"), fact("n2", waits=1))
        assert decision.grants == ("n2",)
        assert texts(decision) == {"n1": "the node itself: 3 sessions are open"}


class TestHand:
    def test_a_pause(self, fact: Fact, noon: datetime) -> None:
        hand = Hand(paused=done(Deed.PAUSE, noon, why="looks odd"))
        assert texts(ask(noon, free(), fact("n1", waits=1), hand=hand)) == {
            "n1": "paused by ann since 12:00:00 UTC: looks odd"
        }

    def test_an_abort(self, fact: Fact, noon: datetime) -> None:
        hand = Hand(aborted={TARGET: done(Deed.ABORT, noon)})
        assert texts(ask(noon, free(), fact("n1", waits=1), hand=hand)) == {
            "n1": "the rollout was aborted by ann at 12:00:00 UTC"
        }
        assert ask(noon, free(), fact("n1", waits=1), hand=Hand(aborted={Version(1): done(Deed.ABORT, noon)})).grants

    def test_a_skip(self, fact: Fact, noon: datetime) -> None:
        hand = Hand(skipped={(TARGET, NodeId("n1")): done(Deed.SKIP, noon, node="n1", why="its disk")})
        decision = ask(noon, free(), fact("n1", waits=1), fact("n2", waits=1), hand=hand)
        assert decision.grants == ("n2",)
        assert texts(decision) == {"n1": "skipped by ann: its disk"}

    def test_a_skipped_node_counts_in_no_rule_but_as_away(self, fact: Fact, noon: datetime) -> None:
        hand = Hand(skipped={(TARGET, NodeId("x")): done(Deed.SKIP, noon, node="x")})
        skipped = fact("x", failed=True, seen=99)
        rules = free(canary=Canary(nodes=1, soak_s=0), failure_budget=1)
        assert ask(noon, rules, fact("n1", waits=1), skipped, hand=hand).grants == ("n1",)
        assert texts(ask(noon, Rules(), fact("n1", waits=1), skipped, hand=hand)) == {
            "n1": "1 of 1 node is away (x silent)"
        }

    def test_a_forced_node_goes_past_rules_and_a_pause_and_counts_in_them(self, fact: Fact, noon: datetime) -> None:
        hand = Hand(paused=done(Deed.PAUSE, noon), forced={(TARGET, NodeId("n2")): done(Deed.FORCE, noon, node="n2")})
        facts = fact("n1", waits=9), fact("n2", waits=1), fact("x", away=5)
        assert ask(noon, Rules(gates=("qa",)), *facts, hand=hand).grants == ("n2",)
        unpaused = Hand(forced=hand.forced)
        decision = ask(noon, Rules(budgets=(Budget(limit=1),)), *facts[:2], hand=unpaused)
        assert decision.grants == ("n2",)
        assert texts(decision) == {"n1": "n2 asked before"}

    def test_but_not_past_an_abort_or_its_own_silence(self, fact: Fact, noon: datetime) -> None:
        forced = {(TARGET, NodeId("n1")): done(Deed.FORCE, noon, node="n1")}
        aborted = Hand(forced=forced, aborted={TARGET: done(Deed.ABORT, noon)})
        assert ask(noon, free(), fact("n1", waits=1), hand=aborted).grants == ()
        assert ask(noon, free(), fact("n1", waits=1, seen=99), hand=Hand(forced=forced)).grants == ()

    @pytest.mark.parametrize(("deeds", "grants"), [((Deed.SKIP, Deed.FORCE), ("n1",)), ((Deed.FORCE, Deed.SKIP), ())])
    def test_of_a_skip_and_a_force_the_later_holds(
        self, fact: Fact, noon: datetime, deeds: tuple[Deed, ...], grants: tuple[str, ...]
    ) -> None:
        hand = Hand.of(done(deed, noon, node="n1") for deed in deeds)
        assert ask(noon, free(), fact("n1", waits=1), hand=hand).grants == grants

    def test_one_that_was_skipped_and_then_forced_counts_for_the_others(self, fact: Fact, noon: datetime) -> None:
        hand = Hand.of(done(deed, noon, node="x") for deed in (Deed.SKIP, Deed.FORCE))
        decision = ask(noon, free(failure_budget=1), fact("n1", waits=1), fact("x", failed=True), hand=hand)
        assert texts(decision) == {"n1": "halted: 1 of 1 failures (x failed); an operator must resume"}

    @pytest.mark.parametrize(("granted_s_ago", "grants"), [(None, ("n1",)), (60, ("n1",)), (30, ()), (1, ())])
    def test_a_force_is_spent_by_the_first_permit_after_it(
        self, fact: Fact, noon: datetime, granted_s_ago: float | None, grants: tuple[str, ...]
    ) -> None:
        """What failed under it goes on by the rules, as everybody does."""
        hand = Hand.of([done(Deed.FORCE, noon - timedelta(seconds=30), node="n1")])
        decision = ask(noon, free(gates=("qa",)), fact("n1", waits=1, granted=granted_s_ago), hand=hand)
        assert decision.grants == grants

    @pytest.mark.parametrize("gone", [{"away": 80}, {"version": 2, "upgraded": 80}])
    def test_a_dead_node_that_is_to_try_again_counts_as_one_that_has_yet_to_go(
        self, fact: Fact, noon: datetime, gone: dict[str, float]
    ) -> None:
        """Until it is heard of: in each rule that waits for it, or counts its silence as a failure."""
        hand = Hand.of([done(Deed.RETRY, noon - timedelta(seconds=5), node="x")])
        dead, back = fact("x", seen=70, **gone), fact("x", seen=1, **gone)
        named = Canary(nodes=(NodeId("x"),), soak_s=600)
        for rules, holds, then in (
            (free(canary=Canary(nodes=1, soak_s=600)), "canary x has not been seen since 11:58:50 UTC", None),
            (free(canary=named), "canary x has not been seen since 11:58:50 UTC", "canary x goes first"),
            (free(waves=Waves(sizes=(1,), soak_s=600)), "wave 1 of 1 (1 node): x silent", None),
            (free(failure_budget=1), "halted: 1 of 1 failures (x silent); an operator must resume", None),
        ):
            waits = fact("n1", waits=1)
            assert texts(ask(noon, rules, waits, dead)) == {"n1": holds}
            assert texts(ask(noon, rules, waits, dead, hand=hand)) == ({"n1": then} if then else {})
            assert texts(ask(noon, rules, waits, back, hand=hand)) == texts(ask(noon, rules, waits, back))

    def test_a_pause_that_is_later_than_a_force_holds_the_node(self, fact: Fact, noon: datetime) -> None:
        forced, paused = done(Deed.FORCE, noon, node="n1"), replace(done(Deed.PAUSE, noon), version=None)
        resumed = replace(done(Deed.RESUME, noon), version=None)
        closed = free(gates=("qa",))
        assert texts(ask(noon, closed, fact("n1", waits=1), hand=Hand.of([forced, paused]))) == {
            "n1": "paused by ann since 12:00:00 UTC"
        }
        assert ask(noon, closed, fact("n1", waits=1), hand=Hand.of([forced, paused, resumed])).grants == ("n1",)


class TestDeadline:
    def test_the_softer_rules_yield(self, fact: Fact, noon: datetime) -> None:
        rules = free(
            canary=Canary(nodes=1, soak_s=3600),
            waves=Waves(sizes=(1, 2), soak_s=3600),
            rate=Rate(nodes=1, per_s=3600),
            spread_s=86400.0 * 365,
            windows=(Window(zone=BERLIN, begin=time(22), end=time(6)),),
            deadline=60.0,
        )
        facts = fact("n1", waits=1, holds="busy"), fact("x", version=2, upgraded=9)
        begun, grants = noon - timedelta(seconds=60), (noon - timedelta(seconds=9),)
        assert ask(noon, rules, *facts, begun_at=begun, grants=grants).grants == ("n1",)
        for rule in ({"windows": ()}, {"spread_s": None}):
            early = begun + timedelta(seconds=1)
            kept = {"canary": rules.canary, "waves": rules.waves, "windows": rules.windows, "spread_s": 1e6, **rule}
            assert ask(noon, free(**kept, deadline=60.0), *facts, begun_at=early, grants=grants).grants == ()

    def test_a_moment_may_be_given(self, fact: Fact, noon: datetime) -> None:
        facts, window = (fact("n1", waits=1),), Window(zone=BERLIN, begin=time(22), end=time(6))
        assert ask(noon, free(windows=(window,), deadline=noon), *facts).grants == ("n1",)
        assert ask(noon, free(windows=(window,), deadline=noon + timedelta(seconds=1)), *facts).grants == ()

    @pytest.mark.parametrize(
        ("rules", "said"),
        [
            ({"budgets": (Budget(limit=1),)}, "away"),
            ({"gates": ("qa",)}, "gate qa"),
            ({"webhooks": ("https://ci/go",)}, "https://ci/go"),
            ({"after": (ClassName("Origin"),)}, "class Origin"),
            ({"freezes": (Freeze(zone=BERLIN, first=date(2024, 5, 1), last=date(2024, 5, 3)),)}, "freeze"),
            ({"healthy": (Bound(fact="ms", most=1),)}, "ms"),
            ({"failure_budget": 1}, "halted"),
            ({"canary": Canary(nodes=2, soak_s=0)}, "canary f1 failed"),
            ({"waves": Waves(sizes=(3,), soak_s=0)}, "f1 failed"),
        ],
    )
    def test_what_does_not_yield(self, fact: Fact, noon: datetime, rules: dict[str, object], said: str) -> None:
        facts = (
            fact("n1", waits=1),
            fact("u1", version=2, upgraded=9),
            fact("f1", failed=True),
            fact("a1", away=5),
            fact("o1", cls="Origin"),
        )
        given = Rules(**{"budgets": (), **rules}, deadline=1.0)  # type: ignore[arg-type]
        decision = ask(noon, given, *facts, begun_at=noon - timedelta(days=1))
        assert said in texts(decision)["n1"]


def test_all_rules_together_let_a_node_go(fact: Fact, noon: datetime) -> None:
    """Each of them would hold it if it were not for what the fleet shows."""
    rules = Rules(
        budgets=(Budget(limit=Percent(50)), Budget(limit=1, per="zone")),
        canary=Canary(nodes=1, soak_s=60),
        waves=Waves(sizes=(1, 4), soak_s=60),
        rate=Rate(nodes=1, per_s=60),
        spread_s=60.0,
        after=(ClassName("Origin"),),
        windows=(Window(zone=BERLIN, begin=time(9), end=time(17)),),
        freezes=(Freeze(zone=BERLIN, first=date(2024, 5, 3), last=date(2024, 5, 3)),),
        gates=("qa",),
        healthy=(Bound(fact="ms", most=50, most_times=2),),
        failure_budget=2,
    )
    facts = (
        fact("n1", waits=1, facts={"ms": 20.0}, zone="a"),
        fact("u1", version=2, upgraded=60, facts={"ms": 40.0}, zone="a"),
        fact("f1", failed_at=30, zone="b", seen=0),
        fact("o1", cls="Origin", version=2, zone="b"),
    )
    begun, grants = noon - timedelta(seconds=60), (noon - timedelta(seconds=60),)
    hand = Hand(approved={(TARGET, "qa"): done(Deed.APPROVE, noon, gate="qa")})
    at_ease = [fact_ for fact_ in facts if fact_.id != "f1"]
    assert ask(noon, rules, *at_ease, begun_at=begun, grants=grants, hand=hand).grants == ("n1",)
