"""What happened when: lanes of nodes and rates of calls, from samples and exact instants, pure."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Literal, TypeAlias

from segue.demo.facts import Failure
from segue.demo.phases import AWAY, SIMULATING
from segue.model.ids import NodeId, Version
from segue.wire.messages import NodeStatus, SystemStatus, UpgradeRow

#: What a node does: runs the old version; runs it and simulates the new one; is away; runs the new one.
SpanKind: TypeAlias = Literal["old", "simulating", "away", "new"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSample:
    """What the status said of one node.

    Attributes:
        at_s: when, in seconds since the epoch.
        node: which.
        version: that it ran.
        phase: as in its status.
    """

    at_s: float
    node: NodeId
    version: int
    phase: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What the clients of one version did between two moments.

    Attributes:
        version: of the clients.
        from_s: seconds since the epoch.
        to_s: likewise, later.
        calls: that ended in between.
        failed: of these.
        size_bytes: of the blocks that the calls carried.
        failures: the first few of the failed calls.
    """

    version: Version
    from_s: float
    to_s: float
    calls: int
    failed: int
    size_bytes: int = 0
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of one node's lane; seconds since the publication."""

    kind: SpanKind
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One node's lane, its spans touching each other from the picture's start to its end.

    Attributes:
        node: which.
        zone: where it stands.
        spans: in order of time.
        pause_ms: how long it was away; None if it never was.
    """

    node: NodeId
    zone: str
    spans: tuple[Span, ...]
    pause_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Calls per second of one version's clients, a value per bin."""

    version: Version
    calls_per_s: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """All that the picture shows; times in seconds since the publication.

    Attributes:
        start_s: the left edge.
        end_s: the right edge.
        bin_s: the width of a bin; the first begins at `start_s`, the last ends at `end_s`.
        from_version: what ran first.
        to_version: what was published at 0.
        lanes: a lane per node.
        rates: a row per version of clients.
        failed: calls that failed, per bin.
        calls: of all clients, from `start_s` to `end_s`.
    """

    start_s: float
    end_s: float
    bin_s: float
    from_version: Version
    to_version: Version
    lanes: tuple[Lane, ...]
    rates: tuple[Rate, ...]
    failed: tuple[int, ...]
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The stretch of time that is shown, in seconds since the epoch, and the moment that is called 0.

    No bin is wider than `bin_s`.
    """

    start_s: float
    end_s: float
    zero_s: float
    bin_s: float = 0.5


def draw_up(
    status: SystemStatus,
    samples: Sequence[NodeSample],
    tallies: Sequence[Tally],
    window: Window,
    versions: tuple[Version, Version],
) -> Timeline:
    """Put what was observed onto one axis of time.

    Args:
        status: the last, for the nodes and the exact instants of their upgrades.
        samples: of every node, in order of time.
        tallies: of the clients.
        window: what to show.
        versions: the one that ran first, and the one that was published.
    """
    length_s = max(window.end_s - window.start_s, 1e-6)
    bins = max(1, math.ceil(length_s / window.bin_s))
    window = replace(window, bin_s=length_s / bins)
    shown = [one for one in tallies if one.to_s >= window.start_s and one.from_s <= window.end_s]
    rates = tuple(
        Rate(version=version, calls_per_s=_binned([one for one in shown if one.version == version], window, bins))
        for version in versions
    )
    return Timeline(
        start_s=window.start_s - window.zero_s,
        end_s=window.end_s - window.zero_s,
        bin_s=window.bin_s,
        from_version=versions[0],
        to_version=versions[1],
        lanes=tuple(_lane(node, samples, window, versions) for node in status.nodes),
        rates=rates,
        failed=_failed(shown, window, bins),
        calls=sum(one.calls for one in shown),
    )


def _lane(node: NodeStatus, samples: Sequence[NodeSample], window: Window, versions: tuple[Version, Version]) -> Lane:
    return Lane(
        node=NodeId(node.id),
        zone=node.attributes.get("zone", ""),
        spans=_spans([one for one in samples if one.node == node.id], node.upgrades, window, versions),
        pause_ms=node.upgrades[-1].pause_ms if node.upgrades else None,
    )


def _spans(
    samples: Sequence[NodeSample],
    upgrades: Sequence[UpgradeRow],
    window: Window,
    versions: tuple[Version, Version],
) -> tuple[Span, ...]:
    row = next((one for one in upgrades if one.to_version == versions[1]), None)
    changes: list[tuple[float, SpanKind]] = [(window.start_s, "old")]
    changes += [(sample.at_s, _kind(sample, versions)) for sample in samples]
    if row is not None:
        # The instants that the node itself noted are exact: samples fill in only what came before.
        quiesced_s, serving_s = row.quiesced_at.timestamp(), row.serving_at.timestamp()
        changes = [(at_s, kind) for at_s, kind in changes if at_s < quiesced_s and kind in ("old", "simulating")]
        changes += [(quiesced_s, "away"), (serving_s, "new")]
    changes.append((window.end_s, changes[-1][1]))
    spans: list[Span] = []
    for (start_s, kind), (end_s, _) in pairwise(changes):
        start_s, end_s = max(start_s, window.start_s) - window.zero_s, min(end_s, window.end_s) - window.zero_s
        if end_s <= start_s:
            continue
        if spans and spans[-1].kind == kind:
            spans[-1] = Span(kind=kind, start_s=spans[-1].start_s, end_s=end_s)
        else:
            spans.append(Span(kind=kind, start_s=start_s, end_s=end_s))
    return tuple(spans)


def _kind(sample: NodeSample, versions: tuple[Version, Version]) -> SpanKind:
    if sample.phase in AWAY:
        return "away"
    if sample.version == versions[1]:
        return "new"
    return "simulating" if sample.phase in SIMULATING else "old"


def _binned(tallies: Iterable[Tally], window: Window, bins: int) -> tuple[float, ...]:
    """Spread each tally's calls evenly over the bins that it overlaps."""
    calls = [0.0] * bins
    for tally in tallies:
        length_s = max(tally.to_s - tally.from_s, 1e-6)
        first = max(0, int((tally.from_s - window.start_s) // window.bin_s))
        last = min(bins - 1, int((tally.to_s - window.start_s) // window.bin_s))
        for index in range(first, last + 1):
            left_s = window.start_s + index * window.bin_s
            shared_s = min(tally.to_s, left_s + window.bin_s) - max(tally.from_s, left_s)
            calls[index] += tally.calls * max(0.0, shared_s) / length_s
    return tuple(count / window.bin_s for count in calls)


def _failed(tallies: Iterable[Tally], window: Window, bins: int) -> tuple[int, ...]:
    """Put each tally's failures into the bin in which it ended, or into the last one: none is left out."""
    failed = [0] * bins
    for tally in tallies:
        index = int((tally.to_s - window.start_s) // window.bin_s)
        failed[min(bins - 1, index)] += tally.failed
    return tuple(failed)


def smoothed(rate: Rate, timeline: Timeline) -> list[float]:
    """Return the mean of each bin and its neighbours, as half a second alone is noise.

    What was before the publication and what came after it do not mix: no call is shown before it can have been made.
    """
    first = -timeline.start_s / timeline.bin_s
    before, after = (min(len(rate.calls_per_s), max(0, edge)) for edge in (math.floor(first), math.ceil(first)))
    values = rate.calls_per_s
    return [mean for side in (values[:before], values[before:after], values[after:]) for mean in _means(side)]


def _means(values: Sequence[float]) -> list[float]:
    spans = (values[max(0, index - 1) : index + 2] for index in range(len(values)))
    return [sum(span) / len(span) for span in spans]


def to_json(timeline: Timeline) -> str:
    """Return `timeline` as JSON."""
    return json.dumps(asdict(timeline))


def from_json(text: str) -> Timeline:
    """Return the timeline that `to_json` wrote."""
    raw = json.loads(text)
    return Timeline(
        **{name: raw[name] for name in ("start_s", "end_s", "bin_s", "calls")},
        from_version=Version(raw["from_version"]),
        to_version=Version(raw["to_version"]),
        failed=tuple(raw["failed"]),
        rates=tuple(
            Rate(version=Version(rate["version"]), calls_per_s=tuple(rate["calls_per_s"])) for rate in raw["rates"]
        ),
        lanes=tuple(
            Lane(
                node=NodeId(lane["node"]),
                zone=lane["zone"],
                pause_ms=lane["pause_ms"],
                spans=tuple(Span(**span) for span in lane["spans"]),
            )
            for lane in raw["lanes"]
        ),
    )
