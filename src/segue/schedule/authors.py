"""What a schedule is asked for by `Rules.of`; manifests are of a room that does not know this one."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from segue.model.amount import Amount
from segue.model.hours import Freeze, Window
from segue.model.ids import ClassName, NodeId


class AuthorsCanary(Protocol):
    """`canary` as a manifest has it."""

    @property
    def first(self) -> Amount | tuple[NodeId, ...]:
        """Which nodes go first."""
        ...

    @property
    def soak_s(self) -> float:
        """Seconds that each must have served."""
        ...


class AuthorsWaves(Protocol):
    """`waves` as a manifest has it."""

    @property
    def amounts(self) -> tuple[Amount, ...]:
        """How many nodes have gone when each wave is over."""
        ...

    @property
    def soak_s(self) -> float:
        """Seconds that the nodes of a wave must have served."""
        ...


class AuthorsBound(Protocol):
    """One table of `healthy` as a manifest has it, by the names of `rules.Bound`."""

    @property
    def fact(self) -> str:
        """What nodes report."""
        ...

    @property
    def most(self) -> float | None:
        """At most so much."""
        ...

    @property
    def least(self) -> float | None:
        """At least so much."""
        ...

    @property
    def most_times(self) -> float | None:
        """At most so many times the median of the others."""
        ...

    @property
    def least_times(self) -> float | None:
        """At least so many times."""
        ...

    @property
    def dry_run(self) -> bool:
        """Whether it holds nobody."""
        ...


class AuthorsSchedule(Protocol):
    """A schedule as a manifest has it: what `rules.Rules` says of each attribute holds here, too."""

    @property
    def limits(self) -> Mapping[str, Amount]:
        """How many nodes may be away at once: `{"system" or a node attribute: limit}`."""
        ...

    @property
    def canary(self) -> AuthorsCanary | None:
        """Who goes first; None if nobody need."""
        ...

    @property
    def waves(self) -> AuthorsWaves | None:
        """How many go before the others."""
        ...

    @property
    def nodes_per_s(self) -> tuple[int, float] | None:
        """How many nodes may go within how many seconds."""
        ...

    @property
    def spread_s(self) -> float | None:
        """Seconds over which nodes are spread."""
        ...

    @property
    def classes_before(self) -> tuple[ClassName, ...]:
        """The classes that go first."""
        ...

    @property
    def windows(self) -> tuple[Window, ...]:
        """When nodes may go."""
        ...

    @property
    def freezes(self) -> tuple[Freeze, ...]:
        """When they may not."""
        ...

    @property
    def gates(self) -> tuple[str, ...]:
        """What operators must have approved."""
        ...

    @property
    def webhooks(self) -> tuple[str, ...]:
        """Which URLs must say yes."""
        ...

    @property
    def bounds(self) -> Sequence[AuthorsBound]:
        """What upgraded nodes must report."""
        ...

    @property
    def failures(self) -> Amount | None:
        """How many failures halt the rollout."""
        ...

    @property
    def queues(self) -> bool:
        """Whether the rollout waits for those of older releases."""
        ...

    @property
    def decides(self) -> bool:
        """Whether the release has a function of its own that must agree."""
        ...

    @property
    def deadline_at(self) -> float | datetime | None:
        """When the softer rules yield: after so many seconds, or at a moment."""
        ...
