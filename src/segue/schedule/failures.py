"""The failure budget: so many failures halt a rollout by themselves."""

from segue.model.amount import at_least
from segue.model.fleet import NodeFact
from segue.model.ids import NodeId
from segue.schedule.reasons import Halted
from segue.schedule.scene import Scene


class Failures:
    """How many nodes the release has failed on since an operator last looked.

    A node that has the release, or is on its way to it, and is lost counts as failed: its silence may be what the
    release does. Once that has halted the rollout it counts until an operator has looked, though the node is back.

    Args:
        scene: what is decided on; nodes of the class count.

    Attributes:
        reason: what halted the rollout; None if nothing has.
    """

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.reason: Halted | None = None
        budget = scene.rules.failure_budget
        if budget is None:
            return
        failed: list[NodeId] = []
        silent: list[NodeId] = []
        back: list[NodeId] = []
        for fact in scene.rollout:
            if fact.id in scene.retried:
                continue
            if fact.id in scene.failed:
                if not self._has_looked_at(fact):
                    failed.append(fact.id)
            elif self._is_lost_with_it(fact):
                silent.append(fact.id)
            elif self._was_lost_with_it(fact):
                back.append(fact.id)
        limit = at_least(budget, len(scene.rollout))
        if len(failed) + len(silent) + len(back) >= limit:
            self.reason = Halted(limit=limit, failed=tuple(failed), silent=tuple(silent), back=tuple(back))

    def _has_looked_at(self, failed: NodeFact) -> bool:
        looked = self._scene.fleet.hand.resumed
        return looked is not None and failed.failed_at is not None and failed.failed_at <= looked.at

    def _is_lost_with_it(self, fact: NodeFact) -> bool:
        scene = self._scene
        if fact.id not in scene.lost or not (fact.id in scene.upgraded or fact.is_away_to(scene.fleet.target)):
            return False
        looked = scene.fleet.hand.resumed
        # Who resumes has seen which nodes are silent. One that was heard of right before, and not since, is a new loss.
        return not (looked and fact.last_seen <= looked.at and fact.is_silent(looked.at, scene.rules.stale_s))

    def _was_lost_with_it(self, fact: NodeFact) -> bool:
        fleet = self._scene.fleet
        lost_at = fleet.lost_at.get(fact.id)
        if lost_at is None:
            return False
        retried = fleet.hand.retried.get((fleet.target, fact.id))
        return not any(deed is not None and deed.at >= lost_at for deed in (fleet.hand.resumed, retried))

    def refuse(self, _fact: NodeFact) -> Halted | None:
        """Return what halted the rollout; None if nothing has."""
        return self.reason
