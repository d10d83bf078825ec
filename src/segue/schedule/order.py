"""Order: classes that go before others, and releases that go before others."""

from segue.model.fleet import NodeFact
from segue.schedule.reasons import ClassBehind, Queued
from segue.schedule.scene import Scene


class ClassesBefore:
    """Whether the classes that go first have got to the target.

    Args:
        scene: what is decided on.
    """

    def __init__(self, scene: Scene) -> None:
        self._reason: ClassBehind | None = None
        fleet = scene.fleet
        for name in scene.rules.after:
            behind = sorted(
                fact.id
                for fact in fleet.nodes.values()
                # One that never served has no clients, and will start with the newest release.
                if fact.class_name == name
                and fact.version > 0
                and (fact.version < fleet.target or fact.away_since is not None)
                and not fleet.is_skipped(fact)
            )
            if behind:
                self._reason = ClassBehind(class_name=name, nodes=tuple(behind))
                return

    def refuse(self, _fact: NodeFact) -> ClassBehind | None:
        """Return the first class that has not got there; None if all have."""
        return self._reason


class ReleasesBefore:
    """Whether the rollout of the release before has come to an end, where the author wants it to.

    Args:
        scene: what is decided on.
    """

    def __init__(self, scene: Scene) -> None:
        self._reason: Queued | None = None
        fleet, before = scene.fleet, scene.fleet.before
        if not scene.rules.queues or before is None:
            return
        behind = tuple(
            fact.id
            for fact in fleet.of_the_class()
            if 0 < fact.version < before and fact.id not in scene.silent and (before, fact.id) not in fleet.hand.skipped
        )
        if behind:
            self._reason = Queued(release=before, nodes=behind)

    def refuse(self, _fact: NodeFact) -> Queued | None:
        """Return the release that goes first; None if its rollout has come to an end."""
        return self._reason
