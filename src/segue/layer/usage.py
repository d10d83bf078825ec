"""Counts of the calls that this process answered, by who called, and what of them is still to be reported."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote

from segue.model.ids import Version
from segue.model.usage import OTHERS, AnsweredBy, CallCounts, CallKey

#: Callers that a process counts by name; those that come later count as `OTHERS`. Each may have a row for each
#: method and outcome: larger, and one client that makes up names fills the upgrade database.
CALLERS_LIMIT = 1000
#: A host has a new port with each connection: beyond so many, ports are forgotten, which loses no count.
_PEERS_LIMIT = 4096

#: What all calls of a tally share: (node's version, caller's version, method, answered by, from a node).
_Kind: TypeAlias = tuple[Version, Version, str, AnsweredBy, bool]


class Tally(dict[str, Counter[str]]):
    """Live counts of one kind of call, to be added to: `tally[who][outcome] += 1`.

    `who` is a caller's name or what gRPC says of its peer, such as `ipv4:10.0.0.7:53412`; peers of one
    host are counted together. What is looked up is remembered, so that counting costs a call one look.

    Args:
        identify: says which caller a name or a peer is.
    """

    def __init__(self, identify: Callable[[str], str]) -> None:
        super().__init__()
        self._identify = identify
        #: {caller: {outcome: calls}}
        self.callers: dict[str, Counter[str]] = {}

    def __missing__(self, who: str) -> Counter[str]:
        """Find the caller's counts."""
        if len(self) >= _PEERS_LIMIT:
            self.clear()
        found = self[who] = self.callers.setdefault(self._identify(who), Counter())
        return found


class Usage:
    """How often each kind of call was answered since the process began; counts only grow.

    Args:
        callers_limit: how many callers are counted by name.
    """

    def __init__(self, callers_limit: int = CALLERS_LIMIT) -> None:
        self._callers_limit = callers_limit
        self._tallies: dict[_Kind, Tally] = {}
        self._callers: set[str] = set()

    def tally(
        self, caller_version: Version, method: str, answered_by: AnsweredBy, from_node: bool, node_version: Version
    ) -> Tally:
        """Return the live counts of one kind of call.

        Args:
            caller_version: the version that the caller speaks.
            method: the method's path, `/package.Service/Method`.
            answered_by: the kind of object that answers.
            from_node: True for callers that are nodes.
            node_version: the version that the node runs.
        """
        kind = (node_version, caller_version, method, answered_by, from_node)
        return self._tallies.setdefault(kind, Tally(self._identify))

    def counts(self) -> CallCounts:
        """Return the counts as they are now; they do not change afterwards."""
        return {_key(kind, caller, outcome): count for kind, caller, outcome, count in self.each()}

    def each(self) -> Iterator[tuple[_Kind, str, str, int]]:
        """Yield each kind of call with its caller, its outcome and its count."""
        for kind, tally in self._tallies.items():
            for caller, outcomes in tally.callers.items():
                for outcome, count in outcomes.items():
                    yield kind, caller, outcome, count

    def _identify(self, who: str) -> str:
        caller = host_of(who)
        if caller not in self._callers:
            if len(self._callers) >= self._callers_limit:
                return OTHERS
            self._callers.add(caller)
        return caller

    def __repr__(self) -> str:
        return f"Usage({sum(count for *_, count in self.each())} calls of {len(self._callers)} callers)"


def host_of(who: str) -> str:
    """Return the host of a peer as gRPC writes it; a name, which has no colon, is returned as it is.

    `ipv4:10.0.0.7:53412` is `10.0.0.7`, `ipv6:%5B::1%5D:53412` is `::1`, whatever came over a Unix socket `unix`.
    """
    kind, colon, address = who.partition(":")
    if not colon or kind not in ("ipv4", "ipv6"):
        return kind
    return unquote(address).rpartition(":")[0].strip("[]")


@dataclass(frozen=True, slots=True)
class Batch:
    """Some of what is still to be reported.

    Attributes:
        number: what to acknowledge it by.
        counts: of each kind of call the count so far.
        more: whether some had no room.
    """

    number: int
    counts: CallCounts
    more: bool


class Unreported:
    """What of a process's counts its reader has not acknowledged: the counts that have grown since.

    A row says the count so far, not what was added: whoever gets a row twice, or an older one after a
    newer one, keeps the larger count and is right.

    Args:
        usage: the counts.

    Source: docs/decisions/0015.
    """

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self._number = 0
        self._acknowledged = 0
        self._offered: dict[tuple[_Kind, str, str], int] = {}
        self._known: dict[tuple[_Kind, str, str], int] = {}

    def take(self, acknowledged: int, limit: int) -> Batch:
        """Return what the reader does not have.

        Args:
            acknowledged: the number of the last batch that has arrived for good, 0 for a reader that knows of none.
                If it is not the one offered last, nor the one acknowledged last, all is offered again.
            limit: rows at most.
        """
        if self._number and acknowledged == self._number:
            self._known.update(self._offered)
        elif acknowledged != self._acknowledged:
            self._known.clear()
        self._acknowledged = acknowledged
        grown = self._grown()
        self._number += 1
        self._offered = dict(list(grown.items())[:limit])
        return Batch(self._number, {_key(*row): count for row, count in self._offered.items()}, more=len(grown) > limit)

    def rest(self) -> CallCounts:
        """Return all that was not acknowledged, offered or not."""
        return {_key(*row): count for row, count in self._grown().items()}

    def _grown(self) -> dict[tuple[_Kind, str, str], int]:
        return {
            (kind, caller, outcome): count
            for kind, caller, outcome, count in self._usage.each()
            if self._known.get((kind, caller, outcome)) != count
        }

    def __repr__(self) -> str:
        return f"Unreported({len(self._grown())} rows, batch {self._number} was offered, {self._acknowledged} arrived)"


def _key(kind: _Kind, caller: str, outcome: str) -> CallKey:
    node_version, caller_version, method, answered_by, from_node = kind
    return CallKey(
        node_version=node_version,
        caller_version=caller_version,
        caller=caller,
        method=method,
        answered_by=answered_by,
        from_node=from_node,
        outcome=outcome,
    )
