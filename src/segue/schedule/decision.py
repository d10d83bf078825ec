"""The decision: who of those that wait may go now, and what the others wait for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from segue.model.fleet import Fleet, NodeFact
from segue.model.ids import NodeId
from segue.schedule.budgets import Budgets
from segue.schedule.canaries import Canaries
from segue.schedule.reasons import Behind, BudgetSpent, Reason, Silent, until, words
from segue.schedule.rules import Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A node may not go yet.

    Attributes:
        reason: what it waits for, as data.
        text: the same in words, one line for the operator.
        until: when the reason passes by itself; None if that is not known.
    """

    reason: Reason
    text: str
    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided for each node that waits.

    Attributes:
        grants: who may go now, the oldest request first.
        refusals: `{node's id: why it may not}` of all others that wait, the oldest request first.
    """

    grants: tuple[NodeId, ...]
    refusals: Mapping[NodeId, Refusal]


def decide(fleet: Fleet, rules: Rules, now: datetime) -> Decision:
    """Say which waiting nodes may be upgraded at `now`.

    Same arguments, same answer. A node that must wait holds up nobody behind it whom the rules let go.

    Args:
        fleet: all nodes of the system, as they are at `now`.
        rules: the schedule of the class upgrade to the fleet's target.
        now: the time by the clock that the facts were written by, aware.

    Returns:
        Grants that together keep every rule, oldest request first; a refusal for every other node that waits.

    Source: docs/decisions/0005.
    """
    assert now.tzinfo is not None, f"now is {now}, which has no time zone: hand in UTC"
    # A grant is a grant only once somebody is told: what is so already is kept apart from what is decided here.
    as_it_is, with_grants = _Places(fleet, rules, now), _Places(fleet, rules, now)
    grants: list[NodeId] = []
    refusals: dict[NodeId, Refusal] = {}
    for fact in fleet.requests():
        reason = _silent(fact, rules, now) or as_it_is.refuse(fact) or _behind(grants, with_grants.refuse(fact))
        if reason is not None:
            refusals[fact.id] = Refusal(reason=reason, text=words(reason, now), until=until(reason))
            continue
        with_grants.take(fact)
        grants.append(fact.id)
    return Decision(grants=tuple(grants), refusals=refusals)


class _Places:
    def __init__(self, fleet: Fleet, rules: Rules, now: datetime) -> None:
        self._canaries, self._budgets = Canaries(fleet, rules, now), Budgets(fleet, rules, now)

    def refuse(self, fact: NodeFact) -> Reason | None:
        return self._canaries.refuse() or self._budgets.refuse(fact)

    def take(self, fact: NodeFact) -> None:
        self._canaries.take(fact)
        self._budgets.take(fact)


def _behind(grants: Sequence[NodeId], reason: Reason | None) -> Behind | None:
    """Return the oldest of the grants that are in the way, if some are; `reason` is why, if they were out."""
    if reason is None:
        return None
    in_the_way = set(reason.away) if isinstance(reason, BudgetSpent) else set(grants)
    return Behind(node=next(node for node in grants if node in in_the_way))


def _silent(fact: NodeFact, rules: Rules, now: datetime) -> Silent | None:
    return Silent(since=fact.last_seen) if fact.is_silent(now, rules.stale_s) else None
