"""Budgets: how many nodes may be away at once."""

from collections import Counter

from segue.model.fleet import NodeFact
from segue.model.ids import NodeId
from segue.schedule.reasons import BudgetSpent
from segue.schedule.rules import Budget
from segue.schedule.scene import Scene

#: The group of the nodes that have not the attribute that makes the groups. Were each of them let off the
#: budget instead, a misspelt attribute would let a whole fleet go at once.
NO_GROUP = "(none)"


class Budgets:
    """Who is away, by group; nodes of every class count, and nodes that are silent.

    Args:
        scene: what is decided on.
    """

    def __init__(self, scene: Scene) -> None:
        self._budgets = scene.rules.budgets
        self._silent = scene.silent
        #: `{(budget, group): nodes that are away}`
        self._away: dict[tuple[Budget, str | None], set[NodeId]] = {}
        #: `{(budget, group): why nobody of it may go}`: in a large fleet thousands of nodes hear the same.
        self._spent: dict[tuple[Budget, str | None], BudgetSpent] = {}
        nodes = scene.fleet.nodes.values()
        self._limits = {
            (budget, group): budget.limit_of(count)
            for budget in self._budgets
            for group, count in Counter(_group(budget, fact) for fact in nodes if _is_of_the_system(fact)).items()
        }
        for fact in nodes:
            # Callers miss a node that served; one that never did may be a slip of its operator's.
            if fact.away_since is not None or (fact.id in self._silent and fact.version > 0):
                self.take(fact)

    def refuse(self, fact: NodeFact) -> BudgetSpent | None:
        """Return the first budget that the node would pass by going; None if it may go."""
        for budget in self._budgets:
            place = budget, _group(budget, fact)
            limit = self._limits.get(place) or budget.limit_of(1)
            if len(self._away.get(place, ())) >= limit:
                if place not in self._spent:
                    self._spent[place] = self._reason(budget, place[1], limit)
                return self._spent[place]
        return None

    def take(self, fact: NodeFact) -> None:
        """Count the node as away."""
        for budget in self._budgets:
            place = budget, _group(budget, fact)
            self._away.setdefault(place, set()).add(fact.id)
            self._spent.pop(place, None)

    def _reason(self, budget: Budget, group: str | None, limit: int) -> BudgetSpent:
        away = self._away[budget, group]
        return BudgetSpent(
            limit=limit,
            per=budget.per,
            group=group,
            away=tuple(sorted(away)),
            silent=tuple(sorted(away & self._silent)),
        )


def _is_of_the_system(fact: NodeFact) -> bool:
    """Say whether the node is one of those of which a share may be away: it has served."""
    return fact.version > 0


def _group(budget: Budget, fact: NodeFact) -> str | None:
    return None if budget.per is None else fact.attributes.get(budget.per, NO_GROUP)
