"""The upgrade database as a port: the facts it keeps, and the few things that are asked of it.

What the facts mean is decided elsewhere (`admission`, `publication`, `status`). A store promises only
that each of its methods happens whole or not at all, and one after the other.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Protocol, TypeAlias

from segue.model.hand import Action, Deed
from segue.model.ids import ClassName, ContentHash, NodeId, SystemName, Version
from segue.model.usage import AnsweredBy
from segue.server.history import Entry
from segue.wire.messages import Heartbeat, UsageRow


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
class Ask:
    """A node waits for a permit; times are UTC.

    Attributes:
        node: who waits.
        class_name: what it runs.
        from_version: the version it would leave.
        to_version: the version it would go to, if it may go so far.
        asked_at: when it first asked to leave that version.
        last_asked_at: when it last did.
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
    """

    system: SystemName
    at: datetime = field(compare=False)
    releases: tuple[Release, ...] = ()
    nodes: tuple[NodeRecord, ...] = ()
    permits: tuple[Permit, ...] = ()
    asks: tuple[Ask, ...] = ()
    actions: tuple[Action, ...] = ()

    @property
    def is_known(self) -> bool:
        """Say whether anything was ever published for this system, or heard from it."""
        return bool(self.releases or self.nodes)


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
    the system in view; None if something else holds it.
    """

    ask: Ask
    reason: str
    retry_after_s: float = 1.0
    decides: tuple[Version, Picture] | None = None

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


Verdict: TypeAlias = Granted | Held | NotYet

#: Reads a system and says what becomes of a request, at the moment of the picture. It is pure, and called inside the
#: transaction. What it raises undoes all.
Judge: TypeAlias = Callable[[Picture], Verdict]
#: Says what becomes of an open permit at a moment, which is the transaction's.
Close: TypeAlias = Callable[[Permit, datetime], Permit]
#: Is shown a system, what was heard of a node (None: nothing), what it says now that is new, and the newest version
#: (0: none), inside the transaction. Returns why a permit that the node holds ends with that; None if it does not.
Greet: TypeAlias = Callable[[SystemName, NodeRecord | None, NodeRecord, Version], str | None]
#: Says what becomes of an operator's order, likewise inside the transaction: what it raises undoes all.
Deeds: TypeAlias = Callable[[Picture], Action]


def welcome(
    system: SystemName,  # noqa: ARG001 - a `Greet`, as all below
    before: NodeRecord | None,  # noqa: ARG001
    heard: NodeRecord,  # noqa: ARG001
    newest: Version,  # noqa: ARG001
) -> str | None:
    """Take whatever a node says."""
    return None


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


class Store(Protocol):
    """Keeps what the upgrade server knows. Any thread may call; two calls never interleave.

    Every time that it keeps is the database's: what servers think of the time does not matter, and they may differ.
    Every method may raise `PeerError`: the database cannot answer now, and nothing was changed.
    """

    def now(self) -> datetime:
        """Return the time by the database's clock: aware, UTC."""
        ...

    def append(self, release: Release) -> tuple[Release, ...]:
        """Add `release` to its system's history if it is the next one there, and only then.

        Returns:
            The history as it now stands, oldest first. Whoever asked looks there for what became of it.
        """
        ...

    def history_of(self, system: SystemName) -> tuple[Release, ...]:
        """Return what was published for `system`, oldest first."""
        ...

    def hear(self, reports: Sequence[Report], greet: Greet = welcome) -> tuple[Heard, ...]:
        """Remember what nodes said of themselves, each in place of what it said before, in one transaction.

        A node that says by a tag that nothing changed is seen, unless the tag is not of what was last kept. Of counts
        with one key the largest is kept, and when it was first heard.

        Args:
            reports: in the order in which they came.
            greet: says whether a node may say what is new, and what becomes of its permit; its request goes with that.

        Returns:
            What became of each, in their order.

        Raises:
            Exception: whatever `greet` raises, for one of them; then all is undone.
        """
        ...

    def admit(self, system: SystemName, judge: Judge) -> Verdict:
        """Let `judge` decide over the system as it is, and keep what it decides, in one transaction.

        Args:
            system: which.
            judge: is shown the whole system, of what nodes said only what is `brief`, and decides about a node that
                was heard of.

        Raises:
            Exception: whatever `judge` raises.
        """
        ...

    def give_back(self, system: SystemName, node: NodeId, permit: str, close: Close) -> bool:
        """Close the permit of `node` with this id; one that is closed stays as it is.

        If there is no failure, the node's version is the permit's `to_version` from now on, unless it has said that
        it carries a newer one.

        Args:
            system: which.
            node: whose permit.
            permit: its id.
            close: is shown the open permit and the time, and returns it closed: `returned_at`, `failure`, `final` and
                `failed_version` are kept.

        Returns:
            False if the node has no such permit.
        """
        ...

    def picture_of(self, system: SystemName) -> Picture:
        """Return all that is known of `system`, but for calls; an empty picture if nothing is."""
        ...

    def usage_of(self, system: SystemName) -> tuple[UsageSum, ...]:
        """Return the calls that were answered in `system`, in the order of the fields."""
        ...

    def history(
        self, system: SystemName, *, after: int = 0, limit: int = 1000, node: NodeId | None = None
    ) -> tuple[Entry, ...]:
        """Return what happened in `system`, the oldest first: all of it is there, and never changes.

        Args:
            system: which.
            after: only entries with greater numbers; with the number of the last entry that is known, none is missed.
            limit: so many at most.
            node: only what is about this node.
        """
        ...

    def tend(self, keep: timedelta) -> bool:
        """Do what is to be done now and then, whoever asks for something: note which leases ended, remove what is old.

        Of several servers that call this at once, one does it.

        Args:
            keep: how long phases, tracebacks and counts of calls that do not grow are kept.

        Returns:
            False if it was done a moment ago.
        """
        ...

    def act(self, system: SystemName, judge: Deeds) -> Action:
        """Let `judge` say what an operator does to the system as it is, and keep that, in one transaction.

        A node that is forgotten is no longer of the picture until it speaks again. The permit that it holds is closed,
        and it waits for none.

        Args:
            system: which.
            judge: is shown the whole system.

        Returns:
            What `judge` returned.

        Raises:
            Exception: whatever `judge` raises.
        """
        ...

    def actions_of(self, system: SystemName) -> tuple[Action, ...]:
        """Return what operators did to `system`, oldest first."""
        ...

    def callers_of(self, system: SystemName) -> tuple[CallerSum, ...]:
        """Return who called in `system` with which version, in the order of the fields."""
        ...

    def systems(self) -> tuple[SystemName, ...]:
        """Return the systems that something was published for, by name."""
        ...
