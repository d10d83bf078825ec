"""How many were away at once is the largest number of nodes with a permit, or gone by their own word, at one moment."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from segue.demo.away import Absence, absences, allowed_away, loosest, max_away, max_away_per_group, without_permit
from segue.demo.facts import Facts
from segue.schedule.rules import Budget, Rules
from segue.wire.messages import PermitStatus

BEGIN = datetime(2025, 6, 1, tzinfo=UTC)

#: Permits as (granted, returned or never), in whole seconds so that many moments coincide.
spans = st.lists(
    st.tuples(st.integers(0, 12), st.none() | st.integers(0, 6)).map(
        lambda pair: (pair[0], None if pair[1] is None else pair[0] + pair[1])
    ),
    max_size=12,
)


def permits_of(given_spans: list[tuple[int, int | None]]) -> Sequence[Absence]:
    permits = [
        PermitStatus(
            permit=f"p{index}",
            node=f"n{index}",
            class_name="BlockNode",
            from_version=1,
            to_version=2,
            granted_at=BEGIN + timedelta(seconds=granted),
            returned_at=None if returned is None else BEGIN + timedelta(seconds=returned),
            failure=None,
        )
        for index, (granted, returned) in enumerate(given_spans)
    ]
    return absences(permits, ())


@given(spans)
def test_agrees_with_counting_at_every_moment(given_spans: list[tuple[int, int | None]]) -> None:
    moments = range(25)
    counted = [
        sum(granted <= moment and (returned is None or moment < returned) for granted, returned in given_spans)
        for moment in moments
    ]
    assert max_away(permits_of(given_spans)) == max(counted)


def test_one_that_goes_as_another_returns_does_not_meet_it() -> None:
    assert max_away(permits_of([(0, 5), (5, 8)])) == 1


def test_a_node_is_away_once_however_often_it_is_said() -> None:
    one = permits_of([(0, 5)])[0]
    assert max_away([one, one]) == 1


def test_what_nodes_say_counts_as_permits_do(facts: Facts) -> None:
    assert facts.status is not None
    nodes = facts.status.nodes
    assert max_away(absences((), nodes)) == 1
    assert without_permit((), nodes) == ["n1", "n2", "n3", "n4"]
    assert without_permit(facts.status.permits, nodes) == []


def test_groups_are_counted_apart(facts: Facts) -> None:
    assert facts.status is not None
    nodes, permits = facts.status.nodes, facts.status.permits
    away = absences(permits, nodes)
    assert max_away_per_group(away, nodes, Budget(limit=1, per="zone")) == {"a": 1, "b": 1, "c": 1}
    assert max_away_per_group(away, nodes, Budget(limit=2)) == {"": 2}


def test_all_budgets_together_say_how_many_may_be_away(facts: Facts) -> None:
    assert facts.status is not None
    nodes = facts.status.nodes
    assert allowed_away(nodes, (Budget(limit=2), Budget(limit=1, per="zone"))) == 2
    assert allowed_away(nodes, (Budget(limit=1, per="zone"),)) == 3
    assert allowed_away(nodes, ()) == 4


def test_while_several_schedules_hold_the_largest_budget_of_each_kind_does() -> None:
    """Which of them a node that is away went by, is not asked."""
    two = Rules(budgets=(Budget(limit=2), Budget(limit=1, per="zone")))
    three = Rules(budgets=(Budget(limit=3), Budget(limit=1, per="rack")))
    assert loosest([two, three]) == [Budget(limit=3), Budget(limit=1, per="zone"), Budget(limit=1, per="rack")]
    assert loosest([two]) == list(two.budgets)
