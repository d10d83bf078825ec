"""What a waiting node says itself: nothing at all, or that now is not the time."""

from segue.model.fleet import NodeFact
from segue.schedule.reasons import NodeHolds, Silent
from segue.schedule.scene import Scene


class Presence:
    """Whether the node is there to take its permit; no order of an operator changes that.

    Args:
        scene: what is decided on.
    """

    def __init__(self, scene: Scene) -> None:
        self._silent = scene.silent

    def refuse(self, fact: NodeFact) -> Silent | None:
        """Return since when nobody would take the permit; None if somebody would."""
        return Silent(since=fact.last_seen) if fact.id in self._silent else None


class OwnWords:
    """What the release's code says on the node, which alone knows its sessions.

    Args:
        scene: what is decided on.
    """

    def __init__(self, scene: Scene) -> None:
        self._heeds = scene.rules.heeds_nodes

    def refuse(self, fact: NodeFact) -> NodeHolds | None:
        """Return what the node says against going now; None if it says nothing."""
        return NodeHolds(text=fact.holds) if self._heeds and fact.holds is not None else None
