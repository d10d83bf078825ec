"""What a reason is in words: one line for the operator, who has never read the schedule."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import assert_never

from segue.schedule.reasons import (
    Aborted,
    Behind,
    BudgetSpent,
    CanaryAway,
    CanaryFailed,
    CanaryFirst,
    CanaryRetries,
    CanarySilent,
    CanarySoaks,
    ClassBehind,
    FactMissing,
    Frozen,
    GateClosed,
    Halted,
    MomentAhead,
    NodeDecides,
    NodeHolds,
    Paused,
    Queued,
    RateSpent,
    Reason,
    Silent,
    Skipped,
    Unhealthy,
    WaveFull,
    WebhookSaysNo,
    WebhookUnknown,
    WindowClosed,
)

#: Nodes that a reason names one by one; of the others it gives the number.
NAMED_NODES = 6

_SPANS = {1.0: "second", 60.0: "minute", 3600.0: "hour", 86400.0: "day"}


def words(reason: Reason, now: datetime) -> str:
    """Say the reason to an operator, in one line.

    Args:
        reason: why a node may not go.
        now: the day of it is left out of the times named. Times are UTC.
    """
    match reason:
        case Silent(since=since):
            return f"not seen since {_moment(since, now)}"
        case Aborted() | Skipped() | Paused() | GateClosed() | WebhookSaysNo() | WebhookUnknown() | NodeHolds():
            return _somebodys_word(reason, now)
        case Halted() | Unhealthy() | FactMissing():
            return _trouble(reason)
        case Queued() | ClassBehind() | WindowClosed() | Frozen() | MomentAhead():
            return _order_and_time(reason, now)
        case CanaryFailed() | CanarySilent() | CanaryAway() | CanaryRetries() | CanaryFirst() | CanarySoaks():
            return _canary(reason, now)
        case WaveFull():
            return _wave(reason, now)
        case RateSpent(nodes=nodes, per_s=per_s, until=until):
            return f"{_count(nodes, 'node')} went within the last {_span(per_s)}: the next at {_moment(until, now)}"
        case BudgetSpent():
            return _spent(reason)
        case Behind(node=node):
            return f"{node} asked before"
        case NodeDecides():
            return "its release's own function decides when it next asks"
        case _:
            assert_never(reason)


def _somebodys_word(
    reason: Aborted | Skipped | Paused | GateClosed | WebhookSaysNo | WebhookUnknown | NodeHolds, now: datetime
) -> str:
    match reason:
        case Aborted(who=who, why=why, since=since):
            return f"the rollout was aborted by {who} at {_moment(since, now)}{_because(why)}"
        case Skipped(who=who, why=why):
            return f"skipped by {who}{_because(why)}"
        case Paused(who=who, why=why, since=since):
            return f"paused by {who} since {_moment(since, now)}{_because(why)}"
        case GateClosed(gate=gate):
            return f"gate {gate} is not approved"
        case WebhookSaysNo(url=url, text=text, since=since):
            return f"{url} says no since {_moment(since, now)}{_because(text)}"
        case WebhookUnknown(url=url, text=text):
            return f"{url} gives no answer{_because(text)}" if text else f"{url} was not asked yet"
        case NodeHolds(text=text):
            return f"the node itself: {_one_line(text)}"
        case _:
            assert_never(reason)


def _trouble(reason: Halted | Unhealthy | FactMissing) -> str:
    match reason:
        case Halted(limit=limit, failed=failed, silent=silent, back=back):
            ends = {"failed": failed, "silent": silent, "was silent": back}
            named = [f"{node} {end}" for end, nodes in ends.items() for node in nodes]
            return f"halted: {_of(len(named), limit)} failures ({_listed(named)}); an operator must resume"
        case Unhealthy(node=node, fact=fact, value=value, bound=bound, is_most=is_most, median=median):
            healthy = f"at {'most' if is_most else 'least'} {bound:g} is healthy"
            basis = "" if median is None else f", as the median of the nodes not upgraded is {median:g}"
            return f"{node} is upgraded and reports {fact} {value:g}: {healthy}{basis}"
        case FactMissing(node=node, fact=fact):
            return f"{node} is upgraded and does not report {fact}: nobody knows whether it is healthy"
        case _:
            assert_never(reason)


def _order_and_time(reason: Queued | ClassBehind | WindowClosed | Frozen | MomentAhead, now: datetime) -> str:
    match reason:
        case Queued(release=release, nodes=nodes):
            return f"release {release} goes first: {_count(len(nodes), 'node')} not there yet ({_listed(nodes)})"
        case ClassBehind(class_name=name, nodes=nodes):
            return f"class {name} goes first: {_count(len(nodes), 'node')} not upgraded yet ({_listed(nodes)})"
        case WindowClosed(until=until):
            return f"the next window opens at {_moment(until, now)}" if until else "no window opens in the days to come"
        case Frozen(until=until):
            return f"a freeze holds all until {_moment(until, now)}" if until else "a freeze holds all"
        case MomentAhead(until=until):
            return f"its moment is {_moment(until, now)}"
        case _:
            assert_never(reason)


def _canary(
    reason: CanaryFailed | CanarySilent | CanaryAway | CanaryRetries | CanaryFirst | CanarySoaks, now: datetime
) -> str:
    match reason:
        case CanaryFailed(node=node):
            return f"canary {node} failed: no other node may go"
        case CanarySilent(node=node, since=since):
            return f"canary {node} has not been seen since {_moment(since, now)}"
        case CanaryAway(node=node):
            return f"canary {node} is away"
        case CanaryRetries(node=node):
            return f"canary {node} failed, and tries again"
        case CanaryFirst(node=node, is_known=is_known):
            return f"canary {node} goes first" + ("" if is_known else ", and nobody has heard of it")
        case CanarySoaks(node=node, until=until):
            return f"canary {node} soaks until {_moment(until, now)}"
        case _:
            assert_never(reason)


def _wave(reason: WaveFull, now: datetime) -> str:
    name = f"wave {reason.wave} of {reason.waves} ({_count(reason.size, 'node')})"
    if reason.until is not None:
        return f"{name} soaks until {_moment(reason.until, now)}"
    if reason.failed:
        return f"{name}: {_listed(reason.failed)} failed: no other node may go"
    if reason.silent:
        return f"{name}: {_listed(reason.silent)} silent"
    return f"{name}: {_listed(reason.away)} away"


def _spent(reason: BudgetSpent) -> str:
    count, limit = len(reason.away), reason.limit
    verb = "is" if count == 1 else "are"
    amount = _of(count, limit)
    if reason.per is None:
        subject = f"{amount} {'node' if count == 1 else 'nodes'}"
    else:
        subject = f"{reason.per} {reason.group}: {amount}"
    silent = set(reason.silent)
    named = [f"{node} silent" if node in silent else node for node in reason.away]
    return f"{subject} {verb} away ({_listed(named)})"


def _of(count: int, limit: int) -> str:
    # Grants never pass the limit, but nodes that fall silent can.
    return f"{count} of {limit}" if count == limit else f"{count} (of at most {limit})"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _span(seconds: float) -> str:
    return _SPANS.get(seconds, f"{seconds:g} seconds")


def _because(why: str) -> str:
    return f": {_one_line(why)}" if why.strip() else ""


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _moment(at: datetime, now: datetime) -> str:
    at, now = at.astimezone(UTC), now.astimezone(UTC)
    return f"{at:%H:%M:%S} UTC" if at.date() == now.date() else f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - NAMED_NODES
    return ", ".join(names[:NAMED_NODES]) + (f" and {rest} more" if rest > 0 else "")
