"""The decision: who of those that wait may go now, and what the others wait for."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from segue.model.fleet import Fleet, NodeFact
from segue.model.ids import NodeId
from segue.schedule.budgets import Budgets
from segue.schedule.canaries import Canaries
from segue.schedule.reasons import Reason, Silent, until, words
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
    canaries, budgets = Canaries(fleet, rules, now), Budgets(fleet, rules, now)
    grants: list[NodeId] = []
    refusals: dict[NodeId, Refusal] = {}
    for fact in fleet.requests():
        reason = _silent(fact, rules, now) or canaries.refuse() or budgets.refuse(fact)
        if reason is not None:
            refusals[fact.id] = Refusal(reason=reason, text=words(reason, now), until=until(reason))
            continue
        canaries.take(fact)
        budgets.take(fact)
        grants.append(fact.id)
    return Decision(grants=tuple(grants), refusals=refusals)


def _silent(fact: NodeFact, rules: Rules, now: datetime) -> Silent | None:
    return Silent(since=fact.last_seen) if fact.is_silent(now, rules.stale_s) else None
