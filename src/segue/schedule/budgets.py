"""Budgets: how many nodes may be away at once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from segue.model.fleet import NodeFact
from segue.model.ids import NodeId
from segue.schedule.reasons import BudgetSpent
from segue.schedule.rules import Budget
from segue.schedule.scene import Scene

#: The group of the nodes that have not the attribute that makes the groups. Were each of them let off the
#: budget instead, a misspelt attribute would let a whole fleet go at once.
NO_GROUP = "(none)"

_Place: TypeAlias = tuple[int, str | None]


class Budgets:
    """Who is away, by group; nodes of every class count, and nodes that are silent.

    Args:
        scene: what is decided on.
    """

    def __init__(self, scene: Scene) -> None:
        self._budgets = scene.rules.budgets
        self._silent = scene.silent
        #: `{(place of a budget among all, group): nodes that are away}`
        self._away: dict[_Place, set[NodeId]] = {}
        #: `{the same: why nobody of it may go}`: in a large fleet thousands of nodes hear the same.
        self._spent: dict[_Place, BudgetSpent] = {}
        nodes = scene.fleet.nodes.values()
        served = [fact for fact in nodes if _is_of_the_system(fact)]
        self._limits = {
            (number, group): budget.limit_of(count)
            for number, budget in enumerate(self._budgets)
            for group, count in _counts(budget, served).items()
        }
        for fact in nodes:
            # Callers miss a node that served; one that never did may be a slip of its operator's.
            if fact.away_since is not None or (fact.id in self._silent and fact.version > 0):
                self.take(fact)

    def refuse(self, fact: NodeFact) -> BudgetSpent | None:
        """Return the first budget that the node would pass by going; None if it may go."""
        for number, budget in enumerate(self._budgets):
            place = number, _group(budget, fact)
            if place in self._spent:
                return self._spent[place]
            limit = self._limits.get(place) or budget.limit_of(1)
            if len(self._away.get(place, ())) >= limit:
                self._spent[place] = self._reason(place, limit)
                return self._spent[place]
        return None

    def take(self, fact: NodeFact) -> None:
        """Count the node as away."""
        for number, budget in enumerate(self._budgets):
            place = number, _group(budget, fact)
            self._away.setdefault(place, set()).add(fact.id)
            self._spent.pop(place, None)

    def _reason(self, place: _Place, limit: int) -> BudgetSpent:
        away, (number, group) = self._away[place], place
        return BudgetSpent(
            limit=limit,
            per=self._budgets[number].per,
            group=group,
            away=tuple(sorted(away)),
            silent=tuple(sorted(away & self._silent)),
        )


def _counts(budget: Budget, served: Sequence[NodeFact]) -> Mapping[str | None, int]:
    """Return how many nodes are in each of a budget's groups."""
    return {None: len(served)} if budget.per is None else Counter(_group(budget, fact) for fact in served)


def _is_of_the_system(fact: NodeFact) -> bool:
    """Say whether the node is one of those of which a share may be away: it has served."""
    return fact.version > 0


def _group(budget: Budget, fact: NodeFact) -> str | None:
    return None if budget.per is None else fact.attributes.get(budget.per, NO_GROUP)
