"""The facts that the upgrade database keeps, as decisions see them. What they mean is decided elsewhere."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeAlias

from segue.model.hand import Action, Deed
from segue.model.ids import ClassName, ContentHash, NodeId, SystemName, Version
from segue.model.silence import STALE_S, is_silent, silent_after_s
from segue.model.usage import AnsweredBy
from segue.wire.messages import Heartbeat, UsageRow

#: Seconds after which a request is forgotten that was to be repeated at once; one that was to be repeated later is good
#: for as much longer. One that was given up would else stand first in the queue for ever, and hold all behind it.
LAPSE_S = STALE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A release as it was published.

    Attributes:
        system: whose history it belongs to, as its manifest says.
        version: its place in that history.
        sha256: of the bundle's bytes.
        size_bytes: of the bundle.
        description: the author's words.
        published_at: UTC.
        manifest: the manifest as JSON, so that what it says of schedules is known without the bundle.
    """

    system: SystemName
    version: Version
    sha256: ContentHash
    size_bytes: int
    description: str
    published_at: datetime
    manifest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRecord:
    """A node as it was last heard of.

    Attributes:
        id: unique in its system.
        version: what it runs: as it said, or later as the permit that it returned says.
        said: its last heartbeat, without the usage.
        last_seen: when the heartbeat came (UTC).
    """

    id: NodeId
    version: Version
    said: Heartbeat
    last_seen: datetime

    @property
    def report_s(self) -> float:
        """Return the seconds between its reports, as it said; 0 if its agent is too old to say."""
        return self.said.agent.report_s if self.said.agent else 0.0

    @property
    def silent_after_s(self) -> float:
        """Return the seconds without a word after which it is silent."""
        return silent_after_s(self.report_s)

    def is_silent(self, now: datetime) -> bool:
        """Say whether it has missed its reports: see `model.silence`."""
        return is_silent(self.last_seen, now, self.report_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """The leave for one node to go away for one upgrade, through one release or several; times are UTC.

    Attributes:
        id: unique in the database.
        node: who holds it, or held it.
        class_name: what the node runs.
        from_version: what the node ran when it asked.
        to_version: where the upgrade leads.
        granted_at: since when the node may be away.
        returned_at: when it was back; None while it may be away.
        failure: why the node is not upgraded; None while away, or if it is.
        final: True if the node will not try this release again after its failure.
        failed_version: the release that the node failed by; None if it did not, or could not tell.
        lapsed_at: when the lease ended, as the node was silent for so long; None if it is kept alive.
    """

    id: str
    node: NodeId
    class_name: ClassName
    from_version: Version
    to_version: Version
    granted_at: datetime
    returned_at: datetime | None = None
    failure: str | None = None
    final: bool = False
    failed_version: Version | None = None
    lapsed_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Halt:
    """A rollout that its failure budget has halted; it stands until that is over.

    Attributes:
        class_name: the class that it is of.
        version: the release.
        at: when it halted (UTC).
        limit: how many failures halt it.
        failed: the nodes on which the release had failed, by id.
        silent: the nodes that were lost with it, by id. They count until an operator has looked, though they are back.
    """

    class_name: ClassName
    version: Version
    at: datetime
    limit: int
    failed: tuple[NodeId, ...]
    silent: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HaltChanges:
    """What changed of halts: those that begin, and those that are over, with the reason of that."""

    begun: tuple[Halt, ...] = ()
    over: tuple[tuple[Halt, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """A node waits for a permit; times are UTC.

    Attributes:
        node: who waits.
        class_name: what it runs.
        from_version: the version it would leave.
        to_version: the version it would go to, if it may go so far.
        asked_at: when it first asked to leave that version.
        last_asked_at: when it last did.
        good_for_s: for how many seconds from then it counts: longer than until it is to be repeated.
        avoided: versions that it does not stop at; known only while it asks.
        holds: `{version: what its release says, on the node, against going there now}`; None but while it asks, and
            from a node that does not say.
        agreed: versions to which its release's own function has just let it go; known only while it asks.
    """

    node: NodeId
    class_name: ClassName
    from_version: Version
    to_version: Version
    asked_at: datetime
    last_asked_at: datetime
    good_for_s: float = LAPSE_S
    avoided: tuple[Version, ...] = ()
    holds: Mapping[int, str] | None = None
    agreed: tuple[Version, ...] = ()

    def after(self, before: "Ask | None") -> "Ask":
        """Return this ask with the time of the first one, if `before` asked to leave the same version.

        Another release that was published since, and can be reached too, does not cost a node its place.
        """
        if before and before.from_version == self.from_version:
            return replace(self, asked_at=before.asked_at)
        return self

    def counts_at(self, now: datetime) -> bool:
        """Say whether the node still waits: it has repeated its request in time, or has time left to."""
        return abs((now - self.last_asked_at).total_seconds()) < self.good_for_s  # a clock that was put back is none


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSum:
    """Calls that one node answered, summed over its processes.

    Attributes:
        node: who answered.
        node_version: what it ran.
        caller_version: what the caller spoke.
        caller: the caller's own name, the node's id or the host that the calls came from.
        method: the method's path.
        answered_by: the kind of object that answered.
        from_node: whether the caller was a node.
        outcome: the name of the gRPC status that the caller got.
        count: how many.
        last_at: when the node reported the last of them (UTC).
    """

    node: NodeId
    node_version: Version
    caller_version: Version
    caller: str
    method: str
    answered_by: AnsweredBy
    from_node: bool
    outcome: str
    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerSum:
    """Calls of one caller in one version, summed over all that answered.

    Attributes:
        caller_version: what the caller spoke.
        caller: the caller's own name, the node's id or the host that the calls came from.
        from_node: whether the caller was a node.
        count: how many.
        last_at: when the last of them was reported (UTC).
    """

    caller_version: Version
    caller: str
    from_node: bool
    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a node says of itself in one heartbeat.

    Attributes:
        system: where the node belongs.
        node: who speaks.
        said: all that it says, without the usage; None if it is what it said before.
        tag: what the last answer called that; None if the node says all.
        usage: counts of this node's calls that grew.
    """

    system: SystemName
    node: NodeId
    said: Heartbeat | None = None
    tag: str | None = None
    usage: tuple[UsageRow, ...] = ()

    def __post_init__(self) -> None:
        assert (self.said is None) != (self.tag is None), f"node {self.node} says all, or by a tag that nothing changed"
        assert self.said is None or not self.said.usage, f"the usage of node {self.node} is told beside what it says"

    @classmethod
    def of(cls, system: SystemName, node: NodeId, said: Heartbeat) -> "Report":
        """Take apart a heartbeat that says all."""
        return cls(system=system, node=node, said=said.model_copy(update={"usage": ()}), usage=said.usage)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What became of a report.

    Attributes:
        newest: the newest version of the system, 0 if none.
        tag: what the database calls that which the node said; None if it must say all: a `tag` was not known.
    """

    newest: Version
    tag: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A system as the database knows it at one moment; two are equal if they show the same at different moments.

    Attributes:
        system: which.
        at: the moment, by the database's clock (UTC). Within a transaction that decides, it tells the order of these.
        releases: its history, oldest first.
        nodes: by id.
        permits: oldest first.
        asks: of the nodes that wait, oldest first; one per node.
        actions: what operators did, oldest first.
        halts: the rollouts that have halted by themselves, and have not gone on, by class and version.
        listens_since: since when nodes were heard without a gap; None if nobody ever looked after the database.
    """

    system: SystemName
    at: datetime = field(compare=False)
    releases: tuple[Release, ...] = ()
    nodes: tuple[NodeRecord, ...] = ()
    permits: tuple[Permit, ...] = ()
    asks: tuple[Ask, ...] = ()
    actions: tuple[Action, ...] = ()
    halts: tuple[Halt, ...] = ()
    listens_since: datetime | None = field(default=None, compare=False)

    @property
    def is_known(self) -> bool:
        """Say whether anything was ever published for this system, or heard from it."""
        return bool(self.releases or self.nodes)


#: Of each upgrade that a node tells of, its pause and its transform, in milliseconds.
Times: TypeAlias = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallKind:
    """What calls are told apart by where only their numbers count.

    Attributes:
        caller_version: what the callers spoke.
        from_node: whether the callers were nodes.
        answered_by: the kind of object that answered.
        outcome: the name of the gRPC status that the callers got.
    """

    caller_version: Version
    from_node: bool
    answered_by: AnsweredBy
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """A system in numbers, as far as they are not in the picture that decisions see.

    Attributes:
        picture: that picture: of what nodes said only what is `brief`, without permits that are long closed.
        granted: `{class: permits that nodes of it ever got}`
        returned: `{(class, whether the node was upgraded): permits that came back}`
        calls: `{kind: calls that nodes answered}`
        upgrades: `{node: times of its upgrades}`, of nodes that tell of any.
    """

    picture: Picture
    granted: Mapping[ClassName, int]
    returned: Mapping[tuple[ClassName, bool], int]
    calls: Mapping[CallKind, int]
    upgrades: Mapping[NodeId, Times]


@dataclass(frozen=True, slots=True)
class Granted:
    """The node may go away; the store keeps the permit and forgets that the node asked."""

    permit: Permit


@dataclass(frozen=True, slots=True)
class Held:
    """The node holds this permit already; the store keeps where it leads to now, and nothing else changes."""

    permit: Permit


@dataclass(frozen=True, slots=True)
class NotYet:
    """The node must wait; the store remembers that it asks, and since when: `ask.after(earlier one)`.

    It is to ask again in `retry_after_s` seconds. `decides` is the release whose own function it is to ask before, with
    the system in view; None if something else holds it. `halt` is what holds it if a failure budget does; the store
    keeps that if it does not stand yet.
    """

    ask: Ask
    reason: str
    retry_after_s: float = 1.0
    decides: tuple[Version, Picture] | None = None
    halt: Halt | None = None

    @property
    def kept(self) -> Ask:
        """Return of the request what is kept: not what holds only for the moment."""
        return replace(self.ask, avoided=(), holds=None, agreed=())


#: What of a heartbeat is for people: decisions do without it, and it is the larger part.
BULKY = ("failure_details", "upgrades", "progress")


def brief(said: Heartbeat) -> Heartbeat:
    """Return what decisions need of what a node said: of its upgrades only those that failed in their probation."""
    failed = tuple(row for row in said.upgrades if row.probation_failed)
    return said.model_copy(update={"failure_details": "", "upgrades": failed, "progress": None})


def everywhere(nodes: Iterable[NodeRecord]) -> Version:
    """Return the version that every node has got to that ever served: no decision needs closed permits up to there."""
    return min((node.version for node in nodes if node.version), default=Version(0))


Verdict: TypeAlias = Granted | Held | NotYet


def ended(permit: Permit, why: str, at: datetime) -> Permit:
    """Return a permit as it is kept when its node is not there any more to return it."""
    return replace(permit, returned_at=at, failure=why)


def is_present(node: NodeRecord, forgotten_at: Mapping[NodeId, datetime]) -> bool:
    """Say whether a node is of its system: an operator has not forgotten it, or it has spoken since."""
    return node.id not in forgotten_at or node.last_seen > forgotten_at[node.id]


def present(nodes: Iterable[NodeRecord], actions: Iterable[Action]) -> tuple[NodeRecord, ...]:
    """Leave out the nodes that an operator had forgotten and that have not spoken since; of `actions`, all count."""
    forgotten_at = {action.node: action.at for action in actions if action.deed is Deed.FORGET and action.node}
    return tuple(node for node in nodes if is_present(node, forgotten_at))


def forgotten(held: Permit, action: Action) -> Permit:
    """Return the permit of a node that is forgotten as it is kept: the node may come back, and try again."""
    return replace(held, returned_at=action.at, failure=f"the node was forgotten by {action.who}")
