"""What happened when: lanes of nodes and rates of calls, from samples and exact instants, pure."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import dropwhile, pairwise
from typing import Any

from segue.demo.facts import Failure
from segue.demo.phases import AWAY, SIMULATING
from segue.model.ids import NodeId, Version
from segue.wire.messages import NodeStatus, SystemStatus, UpgradeRow


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSample:
    """What the status said of one node.

    Attributes:
        at_s: when, in seconds since the epoch.
        node: which.
        version: that it ran.
        phase: as in its status.
        target: the version that it goes to; None while it goes nowhere.
        answered: the versions of which it had answered calls.
    """

    at_s: float
    node: NodeId
    version: int
    phase: str
    target: int | None = None
    answered: frozenset[Version] = frozenset()


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
        admitted, refused, leaked: as in `ClientCalls`.
    """

    version: Version
    from_s: float
    to_s: float
    calls: int
    failed: int
    size_bytes: int = 0
    failures: tuple[Failure, ...] = ()
    admitted: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    leaked: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of one node's lane.

    Attributes:
        runs: the version that the node runs; None in its pause, while calls wait.
        simulates: the versions that it answers besides, in order.
        start_s, end_s: seconds since the first publication.
        pause_ms: how long the pause was, by its own word; None if it was not, or did not say.
    """

    runs: Version | None
    simulates: tuple[Version, ...] = ()
    start_s: float
    end_s: float
    pause_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """One node's lane, its spans touching each other from the picture's start to its end.

    Attributes:
        node: which.
        zone: where it stands.
        spans: in order of time.
    """

    node: NodeId
    zone: str
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Calls per second of one version's clients, a value per bin."""

    version: Version
    calls_per_s: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """All that the picture shows; times in seconds since the first publication.

    Attributes:
        start_s: the left edge.
        end_s: the right edge.
        bin_s: the width of a bin; the first begins at `start_s`, the last ends at `end_s`.
        versions: the one that ran first, and those that came after, in order.
        published: when each of those that came after was published, in their order; the first at 0.
        lanes: a lane per node.
        rates: a row per version of clients.
        failed: calls that failed, per bin.
        calls: of all clients, from `start_s` to `end_s`.
        refused: of these, tries at private blocks that were refused as they must be.
    """

    start_s: float
    end_s: float
    bin_s: float
    versions: tuple[Version, ...]
    published: tuple[float, ...]
    lanes: tuple[Lane, ...]
    rates: tuple[Rate, ...]
    failed: tuple[int, ...]
    calls: int
    refused: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The stretch of time that is shown, in seconds since the epoch.

    Attributes:
        start_s, end_s: its edges.
        published_s: when versions were published; the first of these moments is called 0.
        bin_s: no bin is wider.
    """

    start_s: float
    end_s: float
    published_s: tuple[float, ...]
    bin_s: float = 0.5

    @property
    def zero_s(self) -> float:
        """What is called 0."""
        return self.published_s[0]


def draw_up(
    status: SystemStatus,
    samples: Sequence[NodeSample],
    tallies: Sequence[Tally],
    window: Window,
    versions: tuple[Version, ...],
) -> Timeline:
    """Put what was observed onto one axis of time.

    Args:
        status: the last, for the nodes and the exact instants of their upgrades.
        samples: of every node, in order of time.
        tallies: of the clients.
        window: what to show.
        versions: the one that ran first, and those that were published, in order.
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
        versions=versions,
        published=tuple(moment_s - window.zero_s for moment_s in window.published_s),
        lanes=tuple(_lane(node, samples, window, versions) for node in status.nodes),
        rates=rates,
        failed=_failed(shown, window, bins),
        calls=sum(one.calls for one in shown),
        refused=sum(sum(one.refused.values()) for one in shown),
    )


def _lane(node: NodeStatus, samples: Sequence[NodeSample], window: Window, versions: tuple[Version, ...]) -> Lane:
    own = [one for one in samples if one.node == node.id]
    return Lane(
        node=NodeId(node.id),
        zone=node.attributes.get("zone", ""),
        spans=_spans(list(_changes(own, node.upgrades, window, versions)), window),
    )


