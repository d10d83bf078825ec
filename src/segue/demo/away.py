"""How many nodes were away at once, from the permits."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from segue.schedule.rules import Budget
from segue.wire.messages import NodeStatus, PermitStatus


def max_away(permits: Iterable[PermitStatus]) -> int:
    """Return the largest number of permits that were out at one moment.

    A permit is out from the moment it is granted until the moment before it is returned, so one that
    is granted as another is returned does not meet it.
    """
    edges: list[tuple[datetime, int]] = []
    for permit in permits:
        if permit.returned_at is None:
            edges.append((permit.granted_at, 1))
        elif permit.returned_at > permit.granted_at:
            edges += [(permit.granted_at, 1), (permit.returned_at, -1)]
    most = away = 0
    for _, step in sorted(edges):  # -1 sorts before 1
        away += step
        most = max(most, away)
    return most


def max_away_per_group(
    permits: Iterable[PermitStatus], nodes: Iterable[NodeStatus], budget: Budget
) -> Mapping[str, int]:
    """Return `{group: the largest number of its nodes that were away at once}`, a row per group that has nodes.

    Args:
        permits: past and present.
        nodes: all nodes, with their attributes.
        budget: says what the groups are; without `per`, the whole system is one group, named "".
    """
    groups = {node.id: group_of(node, budget) for node in nodes}
    grouped: dict[str, list[PermitStatus]] = defaultdict(list)
    for permit in permits:
        grouped[groups.get(permit.node, "")].append(permit)
    return {group: max_away(grouped[group]) for group in sorted({*groups.values(), *grouped})}


def group_of(node: NodeStatus, budget: Budget) -> str:
    """Return the name of the node's group: its value of the attribute that the budget counts by."""
    return node.attributes.get(budget.per, "") if budget.per else ""


def allowed_away(nodes: Sequence[NodeStatus], budgets: Iterable[Budget]) -> int:
    """Return how many nodes of the whole system may be away at once, by all budgets together."""
    limits = [budget.limit * len({group_of(node, budget) for node in nodes}) for budget in budgets]
    return min([len(nodes), *limits])
