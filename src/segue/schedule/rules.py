"""The rules of a schedule, as data: what a release's author may ask for."""

import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise

from segue.errors import ReleaseError
from segue.model.amount import Amount, Percent, at_most
from segue.model.fleet import SYSTEM
from segue.model.hours import Freeze, Window
from segue.model.ids import ClassName, NodeId
from segue.model.silence import LEASE_S, STALE_S
from segue.schedule.authors import AuthorsSchedule

#: The longest time that a rule may last: ten years. Beyond the year 9999 there is no datetime to compare with.
LONGEST_S = 10 * 366 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """At most `limit` nodes of a group may be away at once.

    Attributes:
        limit: how many, at least 1, or which share of the group; a share is rounded down, but lets one node go.
        per: the node attribute whose values make the groups, such as `zone`; None if all nodes of
            the system, of whatever class, are one group.

    Raises:
        ReleaseError: a value makes no sense.
    """

    limit: Amount
    per: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.limit, int) and self.limit < 1:
            raise ReleaseError(f"max_unavailable is {self.limit}: make it at least 1, or no node can ever be upgraded")
        if self.per == "":
            raise ReleaseError("per is empty: name the node attribute that makes the groups, or leave per out")

    def limit_of(self, nodes: int) -> int:
        """Return how many of a group of `nodes` may be away."""
        return at_most(self.limit, nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A few nodes go first, and the others wait until these have served the new version for a while.

    Attributes:
        nodes: how many go first, at least 1, or which share of the class, rounded up; or their names.
        soak_s: seconds that each must have served the new version, 0 or more.

    Raises:
        ReleaseError: a value makes no sense.
    """

    nodes: Amount | tuple[NodeId, ...]
    soak_s: float

    def __post_init__(self) -> None:
        if (isinstance(self.nodes, int) and self.nodes < 1) or self.nodes == ():
            raise ReleaseError(f"canary.nodes is {self.nodes}: make it at least 1, or leave the canary out")
        _check_span("canary.soak", self.soak_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waves:
    """Nodes go in waves, each when the one before has served the new version for a while.

    Attributes:
        sizes: how many nodes have gone when each wave is over, the waves before it included: as numbers, or as
            shares of the class, rounded up. When the last wave is over, all others go.
        soak_s: seconds that the nodes of a wave must have served the new version, 0 or more.

    Raises:
        ReleaseError: a value makes no sense.
    """

    sizes: tuple[Amount, ...]
    soak_s: float

    def __post_init__(self) -> None:
        said = ", ".join(map(str, self.sizes)) or "empty"
        if not self.sizes or len({type(size) for size in self.sizes}) > 1:
            raise ReleaseError(f"waves.sizes is {said}: give numbers, or percentages, and not both")
        values = [size.value if isinstance(size, Percent) else size for size in self.sizes]
        if values[0] <= 0 or any(later <= earlier for earlier, later in pairwise(values)):
            raise ReleaseError(f"waves.sizes is {said}: each counts the waves before it in, so make each larger")
        _check_span("waves.soak", self.soak_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """At most so many nodes go within any span of time.

    Attributes:
        nodes: how many, at least 1.
        per_s: within how many seconds, more than 0.

    Raises:
        ReleaseError: a value makes no sense.
    """

    nodes: int
    per_s: float

    def __post_init__(self) -> None:
        if self.nodes < 1:
            raise ReleaseError(f"rate is of {self.nodes} nodes: make it at least 1, or no node can ever be upgraded")
        _check_span("rate", self.per_s, zero=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What upgraded nodes report must stay within bounds, or nobody else goes.

    Attributes:
        fact: what they report, by name.
        most: how much it may be at most; None if there is no such bound. So it is with the others.
        least: at least.
        most_times: at most so many times the median of the nodes that are not upgraded.
        least_times: at least so many times.
        dry_run: whether it holds nobody, and is only told.

    Raises:
        ReleaseError: a value makes no sense.
    """

    fact: str
    most: float | None = None
    least: float | None = None
    most_times: float | None = None
    least_times: float | None = None
    dry_run: bool = False

    def __post_init__(self) -> None:
        given = [value for value in (self.most, self.least, self.most_times, self.least_times) if value is not None]
        if not given or not all(map(math.isfinite, given)):
            raise ReleaseError(f"healthy: {self.fact} needs most, least, most_times or least_times, a finite number")
        for least, most in ((self.least, self.most), (self.least_times, self.most_times)):
            if least is not None and most is not None and least > most:
                raise ReleaseError(f"healthy: {self.fact} is to be at least {least:g} and at most {most:g}: none is")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """All rules of one class upgrade's schedule; a node may go when every one of them lets it.

    Attributes:
        budgets: each holds; an author who asks for nothing gets one node away at a time. With none,
            any number may be away.
        canary: who goes first; None if nobody need.
        waves: how many go before the others; None if it is all one.
        rate: how many go in a time; None if it is all one.
        spread_s: seconds from the rollout's begin over which nodes are spread; None if they are not.
        after: the classes that must be upgraded first.
        windows: when nodes may go; without any, always.
        freezes: when they may not.
        gates: what operators must have approved, by name.
        webhooks: which URLs must say yes.
        healthy: what upgraded nodes must report.
        failure_budget: how many failures, or of which share of the class, rounded up, halt the rollout.
        queues: whether the rollout waits for those of older releases.
        heeds_nodes: whether a node waits while the release's own code says, on it, that now is not the time.
        decides: whether the release has a function of its own that must agree, on the node, when nothing else holds it.
        deadline: when the softer rules yield: seconds after the rollout's begin, or a moment; None if they never do.
        stale_s: seconds without a word before which no node counts as away, more than 0: see `model.silence`.
        lease_s: seconds without a word before which no node counts as lost, at least `stale_s`.

    Raises:
        ReleaseError: a value makes no sense.
    """

    budgets: tuple[Budget, ...] = (Budget(limit=1),)
    canary: Canary | None = None
    waves: Waves | None = None
    rate: Rate | None = None
    spread_s: float | None = None
    after: tuple[ClassName, ...] = ()
    windows: tuple[Window, ...] = ()
    freezes: tuple[Freeze, ...] = ()
    gates: tuple[str, ...] = ()
    webhooks: tuple[str, ...] = ()
    healthy: tuple[Bound, ...] = ()
    failure_budget: Amount | None = None
    queues: bool = False
    heeds_nodes: bool = True
    decides: bool = False
    deadline: float | datetime | None = None
    stale_s: float = STALE_S
    lease_s: float = LEASE_S

    @classmethod
    def of(cls, schedule: AuthorsSchedule) -> "Rules":
        """Make the rules that an author's schedule asks for.

        Raises:
            ReleaseError: a value makes no sense.
        """
        canary, waves, rate = schedule.canary, schedule.waves, schedule.nodes_per_s
        return cls(
            budgets=tuple(
                Budget(limit=limit, per=None if group == SYSTEM else group) for group, limit in schedule.limits.items()
            ),
            canary=Canary(nodes=canary.first, soak_s=canary.soak_s) if canary else None,
            waves=Waves(sizes=waves.amounts, soak_s=waves.soak_s) if waves else None,
            rate=Rate(nodes=rate[0], per_s=rate[1]) if rate else None,
            spread_s=schedule.spread_s,
            after=schedule.classes_before,
            windows=schedule.windows,
            freezes=schedule.freezes,
            gates=schedule.gates,
            webhooks=schedule.webhooks,
            healthy=tuple(
                Bound(
                    fact=bound.fact,
                    most=bound.most,
                    least=bound.least,
                    most_times=bound.most_times,
                    least_times=bound.least_times,
                    dry_run=bound.dry_run,
                )
                for bound in schedule.bounds
            ),
            failure_budget=schedule.failures,
            queues=schedule.queues,
            decides=schedule.decides,
            deadline=schedule.deadline_at,
        )

    def __post_init__(self) -> None:
        if not (self.stale_s > 0 and math.isfinite(self.stale_s)):
            raise ReleaseError(f"stale_s is {self.stale_s}: make it more than 0, or every node is always away")
        if not (self.lease_s >= self.stale_s and math.isfinite(self.lease_s)):
            raise ReleaseError(f"lease_s is {self.lease_s}: make it at least stale_s, which is {self.stale_s}")
        if self.spread_s is not None:
            _check_span("spread", self.spread_s, zero=False)
        if isinstance(self.failure_budget, int) and self.failure_budget < 1:
            raise ReleaseError(f"failure_budget is {self.failure_budget}: it is spent before anything fails")
        if isinstance(self.deadline, float):
            _check_span("deadline", self.deadline, zero=False)

    def is_late(self, begun_at: datetime, now: datetime) -> bool:
        """Say whether the deadline has passed at `now` for a rollout that began at `begun_at`."""
        match self.deadline:
            case None:
                return False
            case datetime():
                return now >= self.deadline
            case seconds:
                return now >= begun_at + timedelta(seconds=seconds)

    def without_the_softer(self) -> "Rules":
        """Return what is left of the rules after the deadline.

        Which rules yield is said here and nowhere else. Those that stay protect callers (how many are away, what
        failed, what is unhealthy), another's order (classes, releases) or somebody's word (gates, freezes).
        """
        return replace(
            self,
            canary=replace(self.canary, soak_s=0.0) if self.canary else None,
            waves=replace(self.waves, soak_s=0.0) if self.waves else None,
            rate=None,
            spread_s=None,
            windows=(),
            heeds_nodes=False,
            decides=False,
        )

    def as_if(self, *, dry: bool) -> "Rules":
        """Return the rules with only those bounds that are tried dry, or only those that are meant."""
        return replace(self, healthy=tuple(bound for bound in self.healthy if bound.dry_run is dry))


def _check_span(name: str, seconds: float, *, zero: bool = True) -> None:
    if not 0 <= seconds <= LONGEST_S or (seconds == 0 and not zero):
        least = "at least" if zero else "more than"
        raise ReleaseError(f"{name} is {seconds} s: make it {least} 0 s and at most ten years")
