"""The decision: who of those that wait may go now, and what the others wait for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from segue.model.fleet import Fleet, NodeFact
from segue.model.ids import NodeId, Version
from segue.schedule.budgets import Budgets
from segue.schedule.canaries import Canaries
from segue.schedule.failures import Failures
from segue.schedule.gates import Gates
from segue.schedule.hands import Hands
from segue.schedule.health import Health
from segue.schedule.order import ClassesBefore, ReleasesBefore
from segue.schedule.ownwords import OwnWords, Presence
from segue.schedule.pace import Rates, Spread
from segue.schedule.reasons import Behind, BudgetSpent, NodeDecides, Reason, until
from segue.schedule.rules import Rules
from segue.schedule.scene import Room, Scene, SpentRoom
from segue.schedule.waves import Waves
from segue.schedule.windows import Windows
from segue.schedule.words import words

#: The rules that no grant changes, in the order in which their reasons are told: what ends a rollout comes first, then
#: what somebody must do about, then what passes by itself.
STANDING: tuple[Callable[[Scene], Room], ...] = (
    Failures, Health, Gates, ReleasesBefore, ClassesBefore, Windows, Spread, OwnWords,
)  # fmt: skip

#: Those of them that try a release, or wait for others to go first; what they say is the same for all nodes.
PROVING: tuple[Callable[[Scene], Room], ...] = (Failures, Health, Gates, ReleasesBefore, ClassesBefore)

#: The rules that a grant spends; they decide last, so that no place is kept for a node that may not go.
SPENT: tuple[Callable[[Scene], SpentRoom], ...] = (Canaries, Waves, Rates, Budgets)


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
        grants: who may go now, those that an operator forced first, then the oldest request first.
        refusals: `{node's id: why it may not}` of all others that wait, in the same order.
        dry_run: what rules that are tried dry would have refused everybody for; None if nothing.
    """

    grants: tuple[NodeId, ...]
    refusals: Mapping[NodeId, Refusal]
    dry_run: Refusal | None = None


def decide(fleet: Fleet, rules: Rules, now: datetime) -> Decision:
    """Say which waiting nodes may be upgraded at `now`.

    Same arguments, same answer. A node that must wait holds up nobody behind it whom the rules let go. What an operator
    forced goes past all rules; it counts in them for the others.

    Args:
        fleet: all nodes of the system, as they are at `now`.
        rules: the schedule of the class upgrade to the fleet's target.
        now: the time by the clock that the facts were written by, aware.

    Returns:
        Grants that together keep every rule, oldest request first; a refusal for every other node that waits.

    Source: docs/decisions/0005, docs/decisions/0022.
    """
    scene = _scene(fleet, rules, now)
    said = _Said(now)
    presence, hands = Presence(scene), Hands(scene)
    standing = [kind(scene) for kind in STANDING]
    # A grant is a grant only once somebody is told: what is so already is kept apart from what is decided here.
    as_it_is, with_grants = [kind(scene) for kind in SPENT], [kind(scene) for kind in SPENT]
    grants: list[NodeId] = []
    refusals: dict[NodeId, Refusal] = {}
    requests = fleet.requests()
    forced = {fact.id for fact in requests if hands.is_forced(fact)}
    for fact in sorted(requests, key=lambda fact: fact.id not in forced) if forced else requests:
        reason: Reason | None = presence.refuse(fact)
        if reason is None and fact.id not in forced:
            reason = hands.refuse(fact) or _refused(standing, fact) or _refused(as_it_is, fact)
            reason = reason or said.behind(grants, _refused(with_grants, fact))
            if reason is None and scene.rules.decides and not fact.agreed:
                reason = NodeDecides()  # it takes nobody's place: it may say no
        if reason is not None:
            refusals[fact.id] = said.refusal(reason)
            continue
        for room in with_grants:
            room.take(fact)
        grants.append(fact.id)
    return Decision(grants=tuple(grants), refusals=refusals, dry_run=tried_dry(fleet, rules, now))


