"""Why a node may not go yet, as data for programs; `words` says the same to operators."""

from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from segue.model.ids import ClassName, NodeId, Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent:
    """The waiting node itself has not been seen since `since`: nobody would take the permit."""

    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Aborted:
    """The operator `who` ended the rollout at `since`, perhaps saying why."""

    who: str
    why: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """The operator `who` left the node out of the rollout, perhaps saying why."""

    who: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused:
    """The operator `who` holds the whole system since `since`, perhaps saying why."""

    who: str
    why: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Halted:
    """The failure budget is spent: nobody goes until an operator resumes.

    Attributes:
        limit: how many failures spend it.
        failed: the nodes on which the release failed, by id.
        silent: the nodes that are lost with the release, by id.
        back: the nodes that were when the rollout halted, and are heard of again, by id.
    """

    limit: int
    failed: tuple[NodeId, ...]
    silent: tuple[NodeId, ...]
    back: tuple[NodeId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """The rollout of `release`, which is older, has not come to an end: `nodes` have not got there, by id."""

    release: Version
    nodes: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassBehind:
    """The class `class_name` goes first, and `nodes` of it have not been upgraded, by id."""

    class_name: ClassName
    nodes: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateClosed:
    """No operator has approved `gate`."""

    gate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookSaysNo:
    """The webhook at `url` says no since `since`, with `text`, which may be empty."""

    url: str
    text: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookUnknown:
    """Nobody knows what the webhook at `url` says; `text` says why, and is empty if it was not asked yet."""

    url: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unhealthy:
    """An upgraded node is out of bounds.

    Attributes:
        node: which.
        fact: what it reports.
        value: how much.
        bound: how much it may be, at most or at least.
        is_most: whether `bound` is the most that it may be; else it is the least.
        median: what `bound` was made from: the median of the nodes not upgraded; None if the author gave it.
    """

    node: NodeId
    fact: str
    value: float
    bound: float
    is_most: bool
    median: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FactMissing:
    """The upgraded node `node` does not report `fact`, so nobody knows whether it is within bounds."""

    node: NodeId
    fact: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowClosed:
    """No window is open; the next opens at `until`, None if none is found."""

    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """A freeze holds everybody; the first moment after it that is in a window is `until`, None if none is found."""

    until: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeHolds:
    """The release's own code says on the node, in `text`, that now is not the time."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeDecides:
    """No rule holds the node, and the release's own function has to agree, on the node, with the fleet in view."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MomentAhead:
    """The node's moment in the interval over which nodes are spread is `until`."""

    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryFailed:
    """The attempt of the canary `node` failed: a wrong release is stopped on few nodes."""

    node: NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class CanarySilent:
    """The canary `node` has not been seen since `since`, and had not soaked by then."""

    node: NodeId
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryAway:
    """The canary `node` is going through its upgrade."""

    node: NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryRetries:
    """An attempt of the canary `node` failed, and it makes another: it keeps its place."""

    node: NodeId


@dataclass(frozen=True, slots=True, kw_only=True)
class CanaryFirst:
    """The canary `node`, which the author named, has not gone yet; `is_known` is whether it was ever heard of."""

    node: NodeId
    is_known: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CanarySoaks:
    """The canary `node` must serve the new version until `until` first."""

    node: NodeId
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WaveFull:
    """As many nodes have gone as belong to the wave, and it is not over.

    Attributes:
        wave: its number, from 1.
        waves: how many there are.
        size: how many nodes belong to it, with those of the waves before it.
        failed: those of the nodes that have gone on which the release failed, by id.
        away: those that are away, by id.
        silent: those that fell silent before they had soaked, by id.
        until: when it is over by itself; None if nodes of it failed, are away or silent.
    """

    wave: int
    waves: int
    size: int
    failed: tuple[NodeId, ...] = ()
    away: tuple[NodeId, ...] = ()
    silent: tuple[NodeId, ...] = ()
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSpent:
    """`nodes` have gone within `per_s` seconds; at `until` there is room for the next."""

    nodes: int
    per_s: float
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSpent:
    """As many nodes are away as may be, or more.

    Attributes:
        limit: how many may be.
        per: the attribute that makes the groups; None if all nodes of the system are one group.
        group: the group's value of that attribute; None if `per` is.
        away: who is, by id; each holds a permit or is silent.
        silent: those of them that are silent, by id.
    """

    limit: int
    per: str | None
    group: str | None
    away: tuple[NodeId, ...]
    silent: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Behind:
    """Nothing holds the node but that `node`, which may go, asked before and takes its place."""

    node: NodeId


Reason: TypeAlias = (
    Silent
    | Aborted
    | Skipped
    | Paused
    | Halted
    | Queued
    | ClassBehind
    | GateClosed
    | WebhookSaysNo
    | WebhookUnknown
    | Unhealthy
    | FactMissing
    | WindowClosed
    | Frozen
    | NodeHolds
    | NodeDecides
    | MomentAhead
    | CanaryFailed
    | CanarySilent
    | CanaryAway
    | CanaryRetries
    | CanaryFirst
    | CanarySoaks
    | WaveFull
    | RateSpent
    | BudgetSpent
    | Behind
)


def until(reason: Reason) -> datetime | None:
    """Return when the reason passes by itself; None if that is not known."""
    match reason:
        case (
            CanarySoaks(until=at)
            | MomentAhead(until=at)
            | RateSpent(until=at)
            | WindowClosed(until=at)
            | Frozen(until=at)
            | WaveFull(until=at)
        ):
            return at
        case _:
            return None
