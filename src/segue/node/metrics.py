"""An agent's metrics for Prometheus. What each is called is in `measures`.

What the journal says is counted from the journal, so it goes on where it was when an agent starts anew.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client import Metric as Family
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from segue import journey
from segue.journey import Journey, Phase
from segue.model.metric import Metric, MetricKind, buckets
from segue.node import measures
from segue.node.handover import mode_of
from segue.node.reports import Condition
from segue.node.settings import NodeSettings

_UPGRADE_OUTCOMES = ("upgraded", "failed", "failed_probation")
_RESTART_OUTCOMES = ("restarted", "failed")
_BEAT_OUTCOMES = ("answered", "failed")
_WHERE = ("clients", "nodes", "parked", "forwarded")


class NodeMetrics:
    """Knows what happened to a node, for whoever asks, in a thread of its own.

    Args:
        settings: the node's.
        events: what happened to it so far, oldest first.
        registry: gets the metrics.
    """

    def __init__(self, settings: NodeSettings, events: Iterable[journey.Event], registry: CollectorRegistry) -> None:
        self._identity = (
            settings.system,
            settings.class_name,
            settings.node_id,
            mode_of(settings.hand_over).value,
        )
        self._at = Journey()
        self._upgrades: Counter[str] = Counter()
        self._restarts: Counter[str] = Counter()
        self._beats: Counter[str] = Counter()
        self._condition = Condition()
        self._answers = 0
        self._calls: Mapping[str, int] = {}
        for event in events:
            self.note(self._at, event, journey.advance(self._at, event)[0])
        registry.register(self)
        ProcessCollector(registry=registry)

    def note(self, before: Journey, event: journey.Event, after: Journey) -> None:
        """Take note of what happened to the node.

        Args:
            before: where it was.
            event: what happened.
            after: where it is now.
        """
        self._at = after
        match event:
            case journey.Committed():
                self._upgrades["upgraded" if before.under_way.failure is None else "failed_probation"] += 1
            case journey.PermitReturned() if before.under_way.release != before.running:
                self._upgrades["failed"] += 1
            case journey.HandedOver() if before.phase.is_restart:
                self._restarts["restarted"] += 1
            case journey.Resumed() if before.phase.is_restart:
                self._restarts["failed"] += 1
            case _:
                pass

    def reports(self, condition: Condition, process_reports: Sequence[Mapping[str, Any]]) -> None:
        """Take note of what the node is about to report.

        Args:
            condition: how it is.
            process_reports: what its processes say, those that have ended first.
        """
        self._condition = condition
        self._answers = next((len(found) for one in reversed(process_reports) if (found := one.get("answers"))), 0)
        calls: Counter[str] = Counter()
        for report in process_reports:
            calls.update(report.get("in_flight", {}))
        self._calls = calls

    def reported(self, *, answered: bool) -> None:
        """Take note of a heartbeat, and whether the upgrade server answered."""
        self._beats[_BEAT_OUTCOMES[not answered]] += 1

    def describe(self) -> Iterator[Family]:
        """Say what there may be."""
        return map(_family, measures.OF_THE_AGENT)

    def collect(self) -> Iterator[Family]:
        """Say how the node is."""
        at, condition = self._at, self._condition
        done = [upgrade for upgrade in at.completed if upgrade.serving_at and upgrade.quiesced_at]
        pauses = [
            (one.serving_at - one.quiesced_at).total_seconds() for one in done if one.serving_at and one.quiesced_at
        ]
        transforms = [one.transform_ms / 1000 for one in at.completed if one.transform_ms is not None]
        target = at.upgrade.release.version if at.upgrade else at.learning[-1].version if at.learning else at.version
        yield _values(measures.INFO, {self._identity: 1})
        yield _values(measures.PHASE, {(phase.value,): phase is at.phase for phase in Phase})
        yield _values(measures.VERSION, {(): at.version})
        yield _values(measures.TARGET, {(): target})
        yield _values(measures.ANSWERED, {(): self._answers})
        yield _counts(measures.UPGRADES, self._upgrades, _UPGRADE_OUTCOMES)
        yield _counts(measures.RESTARTS, self._restarts, _RESTART_OUTCOMES)
        yield _histogram(measures.PAUSE, pauses)
        yield _histogram(measures.TRANSFORM, transforms)
        yield _values(measures.FAILURES, {(): at.failures})
        yield _values(measures.GAVE_UP, {(): at.gave_up})
        yield _values(measures.CRASHES, {(): condition.crashes})
        yield _counts(measures.CALLS, self._calls, _WHERE)
        yield _values(measures.DISK, self._disk())
        yield _counts(measures.HEARTBEATS, self._beats, _BEAT_OUTCOMES)

    def _disk(self) -> Mapping[tuple[str, ...], float]:
        disk = self._condition.disk
        if disk is None:
            return {}
        return {
            ("state",): disk.state_bytes,
            ("old",): disk.old_bytes,
            ("releases",): disk.releases_bytes,
            ("free",): disk.free_bytes,
        }

    def __repr__(self) -> str:
        return f"NodeMetrics({self._at.phase}, upgrades {dict(self._upgrades)})"


def _values(metric: Metric, values: Mapping[tuple[str, ...], float]) -> Family:
    family = _family(metric)
    for labels, value in values.items():
        family.add_metric(labels, value)
    filled: Family = family
    return filled


def _counts(metric: Metric, counts: Mapping[str, int], of: Iterable[str]) -> Family:
    return _values(metric, {(one,): counts.get(one, 0) for one in of})


def _histogram(metric: Metric, seconds: Sequence[float]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.help)
    family.add_metric((), buckets(seconds), sum(seconds))
    return family


def _family(metric: Metric) -> Any:
    return _FAMILIES[metric.kind](metric.name, metric.help, labels=metric.labels)


_FAMILIES: Mapping[MetricKind, Any] = {
    MetricKind.GAUGE: GaugeMetricFamily,
    MetricKind.COUNTER: CounterMetricFamily,
    MetricKind.HISTOGRAM: HistogramMetricFamily,
}
