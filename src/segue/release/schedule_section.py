"""`[classes.NAME.upgrade.schedule]`: when nodes of a class may upgrade, checked to the last key."""

import math
import re
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from segue.model.amount import Amount, amount
from segue.model.fleet import SYSTEM
from segue.model.hours import Freeze, Window, days_named, hours_named, zone_named
from segue.model.ids import NAME_PATTERN, ClassName, NodeId
from segue.release.section import CODE, DURATION, NAME, Name, Reference, Section, seconds
from segue.release.written import (
    WrittenAmount,
    WrittenDay,
    WrittenDays,
    WrittenDeadline,
    WrittenGate,
    WrittenHours,
    WrittenLimits,
    WrittenNodes,
    WrittenSizes,
    WrittenSoak,
    WrittenSpan,
    WrittenZone,
)

_ATTRIBUTE = f"a node attribute's name: {NAME}"
_NUMBER = 'a whole number of at least 1, or a percentage from above "0%" to "100%"'
_LIMIT = f"{_NUMBER}, or a table of such limits like {{ system = 2, zone = 1 }}"
_NUMBER_OF_NODES = re.compile(r"([1-9][0-9]{0,8})/(s|m|h|d)", re.ASCII)
_ZONE = 'a time zone\'s IANA name such as "Europe/Berlin"'
_DAY = "a day such as 2026-12-24"


def _one_or_more(given: Any) -> Any:
    return given if isinstance(given, list) else [given]


class CanarySection(Section):
    """`canary`: which nodes go first, and for how long they must have served."""

    nodes: WrittenNodes = Field(description=f"{_NUMBER}, or a list of nodes' names")
    soak: WrittenSoak = Field(description=DURATION)

    @property
    def soak_s(self) -> float:
        """Seconds for which each of them must have served."""
        return seconds(self.soak)

    @property
    def first(self) -> Amount | tuple[NodeId, ...]:
        """Which nodes go first."""
        if isinstance(self.nodes, list):
            return tuple(NodeId(name) for name in self.nodes)
        return amount(self.nodes)


class WavesSection(Section):
    """`waves`: how many nodes have gone when each wave is over, and for how long they must have served."""

    sizes: WrittenSizes = Field(
        description='a list of rising numbers, or of rising percentages like ["5%", "25%", "100%"], '
        "each with the waves before it"
    )
    soak: WrittenSoak = Field(description=DURATION)

    @property
    def soak_s(self) -> float:
        """Seconds for which each of them must have served."""
        return seconds(self.soak)

    @property
    def amounts(self) -> tuple[Amount, ...]:
        """How many nodes have gone when each wave is over."""
        return tuple(amount(size) for size in self.sizes)


class WindowSection(Section):
    """One table of `window`: hours in which nodes may go."""

    zone: WrittenZone = Field(description=_ZONE)
    days: WrittenDays = Field(default="mon-sun", description='days like "mon-fri" or ["sat", "sun"]')
    hours: WrittenHours = Field(
        default="00:00-24:00", description='hours like "22:00-06:00", left out for the whole day'
    )


class FreezeSection(Section):
    """One table of `freeze`: days in which no node may go, the first and the last included."""

    first: WrittenDay = Field(description=_DAY)
    last: WrittenDay = Field(description=f"{_DAY}, not before first")
    zone: WrittenZone = Field(default="UTC", description=_ZONE)

    @model_validator(mode="after")
    def _in_order(self) -> "FreezeSection":
        if self.last < self.first:
            raise _at("last", f"{_DAY}, not before first", self.last)
        return self


class HealthySection(Section):
    """One table of `healthy`: a fact that upgraded nodes report, and its bounds."""

    fact: Name = Field(description=f"a fact's name: {NAME}")
    most: float | None = Field(default=None, description="a finite number")
    least: float | None = Field(default=None, description="a finite number, not above most")
    most_times: float | None = Field(default=None, description="a finite number")
    least_times: float | None = Field(default=None, description="a finite number, not above most_times")
    dry_run: bool = Field(default=False, description="true or false")

    @field_validator("most", "least", "most_times", "least_times")
    @classmethod
    def _is_finite(cls, value: float | None) -> float | None:
        if value is not None and not math.isfinite(value):
            raise ValueError(value)
        return value

    @model_validator(mode="after")
    def _some_value_is_healthy(self) -> "HealthySection":
        if {self.most, self.least, self.most_times, self.least_times} == {None}:
            raise _at("fact", "most, least, most_times or least_times beside it, or nothing is asked", self.fact)
        for key, least, most in (("least", self.least, self.most), ("least_times", self.least_times, self.most_times)):
            if least is not None and most is not None and least > most:
                raise _at(key, "a finite number, not above its counterpart, or nothing is healthy", least)
        return self


