"""The upgrade database as a port: the few things that are asked of it.

What the facts mean is decided elsewhere (`admission`, `publication`, `status`). A store promises only
that each of its methods happens whole or not at all, and one after the other.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeAlias

from segue.model.hand import Action
from segue.model.history import Kind
from segue.model.ids import NodeId, SystemName, Version
from segue.server.facts import (
    CallerSum,
    HaltChanges,
    Heard,
    NodeRecord,
    Permit,
    Picture,
    Release,
    Report,
    Tally,
    UsageSum,
    Verdict,
)
from segue.server.history import Entry

#: Reads a system and says what becomes of requests, one after the other, at the moment of the picture; an error of one
#: is that one's alone. It is pure, and called inside the transaction. What it raises undoes all.
Judge: TypeAlias = Callable[[Picture], Sequence[Verdict | Exception]]
#: Says what becomes of an open permit at a moment, which is the transaction's.
Close: TypeAlias = Callable[[Permit, datetime], Permit]
#: Is shown a system, what was heard of a node (None: nothing), what it says now that is new, and the newest version
#: (0: none), inside the transaction. Returns why a permit that the node holds ends with that; None if it does not.
Greet: TypeAlias = Callable[[SystemName, NodeRecord | None, NodeRecord, Version], str | None]
#: Says what becomes of an operator's order, likewise inside the transaction: what it raises undoes all.
Deeds: TypeAlias = Callable[[Picture], Action]
#: Says, of a system as it is after what was done, which halts of its rollouts begin and which are over, likewise.
Watch: TypeAlias = Callable[[Picture], HaltChanges]


def see_nothing(picture: Picture) -> HaltChanges:  # noqa: ARG001 - a `Watch`
    """Have all halts stay as they are."""
    return HaltChanges()


def is_watched(picture: Picture) -> bool:
    """Say whether a system is looked after: a permit is open, a halt stands, or a node is not at the newest release."""
    return (
        bool(picture.halts)
        or any(permit.returned_at is None for permit in picture.permits)
        or any(node.version < len(picture.releases) for node in picture.nodes)
    )


@dataclass(frozen=True, slots=True)
class Back:
    """`node` gives back the permit with the id `permit`.

    `close` is shown the open permit and the time, and returns it closed: `returned_at`, `failure`, `final` and
    `failed_version` are kept.
    """

    node: NodeId
    permit: str
    close: Close


def welcome(
    system: SystemName,  # noqa: ARG001 - a `Greet`, as all below
    before: NodeRecord | None,  # noqa: ARG001
    heard: NodeRecord,  # noqa: ARG001
    newest: Version,  # noqa: ARG001
) -> str | None:
    """Take whatever a node says."""
    return None


class Store(Protocol):
    """Keeps what the upgrade server knows. Any thread may call; two calls never interleave.

    Every time that it keeps is the database's: what servers think of the time does not matter, and they may differ.
    Every method may raise `PeerError`: the database cannot answer now, and nothing was changed.
    """

    def now(self) -> datetime:
        """Return the time by the database's clock: aware, UTC."""
        ...

    def append(self, release: Release, watch: Watch = see_nothing) -> tuple[Release, ...]:
        """Add `release` to its system's history if it is the next one there, and only then.

        Args:
            release: what is published.
            watch: says what becomes of halts by that, in the same transaction.

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

    def admit(self, system: SystemName, judge: Judge) -> Sequence[Verdict | Exception]:
        """Let `judge` decide over the system as it is, and keep what it decides, in one transaction.

        Args:
            system: which.
            judge: is shown the whole system, of what nodes said only what is `brief`, and decides about nodes that
                were heard of.

        Returns:
            What `judge` returned.

        Raises:
            Exception: whatever `judge` raises.
        """
        ...

    def give_back(self, system: SystemName, returns: Sequence[Back], watch: Watch = see_nothing) -> tuple[bool, ...]:
        """Close permits, in one transaction; one that is closed stays as it is.

        If there is no failure, the node's version is the permit's `to_version` from now on, unless it has said that
        it carries a newer one.

        Args:
            system: the nodes'.
            returns: in the order in which they came.
            watch: says what becomes of halts if one of them failed for good, in the same transaction.

        Returns:
            Of each, in their order, False if the node has no such permit.
        """
        ...

    def picture_of(self, system: SystemName) -> Picture:
        """Return all that is known of `system`, but for calls; an empty picture if nothing is."""
        ...

    def glance_at(self, system: SystemName, node: NodeId | None = None) -> Picture:
        """Return `system` as decisions see it: of what nodes said only what is `brief`.

        Permits are left out that are closed and lead no further than where every node is.

        Args:
            system: which.
            node: of this one all that it said is there, too, and all its permits.
        """
        ...

    def tally_of(self, system: SystemName) -> Tally:
        """Return `system` in numbers."""
        ...

    def usage_of(self, system: SystemName, node: NodeId | None = None) -> tuple[UsageSum, ...]:
        """Return the calls that were answered in `system`, or by one node of it, in the order of the fields."""
        ...

    def history(
        self,
        system: SystemName,
        *,
        after: int = 0,
        limit: int = 1000,
        node: NodeId | None = None,
        kinds: Collection[Kind] = (),
        before: int | None = None,
    ) -> tuple[Entry, ...]:
        """Return what happened in `system`, the oldest first: all of it is there, and never changes.

        Args:
            system: which.
            after: only entries with greater numbers; with the number of the last entry that is known, none is missed.
            limit: so many at most.
            node: only what is about this node.
            kinds: only these; none for all.
            before: the last ones with smaller numbers than this, and not the first ones; see `END`.
        """
        ...

    def last_number(self, system: SystemName) -> int:
        """Return the number of the last entry in the history of `system`, 0 if there is none; it only grows."""
        ...

    def tend(self, keep: timedelta, watch: Watch = see_nothing) -> bool:
        """Do what is to be done now and then, whoever asks for something: note which leases ended, remove what is old.

        Of several servers that call this at once, one does it. It is called every few seconds for as long as a server
        runs: time in which nobody did is not counted as silence of nodes. What is old is looked for
        once an hour.

        Args:
            keep: how long phases, tracebacks and counts of calls that do not grow are kept.
            watch: says what becomes of halts, of each system that is not wholly on its newest release, or has a halt.

        Returns:
            False if it was done a moment ago.
        """
        ...

    def act(self, system: SystemName, judge: Deeds, watch: Watch = see_nothing) -> Action:
        """Let `judge` say what an operator does to the system as it is, and keep that, in one transaction.

        A node that is forgotten is no longer of the picture until it speaks again. The permit that it holds is closed,
        and it waits for none.

        Args:
            system: which.
            judge: is shown the whole system.
            watch: says what becomes of halts by that, in the same transaction.

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
