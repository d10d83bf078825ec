"""Pace: how many go in a time, and nodes spread over a time."""

import hashlib
from datetime import datetime, timedelta

from segue.model.fleet import NodeFact
from segue.model.ids import NodeId
from segue.schedule.reasons import MomentAhead, RateSpent
from segue.schedule.scene import Scene


class Rates:
    """How many have gone within the time that counts.

    Args:
        scene: what is decided on; grants to nodes of the class count.
    """

    def __init__(self, scene: Scene) -> None:
        self._rule, self._now = scene.rules.rate, scene.now
        self._recent: list[datetime] = []
        if self._rule is not None:
            # One that a clock that was set back wrote in what is now the future counts, too.
            since = scene.now - timedelta(seconds=self._rule.per_s)
            self._recent = sorted(at for at in scene.fleet.grants if at > since)

    def refuse(self, _fact: NodeFact) -> RateSpent | None:
        """Return until when no other node may go; None if one may."""
        if self._rule is None or len(self._recent) < self._rule.nodes:
            return None
        oldest = self._recent[-self._rule.nodes]
        until = oldest + timedelta(seconds=self._rule.per_s)
        return RateSpent(nodes=self._rule.nodes, per_s=self._rule.per_s, until=until)

    def take(self, _fact: NodeFact) -> None:
        """Count a grant at the time of the decision."""
        self._recent.append(self._now)


class Spread:
    """Each node has a moment of its own in the interval from the rollout's begin.

    Args:
        scene: what is decided on.
    """

    def __init__(self, scene: Scene) -> None:
        self._spread_s, self._begun_at, self._now = scene.rules.spread_s, scene.begun_at, scene.now

    def refuse(self, fact: NodeFact) -> MomentAhead | None:
        """Return the node's moment; None if it has come."""
        if self._spread_s is None:
            return None
        moment = self._begun_at + timedelta(seconds=self._spread_s * share_of(fact.id))
        return MomentAhead(until=moment) if moment > self._now else None


def share_of(node: NodeId) -> float:
    """Return where in an interval the node stands, from 0 to just below 1: the same on every machine, for ever."""
    return int.from_bytes(hashlib.sha256(node.encode()).digest()[:6], "big") / 2**48
