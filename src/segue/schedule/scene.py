"""The fleet at the moment of one decision: what several rules ask of it is found out once, here."""

from datetime import datetime
from typing import Protocol

from segue.model.fleet import Fleet, NodeFact
from segue.schedule.reasons import Reason
from segue.schedule.rules import Rules


class Scene:
    """What a decision is made on.

    Args:
        fleet: all nodes of the system.
        rules: the schedule, as it holds at `now`.
        now: the time of the decision.

    Attributes:
        silent: the nodes that have not been seen for so long that they count as away.
        lost: those of them that have not been seen for so long that a failure budget counts them as failed.
        retried: the silent nodes that an operator has had try again since they were last heard of: what became of them
            is open, and they count as if they had yet to go.
        rollout: the nodes of the class that take part in the rollout, by id: all but those that an operator left
            out, and those that joined at the target or beyond. These transformed nothing, and show nothing.
        failed: those of them on which the target failed for good.
        upgraded: those of them that serve the target, or more.
    """

    def __init__(self, fleet: Fleet, rules: Rules, now: datetime) -> None:
        self.fleet, self.rules, self.now = fleet, rules, now
        self.silent = frozenset(fact.id for fact in fleet.nodes.values() if fact.is_silent(now, rules.stale_s))
        self.lost = frozenset(
            node for node in self.silent if fleet.nodes[node].is_lost(now, rules.lease_s, fleet.listens_since)
        )
        self.retried = frozenset(node for node in self.silent if fleet.is_retried(fleet.nodes[node]))
        self.rollout = tuple(fact for fact in fleet.of_the_class() if self._takes_part(fact))
        self.failed = frozenset(fact.id for fact in self.rollout if fleet.has_failed(fact))
        self.upgraded = frozenset(fact.id for fact in self.rollout if fleet.is_upgraded(fact))

    def _takes_part(self, fact: NodeFact) -> bool:
        joined = fact.upgraded_at is None and self.fleet.is_upgraded(fact)
        return not joined and not self.fleet.is_skipped(fact)

    @property
    def begun_at(self) -> datetime:
        """When the rollout began; now, if nobody knows."""
        return self.fleet.begun_at or self.now

    def served_until(self, fact: NodeFact) -> datetime:
        """Return until when the node is known to have served: what a silent one does now nobody knows."""
        return fact.last_seen if fact.id in self.silent else self.now


class Room(Protocol):
    """One rule, while one decision is made."""

    def refuse(self, fact: NodeFact, /) -> Reason | None:
        """Return why the node may not go by this rule; None if it may."""
        ...


class SpentRoom(Room, Protocol):
    """A rule that grants spend: those that are given in this decision are taken into account."""

    def take(self, fact: NodeFact, /) -> None:
        """Take into account that the node goes now."""
        ...
