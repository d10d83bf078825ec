"""The nodes of a system as the upgrade server knows them at one moment, one class of them on its way to a version."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from segue.model.hand import Hand
from segue.model.ids import ClassName, NodeId, Version
from segue.model.silence import is_silent, lost_after_s, unheard

#: The group that all nodes of a system are in, beside the groups by attribute; so no attribute may have this name.
SYSTEM: Final = "system"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFact:
    """What is known of one node; all times are aware.

    Attributes:
        id: the node.
        class_name: what it runs.
        version: what it last said that it serves; 0 until it first serves.
        attributes: what its operator said of it, such as `{"zone": "a"}`.
        last_seen: when it last spoke to the upgrade server.
        away_since: when it was granted the permit that it holds; None if it holds none.
        away_from: the version that it served when it got that permit; None if it holds none, or nobody knows.
        away_to: the version that the permit leads to; None likewise: then it is taken for the one after the version
            that the node serves.
        waits_since: when it first asked for the permit that it waits for; None if it does not wait.
            It does not count while the node holds a permit or has been upgraded to the fleet's target.
        granted_at: when the last permit that led it to the fleet's target, or through it, was granted; None if none.
        upgraded_at: when it began to serve the fleet's target; None if it does not, or always did.
        failed: True if its last permit for the fleet's target came back with a failure that is final. With
            `upgraded_at`: it serves the target all the same, since it had answered calls before it failed.
        failed_at: when it did; None if it did not, or nobody knows.
        tries_again: True if its last permit for the fleet's target came back with a failure that is not final.
        report_s: seconds between its reports, as it said; 0 if nobody knows.
        facts: `{name: last value}` of what it reports of itself.
        holds: what code of the target says, on the node, against its going now; None if it says nothing.
        agreed: whether the target's own function, which saw the fleet, has just let the node go.
    """

    id: NodeId
    class_name: ClassName
    version: Version
    attributes: Mapping[str, str] = field(default_factory=dict)
    last_seen: datetime
    away_since: datetime | None = None
    waits_since: datetime | None = None
    granted_at: datetime | None = None
    upgraded_at: datetime | None = None
    failed: bool = False
    away_from: Version | None = None
    away_to: Version | None = None
    failed_at: datetime | None = None
    facts: Mapping[str, float] = field(default_factory=dict)
    holds: str | None = None
    agreed: bool = False
    tries_again: bool = False
    report_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("last_seen", "away_since", "waits_since", "granted_at", "upgraded_at", "failed_at"):
            moment = getattr(self, name)
            # A database without time zones hands back naive times; comparing them would fail far from here.
            assert moment is None or moment.tzinfo is not None, (
                f"node {self.id}: {name} {moment} has no time zone: hand in UTC"
            )

    def is_away_to(self, target: Version) -> bool:
        """Say whether the node holds a permit that leads to `target`, or through it."""
        if self.away_since is None or (self.away_from is not None and self.away_from >= target):
            return False
        return (self.away_to or self.version + 1) >= target

    def is_silent(self, now: datetime, stale_s: float) -> bool:
        """Say whether the node has missed its reports, and for `stale_s` seconds at least: see `model.silence`."""
        return is_silent(self.last_seen, now, self.report_s, stale_s)

    def is_lost(self, now: datetime, lease_s: float, listens_since: datetime | None) -> bool:
        """Say whether the node was silent for so long that it is taken to be lost: see `model.silence`.

        Args:
            now: aware.
            lease_s: it is not lost before so many seconds.
            listens_since: since when somebody was there to hear it without a gap; None if that was always so.
        """
        limit = timedelta(seconds=lost_after_s(self.report_s, lease_s))
        return unheard(self.last_seen, now, listens_since) >= limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a webhook says to a release.

    Attributes:
        says: yes or no; None if it is not known.
        since: since when that is so: aware.
        text: the webhook's own words, or why its answer is not known; may be empty.
    """

    says: bool | None
    since: datetime
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """All nodes of one system, and where one class of them goes.

    Attributes:
        class_name: the class that goes there; nodes of other classes count only in budgets, and where one class
            waits for another.
        target: the version that the waiting nodes ask to be upgraded to.
        nodes: `{node's id: what is known of it}`, in any order.
        begun_at: when the rollout of the target began: the release was published. None if nobody knows.
        hand: what operators did.
        answers: `{URL: what it says to the target}` of the webhooks that were asked.
        grants: when permits for the target were granted to nodes of the class, oldest first.
        before: the newest release before the target that a rollout of the target waits for, if it is to wait for the
            rollouts before it; None if there is none.
        listens_since: since when the upgrade server hears nodes without a gap; None if it always did.
        lost_at: `{node: when}` of nodes whose silence halted the rollout: it counts though they are back since.
    """

    class_name: ClassName
    target: Version
    nodes: Mapping[NodeId, NodeFact]
    begun_at: datetime | None = None
    hand: Hand = field(default_factory=Hand)
    answers: Mapping[str, Answer] = field(default_factory=dict)
    grants: tuple[datetime, ...] = ()
    before: Version | None = None
    listens_since: datetime | None = None
    lost_at: Mapping[NodeId, datetime] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for node, fact in self.nodes.items():
            assert node == fact.id, f"the fact of node {fact.id} is kept under {node}"

    @classmethod
    def of(cls, class_name: ClassName, target: Version, facts: Iterable[NodeFact], **more: Any) -> "Fleet":
        """Make a fleet whose class goes to `target` from the facts of all nodes of the system, in any order.

        Args:
            class_name: the class.
            target: where it goes.
            facts: one of each node.
            more: further attributes, by name.
        """
        return cls(class_name=class_name, target=target, nodes={fact.id: fact for fact in facts}, **more)

    def of_the_class(self) -> tuple[NodeFact, ...]:
        """Return the nodes of the class that goes to the target, by id."""
        return tuple(fact for _, fact in sorted(self.nodes.items()) if fact.class_name == self.class_name)

    def is_upgraded(self, fact: NodeFact) -> bool:
        """Say whether the node serves the target, or more than it.

        Between hand-over and the return of its permit a node says that it serves the target, but may
        yet be the one that shows that the target is wrong: it is upgraded when the permit is back.
        """
        return fact.upgraded_at is not None or (fact.version >= self.target and fact.away_since is None)

    def has_failed(self, fact: NodeFact) -> bool:
        """Say whether the target failed on the node for good, and nobody has ordered it to try again since."""
        retried = self.hand.retried.get((self.target, fact.id))
        return fact.failed and not (retried and fact.failed_at and fact.failed_at <= retried.at)

    def is_retried(self, fact: NodeFact) -> bool:
        """Say whether an operator has ordered the node to try the target again, and it has not been heard of since."""
        retried = self.hand.retried.get((self.target, fact.id))
        return retried is not None and fact.last_seen <= retried.at

    def is_skipped(self, fact: NodeFact) -> bool:
        """Say whether an operator left the node out of the rollout of the target."""
        return (self.target, fact.id) in self.hand.skipped

    def requests(self) -> tuple[NodeFact, ...]:
        """Return the nodes of the class that wait for a permit, the oldest request first, ties by node id."""
        waiting = (
            (fact.waits_since, fact.id, fact)
            for fact in self.of_the_class()
            if fact.waits_since is not None and fact.away_since is None and not self.is_upgraded(fact)
        )
        return tuple(fact for _, _, fact in sorted(waiting, key=lambda row: row[:2]))