def _changes(
    samples: Sequence[NodeSample], upgrades: Sequence[UpgradeRow], window: Window, versions: tuple[Version, ...]
) -> Iterator[Span]:
    """Yield what the node does from each moment on, in order; a span ends where the next begins.

    The instants that the node itself noted are exact: samples fill in only what came between them.
    """
    since_s, runs = window.start_s, versions[0]
    for row in upgrades:
        away_s, back_s = row.quiesced_at.timestamp(), row.serving_at.timestamp()
        yield from _running(samples, runs, since_s, away_s, versions)
        yield Span(runs=None, start_s=away_s, end_s=back_s, pause_ms=row.pause_ms)
        since_s, runs = back_s, Version(row.to_version)
    yield from _running(samples, runs, since_s, window.end_s, versions)
    # An upgrade that was given up is seen by samples alone; those before the first at rest tell of the one before.
    last = [one for one in samples if since_s <= one.at_s < window.end_s and one.version == runs]
    for sample in dropwhile(lambda one: one.phase in AWAY, last):
        if sample.phase in AWAY:
            yield Span(runs=None, start_s=sample.at_s, end_s=window.end_s)


def _running(
    samples: Sequence[NodeSample], runs: Version, since_s: float, until_s: float, versions: tuple[Version, ...]
) -> Iterator[Span]:
    """Yield what the node does while it runs one version, in which it answers all those before."""
    past = tuple(version for version in versions if version < runs)
    yield Span(runs=runs, simulates=past, start_s=since_s, end_s=until_s)
    for sample in samples:
        if since_s <= sample.at_s < until_s and sample.version == runs and sample.phase not in AWAY:
            future = {version for version in sample.answered if version > runs}
            if sample.phase in SIMULATING:
                future |= {version for version in versions if runs < version == sample.target}
            yield Span(runs=runs, simulates=(*past, *sorted(future)), start_s=sample.at_s, end_s=until_s)


def _spans(changes: Sequence[Span], window: Window) -> tuple[Span, ...]:
    """Let each change hold until the next, join those that say the same, and cut all to the window."""
    ordered = sorted(changes, key=lambda change: change.start_s)
    ends = [change.start_s for change in ordered[1:]] + [window.end_s]
    spans: list[Span] = []
    for change, until_s in zip(ordered, ends, strict=True):
        start_s, end_s = max(change.start_s, window.start_s), min(until_s, window.end_s)
        if end_s <= start_s:
            continue
        span = replace(change, start_s=start_s - window.zero_s, end_s=end_s - window.zero_s)
        if spans and (spans[-1].runs, spans[-1].simulates) == (span.runs, span.simulates):
            spans[-1] = replace(spans[-1], end_s=span.end_s)
        else:
            spans.append(span)
    return tuple(spans)


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

    What was before a publication and what came after it do not mix: no call is shown before it can have been made.
    """
    cuts = {0, len(rate.calls_per_s)}
    for moment_s in timeline.published:
        at = (moment_s - timeline.start_s) / timeline.bin_s
        cuts |= {min(len(rate.calls_per_s), max(0, edge)) for edge in (math.floor(at), math.ceil(at))}
    return [mean for first, end in pairwise(sorted(cuts)) for mean in _means(rate.calls_per_s[first:end])]


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
        **{name: raw[name] for name in ("start_s", "end_s", "bin_s", "calls", "refused")},
        versions=tuple(Version(version) for version in raw["versions"]),
        published=tuple(raw["published"]),
        failed=tuple(raw["failed"]),
        rates=tuple(
            Rate(version=Version(rate["version"]), calls_per_s=tuple(rate["calls_per_s"])) for rate in raw["rates"]
        ),
        lanes=tuple(
            Lane(node=NodeId(lane["node"]), zone=lane["zone"], spans=tuple(_span(span) for span in lane["spans"]))
            for lane in raw["lanes"]
        ),
    )


def _span(raw: Mapping[str, Any]) -> Span:
    runs, simulates = raw["runs"], raw["simulates"]
    return Span(
        **{name: raw[name] for name in ("start_s", "end_s", "pause_ms")},
        runs=None if runs is None else Version(runs),
        simulates=tuple(Version(version) for version in simulates),
    )
