"""How many nodes were away at once: by the permits that the server gave, and by what the nodes themselves noted."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from segue.schedule.rules import Budget, Rules
from segue.wire.messages import NodeStatus, PermitStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence:
    """A time for which a node was away, from `since` until the moment before `until`; None if it still is."""

    node: str
    since: datetime
    until: datetime | None


def absences(permits: Iterable[PermitStatus], nodes: Iterable[NodeStatus]) -> Sequence[Absence]:
    """Return when nodes were away: while a permit was out, and from quiesced to serving by the node's own word."""
    by_permits = [Absence(node=one.node, since=one.granted_at, until=one.returned_at) for one in permits]
    by_rows = [
        Absence(node=node.id, since=row.quiesced_at, until=row.serving_at) for node in nodes for row in node.upgrades
    ]
    return by_permits + by_rows


def max_away(away: Iterable[Absence]) -> int:
    """Return the largest number of nodes that were away at one moment.

    One that goes as another returns does not meet it, and a node counts once however often it is said to be away.
    """
    edges: list[tuple[datetime, int, str]] = []
    for one in away:
        if one.until is None:
            edges.append((one.since, 1, one.node))
        elif one.until > one.since:
            edges += [(one.since, 1, one.node), (one.until, -1, one.node)]
    counts: Counter[str] = Counter()
    most = 0
    for _, step, node in sorted(edges):  # -1 sorts before 1
        counts[node] += step
        most = max(most, sum(count > 0 for count in counts.values()))
    return most


def max_away_per_group(away: Iterable[Absence], nodes: Iterable[NodeStatus], budget: Budget) -> Mapping[str, int]:
    """Return `{group: the largest number of its nodes that were away at once}`, a row per group that has nodes.

    Args:
        away: past and present.
        nodes: all nodes, with their attributes.
        budget: says what the groups are; without `per`, the whole system is one group, named "".
    """
    groups = {node.id: group_of(node, budget) for node in nodes}
    grouped: dict[str, list[Absence]] = {group: [] for group in groups.values()}
    for one in away:
        grouped.setdefault(groups.get(one.node, ""), []).append(one)
    return {group: max_away(grouped[group]) for group in sorted(grouped)}


def without_permit(permits: Iterable[PermitStatus], nodes: Iterable[NodeStatus]) -> Sequence[str]:
    """Return the nodes of which an upgrade does not lie within one permit of that node, in order."""
    given = list(permits)
    return [
        node.id
        for node in nodes
        if any(
            not any(
                permit.node == node.id
                and permit.granted_at <= row.quiesced_at
                and (permit.returned_at is None or row.serving_at <= permit.returned_at)
                for permit in given
            )
            for row in node.upgrades
        )
    ]


def group_of(node: NodeStatus, budget: Budget) -> str:
    """Return the name of the node's group: its value of the attribute that the budget counts by."""
    return node.attributes.get(budget.per, "") if budget.per else ""


def allowed_away(nodes: Sequence[NodeStatus], budgets: Iterable[Budget]) -> int:
    """Return how many nodes of the whole system may be away at once, by all budgets together."""
    groups = [(budget, Counter(group_of(node, budget) for node in nodes)) for budget in budgets]
    limits = [sum(map(budget.limit_of, sizes.values())) for budget, sizes in groups]
    return min([len(nodes), *limits])


def loosest(rules: Iterable[Rules]) -> Sequence[Budget]:
    """Return the budgets that hold while upgrades by several schedules go on: of each kind, the largest.

    The demo's releases limit by numbers.
    """
    limits: dict[str | None, int] = {}
    for one in rules:
        for budget in one.budgets:
            assert isinstance(budget.limit, int), budget
            limits[budget.per] = max(budget.limit, limits.get(budget.per, 0))
    return [Budget(limit=limit, per=per) for per, limit in limits.items()]
