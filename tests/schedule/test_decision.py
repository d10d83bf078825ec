"""Each rule lets go whom it should, and what it says of the others is what an operator would say."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from segue.model.fleet import Fleet, NodeFact
from segue.model.ids import ClassName, NodeId, Version
from segue.schedule import Behind, Budget, BudgetSpent, Canary, CanarySoaks, Decision, Rules, decide

Fact = Callable[..., NodeFact]
Decide = Callable[..., Decision]

ANY = Rules(budgets=())


@pytest.fixture(name="decided")
def decided_fixture(noon: datetime) -> Decide:
    """Decide at noon on a fleet on its way to version 2."""

    def decided(rules: Rules, *facts: NodeFact) -> Decision:
        return decide(Fleet.of(ClassName("BlockNode"), Version(2), facts), rules, noon)

    return decided


def texts(decision: Decision) -> dict[str, str]:
    return {node: refusal.text for node, refusal in decision.refusals.items()}


class TestOrder:
    def test_the_oldest_request_goes_first(self, decided: Decide, fact: Fact) -> None:
        decision = decided(Rules(), fact("n1", waits=5), fact("n2", waits=9), fact("n3", waits=7))
        assert decision.grants == ("n2",)
        assert list(decision.refusals) == ["n3", "n1"]

    def test_ties_go_by_node_id(self, decided: Decide, fact: Fact) -> None:
        decision = decided(Rules(budgets=(Budget(limit=2),)), *(fact(node, waits=5) for node in ("n3", "n1", "n2")))
        assert decision.grants == ("n1", "n2")
        assert list(decision.refusals) == ["n3"]

    def test_who_does_not_wait_is_neither_granted_nor_refused(self, decided: Decide, fact: Fact) -> None:
        decision = decided(ANY, fact("n1"), fact("n2", away=3, waits=9), fact("n3", version=2, waits=9))
        assert decision == Decision(grants=(), refusals={})

    def test_nobody_at_all(self, decided: Decide) -> None:
        assert decided(Rules()) == Decision(grants=(), refusals={})

    def test_a_node_that_must_wait_holds_up_nobody_behind_it(self, decided: Decide, fact: Fact) -> None:
        rules = Rules(budgets=(Budget(limit=1, per="zone"),))
        decision = decided(
            rules, fact("n1", away=1, zone="a"), fact("n2", waits=9, zone="a"), fact("n3", waits=1, zone="b")
        )
        assert decision.grants == ("n3",)
        assert list(decision.refusals) == ["n2"]


class TestBehind:
    """Who could go were it not for a node that asked before hears just that: nobody is away yet."""

    def test_the_oldest_that_takes_the_place_is_named(self, decided: Decide, fact: Fact) -> None:
        decision = decided(
            Rules(budgets=(Budget(limit=2), Budget(limit=1, per="zone"))),
            fact("n1", waits=9, zone="a"),
            fact("n2", waits=8, zone="b"),
            fact("n3", waits=7, zone="b"),
            fact("n4", waits=6, zone="c"),
        )
        assert decision.grants == ("n1", "n2")
        assert {node: refusal.reason for node, refusal in decision.refusals.items()} == {
            "n3": Behind(node=NodeId("n1")),
            "n4": Behind(node=NodeId("n1")),
        }

    def test_one_in_another_group_is_in_nobodys_way(self, decided: Decide, fact: Fact) -> None:
        decision = decided(
            Rules(budgets=(Budget(limit=1, per="zone"),)),
            fact("n1", waits=9, zone="a"),
            fact("n2", waits=8, zone="b"),
            fact("n3", waits=7, zone="b"),
        )
        assert texts(decision) == {"n3": "n2 asked before"}

    def test_what_holds_anyway_is_said_first(self, decided: Decide, fact: Fact) -> None:
        decision = decided(
            Rules(budgets=(Budget(limit=2), Budget(limit=1, per="zone"))),
            fact("n1", away=9, zone="a"),
            fact("n2", waits=8, zone="b"),
            fact("n3", waits=7, zone="a"),
            fact("n4", waits=6, zone="c"),
        )
        assert texts(decision) == {"n3": "zone a: 1 of 1 is away (n1)", "n4": "n2 asked before"}

    def test_the_second_canary(self, decided: Decide, fact: Fact) -> None:
        rules = Rules(budgets=(), canary=Canary(nodes=2, soak_s=30))
        decision = decided(rules, fact("n1", away=9), fact("n2", waits=8), fact("n3", waits=7))
        assert texts(decision) == {"n3": "n2 asked before"}


class TestBudgets:
    def test_without_a_budget_all_go(self, decided: Decide, fact: Fact) -> None:
        assert decided(ANY, *(fact(f"n{i}", waits=9) for i in range(5))).grants == ("n0", "n1", "n2", "n3", "n4")

    def test_system_wide(self, decided: Decide, fact: Fact) -> None:
        decision = decided(
            Rules(budgets=(Budget(limit=2),)), fact("n4", away=3), fact("n1", away=8), fact("n2", waits=1)
        )
        assert texts(decision) == {"n2": "2 of 2 nodes are away (n1, n4)"}
        assert decision.refusals[NodeId("n2")].reason == BudgetSpent(
            limit=2, per=None, group=None, away=(NodeId("n1"), NodeId("n4")), silent=()
        )
        assert decision.refusals[NodeId("n2")].until is None

    def test_of_one(self, decided: Decide, fact: Fact) -> None:
        assert texts(decided(Rules(), fact("n1", away=8), fact("n2", waits=1))) == {
            "n2": "1 of 1 node is away (n1)",
        }

    def test_per_attribute(self, decided: Decide, fact: Fact) -> None:
        decision = decided(
            Rules(budgets=(Budget(limit=1, per="zone"),)),
            fact("n1", waits=5, zone="a"),
            fact("n2", away=3, zone="b"),
            fact("n3", waits=5, zone="b"),
        )
        assert decision.grants == ("n1",)
        assert texts(decision) == {"n3": "zone b: 1 of 1 is away (n2)"}

    def test_several_hold_together(self, decided: Decide, fact: Fact) -> None:
        decision = decided(
            Rules(budgets=(Budget(limit=2), Budget(limit=1, per="zone"))),
            fact("n1", waits=9, zone="a"),
            fact("n2", waits=8, zone="a"),
            fact("n3", waits=7, zone="b"),
            fact("n4", waits=6, zone="c"),
        )
        assert decision.grants == ("n1", "n3")
        assert texts(decision) == {"n2": "n1 asked before", "n4": "n1 asked before"}

    def test_nodes_without_the_attribute_share_a_group(self, decided: Decide, fact: Fact) -> None:
        decision = decided(
            Rules(budgets=(Budget(limit=1, per="zone"),)),
            fact("n1", waits=9),
            fact("n2", waits=8),
            fact("n3", waits=7, zone="a"),
        )
        assert decision.grants == ("n1", "n3")
        assert texts(decision) == {"n2": "n1 asked before"}

    def test_a_long_list_is_cut(self, decided: Decide, fact: Fact) -> None:
        away = [fact(f"n{i}", away=1) for i in range(9)]
        assert texts(decided(Rules(budgets=(Budget(limit=9),)), *away, fact("z", waits=1))) == {
            "z": "9 of 9 nodes are away (n0, n1, n2, n3, n4, n5 and 3 more)"
        }


class TestClasses:
    """Budgets are of the whole system; everything else is of the class that is decided on."""

    @pytest.mark.parametrize("other", [{"away": 3}, {"seen": 99}])
    def test_budgets_see_all_classes(self, decided: Decide, fact: Fact, other: dict[str, float]) -> None:
        rules = Rules(budgets=(Budget(limit=2), Budget(limit=1, per="zone")))
        decision = decided(
            rules,
            fact("e1", cls="Edge", zone="a", **other),
            fact("n1", waits=2, zone="a"),
            fact("n2", waits=1, zone="b"),
        )
        assert decision.grants == ("n2",)
        assert list(decision.refusals) == ["n1"]

    def test_only_its_own_nodes_are_decided_on(self, decided: Decide, fact: Fact) -> None:
        decision = decided(Rules(), fact("e1", cls="Edge", waits=9), fact("n1", waits=2))
        assert decision == Decision(grants=(NodeId("n1"),), refusals={})

    @pytest.mark.parametrize(
        "other", [{"version": 2, "upgraded": 99}, {"failed": True}, {"away": 3}, {"version": 2, "upgraded": 1}]
    )
    def test_canaries_are_of_the_class(self, decided: Decide, fact: Fact, other: dict[str, float]) -> None:
        rules = Rules(budgets=(), canary=Canary(nodes=1, soak_s=30))
        decision = decided(rules, fact("e1", cls="Edge", **other), fact("n1", waits=2), fact("n2", waits=1))
        assert decision.grants == ("n1",)
        assert list(decision.refusals) == ["n2"]


class TestSilence:
    def test_a_silent_node_is_away(self, decided: Decide, fact: Fact) -> None:
        assert texts(decided(Rules(), fact("n1", seen=15), fact("n2", waits=1))) == {
            "n2": "1 of 1 node is away (n1 silent)"
        }

    def test_a_node_that_never_served_is_missed_by_nobody(self, decided: Decide, fact: Fact) -> None:
        assert decided(Rules(), fact("n1", version=0, seen=99), fact("n2", waits=1)).grants == ("n2",)

    def test_just_before_it_is_not(self, decided: Decide, fact: Fact) -> None:
        assert decided(Rules(), fact("n1", seen=14.9), fact("n2", waits=1)).grants == ("n2",)

    def test_the_limit_of_silence_is_a_rule(self, decided: Decide, fact: Fact) -> None:
        assert decided(Rules(stale_s=60), fact("n1", seen=59), fact("n2", waits=1)).grants == ("n2",)

    @pytest.mark.parametrize(
        ("report_s", "silent_s"), [(0, 15), (2, 15), (5, 15), (5.1, 15.3), (30, 90), (1200, 3600), (1e9, 3600)]
    )
    def test_a_node_is_silent_once_it_missed_three_reports(
        self, decided: Decide, fact: Fact, report_s: float, silent_s: float
    ) -> None:
        """Not before 15 s, and after an hour however seldom it says that it reports."""
        other = fact("n2", waits=1)
        assert decided(Rules(), fact("n1", seen=silent_s - 0.1, report_s=report_s), other).grants == ("n2",)
        assert texts(decided(Rules(), fact("n1", seen=silent_s, report_s=report_s), other)) == {
            "n2": "1 of 1 node is away (n1 silent)"
        }

    def test_a_silent_node_with_a_permit_counts_once(self, decided: Decide, fact: Fact) -> None:
        decision = decided(Rules(budgets=(Budget(limit=2),)), fact("n1", seen=99, away=120), fact("n2", waits=1))
        assert decision.grants == ("n2",)

    def test_more_silent_than_may_be(self, decided: Decide, fact: Fact) -> None:
        assert texts(decided(Rules(), fact("n1", seen=99), fact("n2", away=5), fact("n3", waits=1))) == {
            "n3": "2 (of at most 1) nodes are away (n1 silent, n2)"
        }

    def test_a_silent_nodes_request_is_not_considered(self, decided: Decide, fact: Fact) -> None:
        decision = decided(Rules(budgets=(Budget(limit=2),)), fact("n1", seen=31, waits=99), fact("n2", waits=1))
        assert decision.grants == ("n2",)
        assert texts(decision) == {"n1": "not seen since 11:59:29 UTC"}

    def test_a_clock_that_was_put_back(self, decided: Decide, fact: Fact) -> None:
        """What was seen long after now says nothing of now; a moment is no matter."""
        assert decided(Rules(), fact("n1", seen=-3600, waits=1)).grants == ()
        assert decided(Rules(), fact("n1", seen=-1, waits=1)).grants == ("n1",)


class TestCanary:
    RULES = Rules(budgets=(), canary=Canary(nodes=1, soak_s=30))

    def test_only_so_many_go_first(self, decided: Decide, fact: Fact) -> None:
        decision = decided(self.RULES, fact("n1", waits=2), fact("n2", waits=3))
        assert decision.grants == ("n2",)
        assert texts(decision) == {"n1": "n2 asked before"}
        assert texts(decided(self.RULES, fact("n1", waits=2), fact("n2", away=3))) == {"n1": "canary n2 is away"}

    def test_they_soak(self, decided: Decide, fact: Fact, noon: datetime) -> None:
        decision = decided(self.RULES, fact("n3", version=2, upgraded=10), fact("n1", waits=2))
        until = noon + timedelta(seconds=20)
        assert texts(decision) == {"n1": "canary n3 soaks until 12:00:20 UTC"}
        assert decision.refusals[NodeId("n1")].reason == CanarySoaks(node=NodeId("n3"), until=until)
        assert decision.refusals[NodeId("n1")].until == until

    def test_a_soak_beyond_today_names_the_day(self, decided: Decide, fact: Fact) -> None:
        rules = Rules(budgets=(), canary=Canary(nodes=1, soak_s=86400))
        assert texts(decided(rules, fact("n3", version=2, upgraded=0), fact("n1", waits=2))) == {
            "n1": "canary n3 soaks until 2024-05-03 12:00:00 UTC"
        }

    def test_soaked_to_the_second(self, decided: Decide, fact: Fact) -> None:
        assert decided(self.RULES, fact("n3", version=2, upgraded=30), fact("n1", waits=2)).grants == ("n1",)

    def test_each_must_have_soaked(self, decided: Decide, fact: Fact) -> None:
        rules = Rules(budgets=(), canary=Canary(nodes=2, soak_s=30))
        decision = decided(
            rules, fact("n3", version=2, upgraded=60), fact("n4", version=2, upgraded=29), fact("n1", waits=2)
        )
        assert texts(decision) == {"n1": "canary n4 soaks until 12:00:01 UTC"}

    def test_the_last_to_soak_is_named(self, decided: Decide, fact: Fact) -> None:
        rules = Rules(budgets=(), canary=Canary(nodes=2, soak_s=30))
        decision = decided(
            rules, fact("n3", version=2, upgraded=5), fact("n4", version=2, upgraded=29), fact("n1", waits=2)
        )
        assert texts(decision) == {"n1": "canary n3 soaks until 12:00:25 UTC"}

    def test_canaries_keep_the_budgets(self, decided: Decide, fact: Fact) -> None:
        rules = Rules(canary=Canary(nodes=3, soak_s=30))
        decision = decided(rules, fact("n1", waits=2), fact("n2", waits=3))
        assert decision.grants == ("n2",)
        assert texts(decision) == {"n1": "n2 asked before"}

    def test_a_failed_canary_stops_all(self, decided: Decide, fact: Fact) -> None:
        rules = Rules(budgets=(), canary=Canary(nodes=2, soak_s=30))
        decision = decided(rules, fact("n3", failed=True, waits=9), fact("n1", waits=2))
        assert decision.grants == ()
        assert texts(decision) == dict.fromkeys(("n3", "n1"), "canary n3 failed: no other node may go")

    def test_a_canary_that_failed_and_stays_at_the_target_stops_all(self, decided: Decide, fact: Fact) -> None:
        """It had answered calls, so there was no way back: that it runs the target speaks for nothing."""
        rules = Rules(budgets=(), canary=Canary(nodes=1, soak_s=30))
        decision = decided(rules, fact("n3", version=2, upgraded=99, failed=True), fact("n1", waits=2))
        assert texts(decision) == {"n1": "canary n3 failed: no other node may go"}

    def test_a_failure_after_the_canaries_soaked_stops_nobody(self, decided: Decide, fact: Fact) -> None:
        decision = decided(self.RULES, fact("n3", version=2, upgraded=60), fact("n4", failed=True), fact("n1", waits=2))
        assert decision.grants == ("n1",)

    @pytest.mark.parametrize("version", [2, 3])
    def test_a_node_that_joined_at_the_target_is_no_canary(self, decided: Decide, fact: Fact, version: int) -> None:
        """It transformed nothing, so it shows nothing: neither that all is well nor that anything is wrong."""
        joined = [
            fact("j1", version=version),
            fact("j2", version=version, seen=99),
            fact("j3", version=version, failed=True),
        ]
        decision = decided(self.RULES, *joined, fact("n1", waits=2), fact("n2", waits=3))
        assert decision.grants == ("n2",)
        assert list(decision.refusals) == ["n1"]

    def test_a_node_that_has_not_returned_its_permit_is_not_upgraded_yet(self, decided: Decide, fact: Fact) -> None:
        assert texts(decided(self.RULES, fact("n3", version=2, away=9), fact("n1", waits=2))) == {
            "n1": "canary n3 is away"
        }

    def test_a_node_away_for_an_older_version_is_no_canary_of_this_one(self, fact: Fact, noon: datetime) -> None:
        facts = (fact("n3", version=1, away=9), fact("n1", version=2, waits=2))
        fleet = Fleet.of(ClassName("BlockNode"), Version(3), facts)
        assert decide(fleet, self.RULES, noon).grants == ("n1",)

    @pytest.mark.parametrize(
        ("over", "is_canary"), [((1, 4), True), ((2, 4), True), ((1, 3), True), ((1, 2), False), ((3, 4), False)]
    )
    def test_a_node_that_passes_through_the_target_is_its_canary(
        self, fact: Fact, noon: datetime, over: tuple[int, int], is_canary: bool
    ) -> None:
        """Whatever it said last that it serves: its permit says which releases it goes through."""
        for says in over:
            facts = (fact("n3", version=says, away=9, away_over=over), fact("n1", version=2, waits=2))
            decision = decide(Fleet.of(ClassName("BlockNode"), Version(3), facts), self.RULES, noon)
            assert texts(decision) == ({"n1": "canary n3 is away"} if is_canary else {})

    def test_a_canary_that_fell_silent_in_its_soak_holds_the_others(self, decided: Decide, fact: Fact) -> None:
        decision = decided(self.RULES, fact("n3", version=2, upgraded=99, seen=70), fact("n1", waits=2))
        assert texts(decision) == {"n1": "canary n3 has not been seen since 11:58:50 UTC"}

    def test_a_canary_that_fell_silent_in_its_upgrade_holds_the_others(self, decided: Decide, fact: Fact) -> None:
        decision = decided(self.RULES, fact("n3", away=99, seen=70), fact("n1", waits=2))
        assert texts(decision) == {"n1": "canary n3 has not been seen since 11:58:50 UTC"}

    def test_a_canary_that_fell_silent_after_its_soak_has_soaked(self, decided: Decide, fact: Fact) -> None:
        assert decided(self.RULES, fact("n3", version=2, upgraded=99, seen=60), fact("n1", waits=2)).grants == ("n1",)

    def test_a_fleet_smaller_than_its_canary_goes_all_the_same(self, decided: Decide, fact: Fact) -> None:
        rules = Rules(budgets=(), canary=Canary(nodes=9, soak_s=30))
        assert decided(rules, fact("n1", waits=2), fact("n2", waits=2)).grants == ("n1", "n2")
