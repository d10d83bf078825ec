"""Waves: more nodes each time, and none of the next before those of this one have served for a while."""

from datetime import datetime, timedelta

from segue.model.amount import at_least
from segue.model.fleet import NodeFact
from segue.model.ids import NodeId
from segue.schedule.reasons import WaveFull
from segue.schedule.scene import Scene


class Waves:
    """How many have gone, and how many of them have soaked.

    With a failure budget, that alone says how many failures are too many: nodes on which the release failed, or that
    are lost with it, are then of no wave, and others take their places. Without one, any of them ends its wave, and so
    does one that is silent and not yet lost.

    Args:
        scene: what is decided on; nodes of the class count.
    """

    def __init__(self, scene: Scene) -> None:
        rule = scene.rules.waves
        self._soaked, self._gone = 0, 0
        self._failed: list[NodeId] = []
        self._silent: list[NodeId] = []
        self._away: list[NodeId] = []
        self._soaking: list[datetime] = []
        self._members, self._sizes = 0, tuple[int, ...]()
        #: Those whose last attempt failed and that make another: they keep their place.
        self._retrying: list[NodeId] = []
        self._full: WaveFull | None = None
        if rule is None:
            return
        left_out = 0
        for fact in scene.rollout:
            left_out += not self._add(fact, scene, rule.soak_s)
        self._soaking.sort()
        members = self._members = len(scene.rollout) - left_out
        self._sizes = tuple(min(members, at_least(size, members)) for size in rule.sizes)

    def _add(self, fact: NodeFact, scene: Scene, soak_s: float) -> bool:
        """Count the node by where it is; False if it is of no wave."""
        silent, tolerant = fact.id in scene.silent, scene.rules.failure_budget is not None
        if fact.id in scene.retried:
            return True
        if fact.id in scene.failed:
            if not tolerant:
                self._failed.append(fact.id)
                self._gone += 1
            return not tolerant
        is_upgraded = fact.id in scene.upgraded
        if not is_upgraded and not fact.is_away_to(scene.fleet.target):
            if fact.tries_again and not silent:
                self._retrying.append(fact.id)
                self._gone += 1
            return True
        if is_upgraded:
            assert fact.upgraded_at is not None, fact
            soaked_at = fact.upgraded_at + timedelta(seconds=soak_s)
            if soaked_at <= scene.served_until(fact):
                self._soaked, self._gone = self._soaked + 1, self._gone + 1
                return True
        if silent:
            if tolerant and fact.id in scene.lost:
                return False
            self._silent.append(fact.id)
            self._gone += 1
            return True
        self._gone += 1
        if is_upgraded:
            self._soaking.append(soaked_at)
        else:
            self._away.append(fact.id)
        return True

    @property
    def are_through(self) -> bool:
        """Whether each wave but one that is of all nodes has served for the soak."""
        return all(self._soaked >= size for size in self._sizes if size < self._members)

    def refuse(self, fact: NodeFact) -> WaveFull | None:
        """Return which wave the node must wait for; None if it may go with this one."""
        if fact.id in self._retrying:
            return None
        for number, size in enumerate(self._sizes, start=1):
            if self._soaked < size:
                if self._gone < size:
                    return None
                if self._full is None:
                    self._full = self._reason(number, size)
                return self._full
        return None

    def _reason(self, number: int, size: int) -> WaveFull:
        missing = size - self._soaked
        return WaveFull(
            wave=number,
            waves=len(self._sizes),
            size=size,
            failed=tuple(self._failed),
            away=(*self._away, *self._retrying),
            silent=tuple(self._silent),
            until=self._soaking[missing - 1] if missing <= len(self._soaking) else None,
        )

    def take(self, fact: NodeFact) -> None:
        """Count the node as gone."""
        if fact.id in self._retrying:
            self._retrying.remove(fact.id)
        else:
            self._gone += 1
        self._away.append(fact.id)
        self._full = None
