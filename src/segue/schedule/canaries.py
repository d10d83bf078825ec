"""Canaries: a few nodes go first, so that a wrong release is stopped on few nodes."""

from datetime import datetime, timedelta

from segue.model.amount import at_least
from segue.model.fleet import NodeFact
from segue.model.ids import NodeId
from segue.schedule.reasons import CanaryAway, CanaryFailed, CanaryFirst, CanaryRetries, CanarySilent, CanarySoaks
from segue.schedule.rules import Canary
from segue.schedule.scene import Scene

_Reason = CanaryFailed | CanarySilent | CanaryAway | CanaryRetries | CanaryFirst | CanarySoaks


class Canaries:
    """Who has gone first.

    Args:
        scene: what is decided on; nodes of the class count.
    """

    def __init__(self, scene: Scene) -> None:
        rule = self._rule = scene.rules.canary
        self._needed = 0
        self._soaked = 0
        self._failed: list[NodeId] = []
        self._silent: list[tuple[NodeId, datetime]] = []
        self._away: list[NodeId] = []
        #: Those whose last attempt failed and that make another: until that has failed for good, no other node tries.
        self._retrying: list[NodeId] = []
        self._soaking: list[tuple[datetime, NodeId]] = []
        #: Those that the author named and that have yet to go; None if any node may be a canary.
        self._first: list[CanaryFirst] | None = None
        if rule is None:
            return
        if isinstance(rule.nodes, tuple):
            self._named(rule.nodes, rule, scene)
        else:
            self._needed = at_least(rule.nodes, len(scene.rollout))
            for fact in scene.rollout:
                self._add(fact, scene, rule)

    def _named(self, names: tuple[NodeId, ...], rule: Canary, scene: Scene) -> None:
        taking_part = {fact.id: fact for fact in scene.rollout}
        self._first = []
        for name in names:
            fact, known = taking_part.get(name), scene.fleet.nodes.get(name)
            if fact is not None:
                self._needed += 1
                if not self._add(fact, scene, rule):
                    self._first.append(CanaryFirst(node=name, is_known=True))
            elif known is None and (scene.fleet.target, name) not in scene.fleet.hand.skipped:
                self._needed += 1
                self._first.append(CanaryFirst(node=name, is_known=False))
            # One that joined at the target, or that an operator left out, is waited for by nobody.

    def _add(self, fact: NodeFact, scene: Scene, rule: Canary) -> bool:
        """Count the node by where it is; False if it has not gone."""
        silent = fact.id in scene.silent
        if fact.id in scene.retried:
            return False
        if fact.id in scene.failed:  # perhaps after it had answered calls, so that it could not go back
            self._failed.append(fact.id)
        elif fact.id in scene.upgraded:
            assert fact.upgraded_at is not None, fact
            soaked_at = fact.upgraded_at + timedelta(seconds=rule.soak_s)
            if soaked_at <= scene.served_until(fact):
                self._soaked += 1
            elif silent:
                self._silent.append((fact.id, fact.last_seen))
            else:
                self._soaking.append((soaked_at, fact.id))
        elif fact.is_away_to(scene.fleet.target):  # others are away for other versions
            if silent:
                self._silent.append((fact.id, fact.last_seen))
            else:
                self._away.append(fact.id)
        elif fact.tries_again:
            if silent:
                self._silent.append((fact.id, fact.last_seen))
            else:
                self._retrying.append(fact.id)
        else:
            return False
        return True

    @property
    def are_through(self) -> bool:
        """Whether as many as are needed have served for the soak."""
        return self._rule is None or self._soaked >= self._needed

    def refuse(self, fact: NodeFact) -> _Reason | None:
        """Return what the node must wait for; None if it may go, as a canary or after the canaries."""
        if self.are_through:
            return None
        if self._failed:
            return CanaryFailed(node=self._failed[0])
        if fact.id in self._retrying:
            return None
        if self._first is None:
            left = len(self._silent) + len(self._away) + len(self._retrying) + len(self._soaking)
            gone = self._soaked + left
            if gone < self._needed:
                return None
        elif any(first.node == fact.id for first in self._first):
            return None
        return self._next_of_those_gone() or (self._first[0] if self._first else None)

    def _next_of_those_gone(self) -> _Reason | None:
        if self._silent:
            node, since = self._silent[0]
            return CanarySilent(node=node, since=since)
        if self._away:
            return CanaryAway(node=self._away[0])
        if self._retrying:
            return CanaryRetries(node=self._retrying[0])
        if self._soaking:
            until, node = max(self._soaking)
            return CanarySoaks(node=node, until=until)
        return None

    def take(self, fact: NodeFact) -> None:
        """Count the node as gone."""
        if fact.id in self._retrying:
            self._retrying.remove(fact.id)
            self._away.append(fact.id)
        elif self._first is None:
            self._away.append(fact.id)
        elif any(first.node == fact.id for first in self._first):
            self._first = [first for first in self._first if first.node != fact.id]
            self._away.append(fact.id)