class ScheduleSection(Section):
    """`[classes.NAME.upgrade.schedule]`: when nodes of the class may upgrade.

    What is left out is cautious: one node at a time in the whole system.
    """

    canary: CanarySection | None = Field(default=None, description='a table like { nodes = 1, soak = "30s" }')
    max_unavailable: WrittenLimits = Field(default=1, description=_LIMIT)
    per: Name | None = Field(default=None, description=_ATTRIBUTE)
    waves: WavesSection | None = Field(
        default=None, description='a table like { sizes = ["5%", "25%", "100%"], soak = "10m" }'
    )
    rate: str | None = Field(
        default=None, pattern=f"^{_NUMBER_OF_NODES.pattern}$", description='nodes per time like "20/h" (s, m, h or d)'
    )
    spread: WrittenSpan | None = Field(default=None, description=f"{DURATION}, more than nothing")
    after: list[Name] = Field(default=[], description="a class of this release, or a list of them, but not this one")
    window: list[WindowSection] = Field(
        default=[], description='a table like { zone = "Europe/Berlin", hours = "22:00-06:00" }, or a list of them'
    )
    freeze: list[FreezeSection] = Field(
        default=[], description="a table like { first = 2026-12-20, last = 2027-01-06 }, or a list of them"
    )
    gate: list[WrittenGate] = Field(
        default=[], description=f"a gate's name ({NAME}), a webhook's URL with https, or a list of them, each once"
    )
    healthy: list[HealthySection] = Field(
        default=[], description='a table like { fact = "error_rate", most = 0.01 }, or a list of them'
    )
    failure_budget: WrittenAmount | None = Field(default=None, description=_NUMBER)
    when: Reference | None = Field(default=None, description=f'{CODE} "blockstore.upgrade:may_go"')
    custom: Reference | None = Field(default=None, description=f'{CODE} "blockstore.upgrade:decide"')
    deadline: WrittenDeadline | None = Field(
        default=None, description='a duration such as "7d", or a moment with its offset such as 2026-12-24T18:00:00Z'
    )
    in_progress: Literal["supersede", "queue"] = Field(default="supersede", description='"supersede" or "queue"')

    @model_validator(mode="before")
    @classmethod
    def _one_meaning(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        limit, per = given.get("max_unavailable", 1), given.get("per")
        if isinstance(limit, dict) and not all(re.fullmatch(NAME_PATTERN, str(group)) for group in limit):
            raise _at("max_unavailable", f'keys that are "system" or {_ATTRIBUTE}', limit)
        if per == SYSTEM:
            raise _at("per", f"{_ATTRIBUTE}; leave per out to count the whole system", per)
        if isinstance(limit, dict) and per is not None:
            raise _at("per", "no such key beside a table max_unavailable, which names its groups itself", per)
        return given

    @field_validator("after", "window", "freeze", "gate", "healthy", mode="before")
    @classmethod
    def _list_of_one(cls, given: Any) -> Any:
        return _one_or_more(given)

    @field_validator("after", "gate")
    @classmethod
    def _each_once(cls, names: list[str]) -> list[str]:
        if len(set(names)) < len(names):
            raise ValueError(names)
        return names

    @property
    def limits(self) -> Mapping[str, Amount]:
        """How many nodes may be away at once: `{"system" or a node attribute: limit}`; all hold together."""
        if isinstance(self.max_unavailable, dict):
            return {group: amount(limit) for group, limit in self.max_unavailable.items()}
        return {self.per or SYSTEM: amount(self.max_unavailable)}

    @property
    def nodes_per_s(self) -> tuple[int, float] | None:
        """How many nodes may go within how many seconds."""
        found = _NUMBER_OF_NODES.fullmatch(self.rate) if self.rate else None
        return (int(found[1]), seconds(f"1{found[2]}")) if found else None

    @property
    def spread_s(self) -> float | None:
        """Seconds over which nodes are spread."""
        return seconds(self.spread) if self.spread else None

    @property
    def classes_before(self) -> tuple[ClassName, ...]:
        """The classes that go first."""
        return tuple(ClassName(name) for name in self.after)

    @property
    def windows(self) -> tuple[Window, ...]:
        """When nodes may go."""
        return tuple(
            Window(zone=zone_named(one.zone), days=days_named(one.days), begin=begin, end=end)
            for one in self.window
            for begin, end in (hours_named(one.hours),)
        )

    @property
    def freezes(self) -> tuple[Freeze, ...]:
        """When they may not."""
        return tuple(
            Freeze(zone=zone_named(one.zone), first=date.fromisoformat(one.first), last=date.fromisoformat(one.last))
            for one in self.freeze
        )

    @property
    def gates(self) -> tuple[str, ...]:
        """What operators must have approved."""
        return tuple(gate for gate in self.gate if "/" not in gate)

    @property
    def webhooks(self) -> tuple[str, ...]:
        """Which URLs must say yes."""
        return tuple(gate for gate in self.gate if "/" in gate)

    @property
    def bounds(self) -> tuple[HealthySection, ...]:
        """What upgraded nodes must report."""
        return tuple(self.healthy)

    @property
    def failures(self) -> Amount | None:
        """How many failures halt the rollout."""
        return None if self.failure_budget is None else amount(self.failure_budget)

    @property
    def queues(self) -> bool:
        """Whether the rollout waits for those of older releases."""
        return self.in_progress == "queue"

    @property
    def decides(self) -> bool:
        """Whether the release has a function of its own that must agree."""
        return self.custom is not None

    @property
    def deadline_at(self) -> float | datetime | None:
        """When the softer rules yield: after so many seconds, or at a moment."""
        if self.deadline is None:
            return None
        return datetime.fromisoformat(self.deadline) if "T" in self.deadline else seconds(self.deadline)


def _at(key: str, expected: str, found: object) -> PydanticCustomError:
    return PydanticCustomError("at_key", "{expected}", {"key": key, "expected": expected, "found": found})
