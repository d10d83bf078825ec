"""The rules of a schedule, as data: what a release's author may ask for."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from segue.errors import ReleaseError
from segue.model.fleet import SYSTEM

#: Seconds without a word after which a node counts as away. Nodes report every second or so: much less
#: takes a slow poll for an outage and halts rollouts, much more lets a dead node's place be given away.
STALE_S = 15.0

#: The longest soak: ten years. Beyond the year 9999 there is no datetime to compare with.
SOAK_LIMIT_S = 10 * 366 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """At most `limit` nodes of a group may be away at once.

    Attributes:
        limit: how many, at least 1.
        per: the node attribute whose values make the groups, such as `zone`; None if all nodes of
            the system, of whatever class, are one group.

    Raises:
        ReleaseError: a value makes no sense.
    """

    limit: int
    per: str | None = None

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ReleaseError(f"max_unavailable is {self.limit}: make it at least 1, or no node can ever be upgraded")
        if self.per == "":
            raise ReleaseError("per is empty: name the node attribute that makes the groups, or leave per out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Canary:
    """A few nodes go first, and the others wait until these have served the new version for a while.

    Attributes:
        nodes: how many go first, at least 1.
        soak_s: seconds that each must have served the new version, 0 or more.

    Raises:
        ReleaseError: a value makes no sense.
    """

    nodes: int
    soak_s: float

    def __post_init__(self) -> None:
        if self.nodes < 1:
            raise ReleaseError(f"canary.nodes is {self.nodes}: make it at least 1, or leave the canary out")
        if not 0 <= self.soak_s <= SOAK_LIMIT_S:
            raise ReleaseError(f"canary.soak is {self.soak_s} s: make it at least 0 s and at most ten years")


class AuthorsCanary(Protocol):
    """`canary` as a manifest has it."""

    @property
    def nodes(self) -> int:
        """How many nodes go first."""
        ...

    @property
    def soak_s(self) -> float:
        """Seconds that each must have served."""
        ...


class AuthorsSchedule(Protocol):
    """A schedule as a manifest has it; manifests are of a room that does not know this one."""

    @property
    def limits(self) -> Mapping[str, int]:
        """How many nodes may be away at once: `{"system" or a node attribute: limit}`."""
        ...

    @property
    def canary(self) -> AuthorsCanary | None:
        """Who goes first; None if nobody need."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """All rules of one class upgrade's schedule; a node may go when every one of them lets it.

    Attributes:
        budgets: each holds; an author who asks for nothing gets one node away at a time. With none,
            any number may be away.
        canary: who goes first; None if nobody need.
        stale_s: seconds without a word after which a node counts as away, more than 0.

    Raises:
        ReleaseError: a value makes no sense.
    """

    budgets: tuple[Budget, ...] = (Budget(limit=1),)
    canary: Canary | None = None
    stale_s: float = STALE_S

    @classmethod
    def of(cls, schedule: "AuthorsSchedule") -> "Rules":
        """Make the rules that an author's schedule asks for.

        Raises:
            ReleaseError: a value makes no sense.
        """
        canary = schedule.canary
        return cls(
            budgets=tuple(
                Budget(limit=limit, per=None if group == SYSTEM else group) for group, limit in schedule.limits.items()
            ),
            canary=Canary(nodes=canary.nodes, soak_s=canary.soak_s) if canary else None,
        )

    def __post_init__(self) -> None:
        if not (self.stale_s > 0 and math.isfinite(self.stale_s)):
            raise ReleaseError(f"stale_s is {self.stale_s}: make it more than 0, or every node is always away")
