"""A rule that makes no sense is refused at birth, with the value named; a fact that cannot be compared is our bug."""

import math
from collections.abc import Callable
from datetime import datetime

import pytest

from segue.errors import ReleaseError
from segue.model.fleet import Fleet, NodeFact
from segue.model.ids import ClassName, NodeId, Version
from segue.release.schedule_section import ScheduleSection
from segue.schedule import Budget, Canary, Rules

CLASS = ClassName("BlockNode")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Budget(limit=0), "max_unavailable is 0"),
        (lambda: Budget(limit=-3, per="zone"), "max_unavailable is -3"),
        (lambda: Budget(limit=1, per=""), "per is empty"),
        (lambda: Canary(nodes=0, soak_s=1), "canary.nodes is 0"),
        (lambda: Canary(nodes=1, soak_s=-0.5), "canary.soak is -0.5 s"),
        (lambda: Canary(nodes=1, soak_s=math.nan), "canary.soak is nan s"),
        (lambda: Canary(nodes=1, soak_s=math.inf), "canary.soak is inf s"),
        (lambda: Rules(stale_s=0), "stale_s is 0"),
        (lambda: Rules(stale_s=math.nan), "stale_s is nan"),
        (lambda: Rules(stale_s=60, lease_s=59), "lease_s is 59"),
    ],
)
def test_a_rule_that_makes_no_sense_names_its_value(make: Callable[[], object], named: str) -> None:
    with pytest.raises(ReleaseError, match="^" + named.replace(".", r"\.")):
        make()


def test_the_smallest_rules_stand() -> None:
    Rules(budgets=(Budget(limit=1), Budget(limit=1, per="zone")), canary=Canary(nodes=1, soak_s=0))


def test_who_asks_for_nothing_gets_one_node_away_at_a_time() -> None:
    assert Rules().budgets == (Budget(limit=1),)


def test_an_authors_schedule_as_rules() -> None:
    """As the release's room reads it, which knows nothing of rules."""
    schedule = ScheduleSection.model_validate(
        {"max_unavailable": {"system": 4, "zone": 2}, "canary": {"nodes": 3, "soak": "5m"}}
    )
    assert Rules.of(schedule) == Rules(
        budgets=(Budget(limit=4), Budget(limit=2, per="zone")), canary=Canary(nodes=3, soak_s=300)
    )
    assert Rules.of(ScheduleSection()) == Rules()


def test_a_time_without_a_zone_is_refused_where_it_comes_in() -> None:
    with pytest.raises(AssertionError, match="node n1: last_seen 2024-05-02 12:00:00 has no time zone"):
        NodeFact(id=NodeId("n1"), class_name=CLASS, version=Version(1), last_seen=datetime(2024, 5, 2, 12))  # noqa: DTZ001


def test_a_fact_stands_under_its_own_node(fact: Callable[..., NodeFact]) -> None:
    with pytest.raises(AssertionError, match="the fact of node n1 is kept under n2"):
        Fleet(class_name=CLASS, target=Version(2), nodes={NodeId("n2"): fact("n1")})
