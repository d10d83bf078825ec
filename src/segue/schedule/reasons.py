"""Why a node may not go yet: as data for programs, and in words for operators."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias, assert_never

from segue.model.ids import NodeId

#: Nodes that a reason names one by one; of the others it gives the number.
NAMED_NODES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Silent:
    """The waiting node itself has not been seen since `since`: nobody would take the permit."""

    since: datetime


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
class CanarySoaks:
    """The canary `node` must serve the new version until `until` first."""

    node: NodeId
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


Reason: TypeAlias = Silent | CanaryFailed | CanarySilent | CanaryAway | CanarySoaks | BudgetSpent | Behind


def words(reason: Reason, now: datetime) -> str:
    """Say the reason to an operator, in one line.

    Args:
        reason: why a node may not go.
        now: the day of it is left out of the times named. Times are UTC.
    """
    match reason:
        case Silent(since=since):
            return f"not seen since {_moment(since, now)}"
        case CanaryFailed(node=node):
            return f"canary {node} failed: no other node may go"
        case CanarySilent(node=node, since=since):
            return f"canary {node} has not been seen since {_moment(since, now)}"
        case CanaryAway(node=node):
            return f"canary {node} is away"
        case CanarySoaks(node=node, until=until):
            return f"canary {node} soaks until {_moment(until, now)}"
        case BudgetSpent():
            return _spent(reason)
        case Behind(node=node):
            return f"{node} asked before"
        case _:
            assert_never(reason)


def until(reason: Reason) -> datetime | None:
    """Return when the reason passes by itself; None if that is not known."""
    return reason.until if isinstance(reason, CanarySoaks) else None


def _moment(at: datetime, now: datetime) -> str:
    at, now = at.astimezone(UTC), now.astimezone(UTC)
    return f"{at:%H:%M:%S} UTC" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _spent(reason: BudgetSpent) -> str:
    count, limit = len(reason.away), reason.limit
    verb = "is" if count == 1 else "are"
    # Grants never pass the limit, but nodes that fall silent can.
    amount = f"{count} of {limit}" if count == limit else f"{count} (of at most {limit})"
    if reason.per is None:
        subject = f"{amount} {'node' if count == 1 else 'nodes'}"
    else:
        subject = f"{reason.per} {reason.group}: {amount}"
    named = [f"{node} silent" if node in reason.silent else node for node in reason.away]
    return f"{subject} {verb} away ({_listed(named)})"


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - NAMED_NODES
    return ", ".join(names[:NAMED_NODES]) + (f" and {rest} more" if rest > 0 else "")
