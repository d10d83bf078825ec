"""The failure budget: so many failures halt a rollout by themselves."""

from segue.model.amount import at_least
from segue.model.fleet import NodeFact
from segue.schedule.reasons import Halted
from segue.schedule.scene import Scene


class Failures:
    """How many nodes the release has failed on since an operator last looked.

    A node that has the release, or is on its way to it, and is silent counts as failed while it is silent: its silence
    may be what the release does.

    Args:
        scene: what is decided on; nodes of the class count.

    Attributes:
        reason: what halted the rollout; None if nothing has.
    """

    def __init__(self, scene: Scene) -> None:
        self.reason: Halted | None = None
        budget = scene.rules.failure_budget
        if budget is None:
            return
        looked_at = scene.fleet.hand.resumed.at if scene.fleet.hand.resumed else None
        failed, silent = [], []
        for fact in scene.rollout:
            if fact.id in scene.failed:
                if not (looked_at and fact.failed_at and fact.failed_at <= looked_at):
                    failed.append(fact.id)
            elif (
                fact.id in scene.silent
                and (fact.id in scene.upgraded or fact.is_away_to(scene.fleet.target))
                and not (looked_at and fact.last_seen <= looked_at)
            ):
                silent.append(fact.id)
        limit = at_least(budget, len(scene.rollout))
        if len(failed) + len(silent) >= limit:
            self.reason = Halted(limit=limit, failed=tuple(failed), silent=tuple(silent))

    def refuse(self, _fact: NodeFact) -> Halted | None:
        """Return what halted the rollout; None if nothing has."""
        return self.reason