def halted(fleet: Fleet, rules: Rules, now: datetime) -> Refusal | None:
    """Return what halted the rollout of the fleet's target; None if it goes on, whether anybody waits or not.

    Args:
        fleet: all nodes of the system, as they are at `now`.
        rules: the schedule of the class upgrade to the fleet's target.
        now: as `decide` takes it.
    """
    reason = Failures(_scene(fleet, rules, now)).reason
    return None if reason is None else _Said(now).refusal(reason)


def is_proven(fleet: Fleet, rules: Rules, now: datetime) -> bool:
    """Say whether the fleet's target has stood all that its schedule tries it by, and nobody holds it.

    What only says when nodes may be away, and how many, does not count: the windows and freezes, the rates and limits,
    and what nodes say themselves.

    Args:
        fleet: all nodes of the system, as they are at `now`.
        rules: the schedule of the class upgrade to the fleet's target.
        now: as `decide` takes it.
    """
    if fleet.hand.paused or fleet.target in fleet.hand.aborted:
        return False
    # Those that join are to begin by what is said here: they count in no share of what it is said by.
    served = {node: fact for node, fact in fleet.nodes.items() if fact.version > 0}
    scene = _scene(replace(fleet, nodes=served), rules, now)
    anybody = NodeFact(id=NodeId("anybody"), class_name=fleet.class_name, version=Version(0), last_seen=now)
    tried = Canaries(scene).are_through and Waves(scene).are_through
    return tried and _refused([kind(scene) for kind in PROVING], anybody) is None


def _scene(fleet: Fleet, rules: Rules, now: datetime) -> Scene:
    """Return what is decided on: the one place where rules yield to the deadline, and are meant or tried dry."""
    assert now.tzinfo is not None, f"now is {now}, which has no time zone: hand in UTC"
    rules = rules.as_if(dry=False)
    return Scene(fleet, rules.without_the_softer() if rules.is_late(fleet.begun_at or now, now) else rules, now)


def tried_dry(fleet: Fleet, rules: Rules, now: datetime) -> Refusal | None:
    """Return why the rules that are tried dry would refuse everybody, whether anybody waits or not; None if not.

    Args:
        fleet: all nodes of the system, as they are at `now`.
        rules: the schedule of the class upgrade to the fleet's target.
        now: as `decide` takes it.
    """
    tried = rules.as_if(dry=True)
    if not tried.healthy:
        return None
    reason = Health(Scene(fleet, tried, now)).reason
    return None if reason is None else _Said(now).refusal(reason)


def _refused(rooms: Sequence[Room], fact: NodeFact) -> Reason | None:
    """Return the first reason that one of the rules has."""
    for room in rooms:
        reason = room.refuse(fact)
        if reason is not None:
            return reason
    return None


class _Said:
    """What was said already in one decision: thousands of nodes may hear the same reason."""

    def __init__(self, now: datetime) -> None:
        self._now = now
        #: By identity, as a reason may name thousands of nodes; each is kept, so that no other takes its place.
        self._refusals: dict[int, tuple[Reason, Refusal]] = {}
        self._behind: dict[int, tuple[Reason, Behind]] = {}

    def refusal(self, reason: Reason) -> Refusal:
        known = self._refusals.get(id(reason))
        if known is None:
            refusal = Refusal(reason=reason, text=words(reason, self._now), until=until(reason))
            known = self._refusals[id(reason)] = reason, refusal
        return known[1]

    def behind(self, grants: Sequence[NodeId], reason: Reason | None) -> Behind | None:
        """Return the first of the grants that are in the way, if some are; `reason` is why, if they were out."""
        if reason is None:
            return None
        known = self._behind.get(id(reason))
        if known is None:
            # A budget is of a group, and only grants in that one are in the way; other rules are of all.
            in_the_way = set(reason.away) if isinstance(reason, BudgetSpent) else grants[:1]
            behind = Behind(node=next(node for node in grants if node in in_the_way))
            known = self._behind[id(reason)] = reason, behind
        return known[1]
