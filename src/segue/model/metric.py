"""A metric as it is told of: its name, its kind and its labels. Who measures it, and how, is elsewhere."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class MetricKind(StrEnum):
    """What can be asked of a metric; the value is Prometheus' own word."""

    #: A number that goes up and down.
    GAUGE = "gauge"
    #: A number that only goes up: its rate says something.
    COUNTER = "counter"
    #: How many of what was measured were at most so large, for some sizes.
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A metric that operators are told of; its unit is in its name, as Prometheus' conventions have it.

    Attributes:
        name: as it is asked for; of a counter, with `_total`.
        kind: what can be asked of it.
        help: what it says, in one line.
        labels: by what it is told apart, in this order; each has few values, whoever calls.
    """

    name: str
    kind: MetricKind
    help: str
    labels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        is_total = self.name.endswith("_total")
        assert self.name.startswith("segue_"), f"{self.name}: begin it with segue_"
        assert is_total == (self.kind is MetricKind.COUNTER), f"{self.name}: counters, and no others, end with _total"


#: For times from milliseconds to hours, in seconds: pauses, transforms.
LONG_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)


def buckets(seconds: Sequence[float], limits_s: Sequence[float] = LONG_BUCKETS_S) -> list[tuple[str, int]]:
    """Count how many of `seconds` are at most each limit, as a histogram has it: the last limit is `+Inf`.

    Args:
        seconds: what was measured.
        limits_s: the limits, the smallest first.
    """
    ordered = sorted(seconds)
    return [*((str(limit), bisect_right(ordered, limit)) for limit in limits_s), ("+Inf", len(ordered))]
