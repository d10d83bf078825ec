"""The operator's hand: what they ended, held, left out and ordered in spite of the rules."""

from segue.model.fleet import NodeFact
from segue.schedule.reasons import Aborted, Paused, Skipped
from segue.schedule.scene import Scene


class Hands:
    """What operators did to this rollout.

    An abort and a skip hold whatever else was ordered, but for a node that was forced after it was skipped. A forced
    node goes past a pause and past every rule.

    Args:
        scene: what is decided on.
    """

    def __init__(self, scene: Scene) -> None:
        self._target, self._hand = scene.fleet.target, scene.fleet.hand

    def is_forced(self, fact: NodeFact) -> bool:
        """Say whether the node goes whatever the rules say."""
        forced = self._hand.forced.get((self._target, fact.id))
        return forced is not None and self._bars(fact) is None

    def refuse(self, fact: NodeFact) -> Aborted | Skipped | Paused | None:
        """Return what an operator did that keeps the node; None if nothing does."""
        paused = self._hand.paused
        return self._bars(fact) or (Paused(who=paused.who, why=paused.why, since=paused.at) if paused else None)

    def _bars(self, fact: NodeFact) -> Aborted | Skipped | None:
        aborted = self._hand.aborted.get(self._target)
        if aborted:
            return Aborted(who=aborted.who, why=aborted.why, since=aborted.at)
        place = self._target, fact.id
        skipped, forced = self._hand.skipped.get(place), self._hand.forced.get(place)
        if skipped and not (forced and forced.at > skipped.at):
            return Skipped(who=skipped.who, why=skipped.why)
        return None
