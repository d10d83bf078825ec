"""Canaries: a few nodes go first, so that a wrong release is stopped on few nodes."""

from datetime import datetime, timedelta

from segue.model.fleet import Fleet, NodeFact
from segue.model.ids import NodeId
from segue.schedule.reasons import CanaryAway, CanaryFailed, CanarySilent, CanarySoaks
from segue.schedule.rules import Canary, Rules


class Canaries:
    """Who has gone first, while one decision is made: grants given in it are added.

    Args:
        fleet: all nodes of the system; those of the class count.
        rules: the schedule, for its canary and for when a node counts as silent.
        now: the time of the decision.
    """

    def __init__(self, fleet: Fleet, rules: Rules, now: datetime) -> None:
        self._rule = rules.canary
        self._soaked = 0
        self._failed: list[NodeId] = []
        self._silent: list[tuple[NodeId, datetime]] = []
        self._away: list[NodeId] = []
        self._soaking: list[tuple[datetime, NodeId]] = []
        if self._rule is not None:
            for fact in fleet.of_the_class():
                self._add(fact, fleet, self._rule, silent=fact.is_silent(now, rules.stale_s), now=now)

    def _add(self, fact: NodeFact, fleet: Fleet, rule: Canary, *, silent: bool, now: datetime) -> None:
        if fleet.is_upgraded(fact):
            if fact.upgraded_at is None:
                return  # it joined at the target, or beyond: it transformed nothing, and shows nothing
            if fact.failed:  # after it had answered calls, so that it could not go back
                self._failed.append(fact.id)
                return
            # What a silent node does now nobody knows: it served until it was last seen.
            served_until = fact.last_seen if silent else now
            soaked_at = fact.upgraded_at + timedelta(seconds=rule.soak_s)
            if soaked_at <= served_until:
                self._soaked += 1
            elif silent:
                self._silent.append((fact.id, fact.last_seen))
            else:
                self._soaking.append((soaked_at, fact.id))
        elif fact.failed:
            self._failed.append(fact.id)
        elif fact.is_away_to(fleet.target):  # others are away for other versions
            if silent:
                self._silent.append((fact.id, fact.last_seen))
            else:
                self._away.append(fact.id)

    def refuse(self) -> CanaryFailed | CanarySilent | CanaryAway | CanarySoaks | None:
        """Return what every node must wait for; None if one may go, as a canary or after the canaries."""
        if self._rule is None or self._soaked >= self._rule.nodes:
            return None
        if self._failed:
            return CanaryFailed(node=self._failed[0])
        gone = self._soaked + len(self._silent) + len(self._away) + len(self._soaking)
        if gone < self._rule.nodes:
            return None
        if self._silent:
            node, since = self._silent[0]
            return CanarySilent(node=node, since=since)
        if self._away:
            return CanaryAway(node=self._away[0])
        until, node = max(self._soaking)
        return CanarySoaks(node=node, until=until)

    def take(self, fact: NodeFact) -> None:
        """Count the node as gone."""
        self._away.append(fact.id)
