"""The operator's hand: what they ended, held, left out and ordered in spite of the rules."""

from segue.model.fleet import NodeFact
from segue.schedule.reasons import Aborted, Paused, Skipped
from segue.schedule.scene import Scene


class Hands:
    """What operators did to this rollout.

    An abort and a skip hold whatever else was ordered. A node that is forced goes past every rule, and past a pause
    from before that.

    Args:
        scene: what is decided on.
    """

    def __init__(self, scene: Scene) -> None:
        self._target, self._hand = scene.fleet.target, scene.fleet.hand

    def is_forced(self, fact: NodeFact) -> bool:
        """Say whether the node goes whatever the rules say: the first permit after the override spends that."""
        forced = self._hand.forced.get((self._target, fact.id))
        spent = forced is not None and fact.granted_at is not None and fact.granted_at >= forced.at
        return forced is not None and not spent and self._bars(fact) is None

    def refuse(self, fact: NodeFact) -> Aborted | Skipped | Paused | None:
        """Return what an operator did that keeps the node; None if nothing does."""
        paused = self._hand.paused
        return self._bars(fact) or (Paused(who=paused.who, why=paused.why, since=paused.at) if paused else None)

    def _bars(self, fact: NodeFact) -> Aborted | Skipped | None:
        aborted = self._hand.aborted.get(self._target)
        if aborted:
            return Aborted(who=aborted.who, why=aborted.why, since=aborted.at)
        skipped = self._hand.skipped.get((self._target, fact.id))
        return Skipped(who=skipped.who, why=skipped.why) if skipped else None
