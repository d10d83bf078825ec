"""Budgets: how many nodes may be away at once."""

from datetime import datetime

from segue.model.fleet import Fleet, NodeFact
from segue.model.ids import NodeId
from segue.schedule.reasons import BudgetSpent
from segue.schedule.rules import Budget, Rules

#: The group of the nodes that have not the attribute that makes the groups. Were each of them let off the
#: budget instead, a misspelt attribute would let a whole fleet go at once.
NO_GROUP = "(none)"


class Budgets:
    """Who is away, by group, while one decision is made: grants given in it are added.

    Args:
        fleet: all nodes of the system; those of every class count.
        rules: the schedule, for its budgets and for when a node counts as silent.
        now: the time of the decision.
    """

    def __init__(self, fleet: Fleet, rules: Rules, now: datetime) -> None:
        self._budgets = rules.budgets
        self._silent = {fact.id for fact in fleet.nodes.values() if fact.is_silent(now, rules.stale_s)}
        #: `{(budget, group): nodes that are away}`
        self._away: dict[tuple[Budget, str | None], set[NodeId]] = {}
        for fact in fleet.nodes.values():
            # Callers miss a node that served; one that never did may be a slip of its operator's.
            if fact.away_since is not None or (fact.id in self._silent and fact.version > 0):
                self.take(fact)

    def refuse(self, fact: NodeFact) -> BudgetSpent | None:
        """Return the first budget that the node would pass by going; None if it may go."""
        for budget in self._budgets:
            group = _group(budget, fact)
            away = self._away.get((budget, group), set())
            if len(away) >= budget.limit:
                return BudgetSpent(
                    limit=budget.limit,
                    per=budget.per,
                    group=group,
                    away=tuple(sorted(away)),
                    silent=tuple(sorted(away & self._silent)),
                )
        return None

    def take(self, fact: NodeFact) -> None:
        """Count the node as away."""
        for budget in self._budgets:
            self._away.setdefault((budget, _group(budget, fact)), set()).add(fact.id)


def _group(budget: Budget, fact: NodeFact) -> str | None:
    return None if budget.per is None else fact.attributes.get(budget.per, NO_GROUP)
