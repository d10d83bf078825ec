"""Health: what upgraded nodes report of themselves must stay within bounds."""

from collections.abc import Iterable, Iterator
from statistics import median

from segue.model.fleet import NodeFact
from segue.schedule.reasons import FactMissing, Unhealthy
from segue.schedule.rules import Bound
from segue.schedule.scene import Scene


class Health:
    """Whether the upgraded nodes are well.

    What a silent node reported last says nothing of now: it is left out. A node that is upgraded and does not report a
    fact is not known to be well, and holds the others as one that is not.

    Args:
        scene: what is decided on; nodes of the class count.

    Attributes:
        reason: the first upgraded node that is not well; None if all are.
    """

    def __init__(self, scene: Scene) -> None:
        upgraded = [fact for fact in scene.rollout if fact.id in scene.upgraded and fact.id not in scene.silent]
        rest = [
            fact
            for fact in scene.rollout
            if fact.id not in scene.upgraded
            and fact.id not in scene.silent
            and fact.away_since is None
            and fact.version > 0
        ]
        self.reason = next(
            (reason for bound in scene.rules.healthy for reason in _out_of_bounds(bound, upgraded, rest)), None
        )

    def refuse(self, _fact: NodeFact) -> Unhealthy | FactMissing | None:
        """Return the first upgraded node that is not well; None if all are."""
        return self.reason


def _out_of_bounds(
    bound: Bound, upgraded: Iterable[NodeFact], rest: Iterable[NodeFact]
) -> Iterator[Unhealthy | FactMissing]:
    limits = list(_limits(bound, rest))
    for fact in upgraded:
        value = fact.facts.get(bound.fact)
        if value is None:
            yield FactMissing(node=fact.id, fact=bound.fact)
            continue
        for limit, is_most, basis in limits:
            if (value > limit) if is_most else (value < limit):
                yield Unhealthy(node=fact.id, fact=bound.fact, value=value, bound=limit, is_most=is_most, median=basis)


def _limits(bound: Bound, rest: Iterable[NodeFact]) -> Iterator[tuple[float, bool, float | None]]:
    """Yield each limit, whether it is the most that may be, and the median that it was made from, if it was."""
    for given, is_most in ((bound.most, True), (bound.least, False)):
        if given is not None:
            yield given, is_most, None
    times = [
        (factor, is_most)
        for factor, is_most in ((bound.most_times, True), (bound.least_times, False))
        if factor is not None
    ]
    values = [fact.facts[bound.fact] for fact in rest if bound.fact in fact.facts] if times else []
    if values:  # with nobody left to compare with, there is no such bound
        basis = median(values)
        for factor, is_most in times:
            yield factor * basis, is_most, basis
