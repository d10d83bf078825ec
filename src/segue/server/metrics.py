"""Metrics for Prometheus: what the fleets are at, and how this server does. What each is called is in `measures`."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

from fastapi import APIRouter, Response
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client import Metric as Family
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segue.errors import PeerError
from segue.model.ids import SystemName
from segue.model.metric import Metric, MetricKind, buckets
from segue.server import measures
from segue.server.facts import Tally
from segue.server.fleet_metrics import Numbers, numbers_of
from segue.wire.messages import Refusal

#: Between two looks at the database, however many ask: a look reads whole fleets.
LOOK_S = 5.0
#: What requests take: from what a heartbeat does to what a client waits.
_REQUEST_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: Anybody can make up a method, or a path.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER = "(other)"


class Watched(Protocol):
    """What is read of the upgrade database."""

    def systems(self) -> tuple[SystemName, ...]:
        """Return the systems that something was published for."""
        ...

    def tally_of(self, system: SystemName) -> Tally:
        """Return `system` in numbers."""
        ...


class Metrics:
    """The metrics of one process of the upgrade server.

    Args:
        store: the upgrade database.
        look_s: seconds between two looks at the database.
        seconds: a clock that only goes on, in seconds.
    """

    def __init__(
        self,
        store: Watched,
        *,
        look_s: float = LOOK_S,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        disable: Callable[[], None] = disable_created_metrics
        disable()  # else each counter has a second series, of when it began
        self.registry = CollectorRegistry()
        self._requests = Counter(*_definition(measures.REQUESTS), registry=self.registry)
        self._request_time = Histogram(
            *_definition(measures.REQUEST_TIME), buckets=_REQUEST_BUCKETS_S, registry=self.registry
        )
        #: {(method, route, status): where that is counted}
        self._counted: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._database_errors = Counter(*_definition(measures.DATABASE_ERRORS), registry=self.registry)
        #: How many streams of events are open.
        self.watchers = Gauge(*_definition(measures.WATCHERS), registry=self.registry)
        self.registry.register(_Fleets(store, _Pace(look_s, seconds), self.failed))
        ProcessCollector(registry=self.registry)

    def answered(self, scope: Mapping[str, Any], status: int, seconds: float) -> None:
        """Count a request.

        Args:
            scope: the request's, after it was routed.
            status: of the answer.
            seconds: until it began.
        """
        method = scope["method"] if scope["method"] in _METHODS else _OTHER
        route = getattr(scope.get("route"), "path", _OTHER)
        kind = method, route, status
        counted = self._counted.get(kind)
        if counted is None:
            # Looking a series up costs more than counting in it.
            series = self._requests.labels(*kind), self._request_time.labels(method, route)
            counted = self._counted[kind] = series
        count, took = counted
        count.inc()
        took.observe(seconds)

    def failed(self) -> None:
        """Count a time that the database did not answer."""
        self._database_errors.inc()

    def text(self) -> bytes:
        """Return all metrics as Prometheus reads them; it reads the database, unless that was done just before."""
        return generate_latest(self.registry)


class _Fleets:
    """Reads the database when somebody asks, and for all who ask in the same seconds once."""

    def __init__(self, store: Watched, pace: "_Pace", failed: Callable[[], None]) -> None:
        self._store = store
        self._pace = pace
        self._failed = failed
        self._one_looks = threading.Lock()
        self._seen: tuple[Family, ...] = ()

    def describe(self) -> Iterator[Family]:
        """Say what there may be, without a look at the database."""
        return map(_family, measures.OF_THE_DATABASE)

    def collect(self) -> Iterable[Family]:
        """Return the metrics of all systems; of a database that does not answer only that."""
        with self._one_looks:
            if self._pace.is_time():
                self._seen = tuple(self._look())
            return self._seen

    def _look(self) -> Iterator[Family]:
        up = _family(measures.DATABASE_UP)
        try:
            tallies = map(self._store.tally_of, self._store.systems())
            numbers = [numbers_of(tally, tally.picture.at) for tally in tallies]
        except PeerError:
            self._failed()
            up.add_metric((), 0)
            yield up
            return
        up.add_metric((), 1)
        yield up
        for metric in measures.OF_THE_DATABASE:
            if metric is not measures.DATABASE_UP:
                yield _filled(metric, numbers)


class _Pace:
    """Says whether it is time again."""

    def __init__(self, each_s: float, seconds: Callable[[], float]) -> None:
        self._each_s = each_s
        self._seconds = seconds
        self._last: float | None = None

    def is_time(self) -> bool:
        """Say whether so long has passed since this was last so."""
        now = self._seconds()
        if self._last is not None and now - self._last < self._each_s:
            return False
        self._last = now
        return True


def _filled(metric: Metric, numbers: Iterable[Numbers]) -> Family:
    family = _family(metric)
    for one in numbers:
        for labels, value in one.values.get(metric, {}).items():
            family.add_metric(labels, value)
        for labels, seconds in one.seconds.get(metric, {}).items():
            family.add_metric(labels, buckets(seconds), sum(seconds))
    filled: Family = family
    return filled


def _family(metric: Metric) -> Any:
    return _FAMILIES[metric.kind](metric.name, metric.help, labels=metric.labels)


_FAMILIES: Mapping[MetricKind, Any] = {
    MetricKind.GAUGE: GaugeMetricFamily,
    MetricKind.COUNTER: CounterMetricFamily,
    MetricKind.HISTOGRAM: HistogramMetricFamily,
}


def _definition(metric: Metric) -> tuple[str, str, tuple[str, ...]]:
    return metric.name, metric.help, metric.labels


class Measured:
    """Measures each request to an application; a part of it, as ASGI has it.

    Args:
        app: the application.
        metrics: where requests are counted.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, and count it when its answer begins: bundles and events may take long to send."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, has_begun = time.perf_counter(), False

        async def tell(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                self._metrics.answered(scope, message["status"], time.perf_counter() - began)
            await send(message)

        try:
            await self._app(scope, receive, tell)
        except Exception:  # it is answered as a fault of ours outside of this
            if not has_begun:
                self._metrics.answered(scope, 500, time.perf_counter() - began)
            raise


def metrics_router(metrics: Metrics) -> APIRouter:
    """Return the route that Prometheus asks."""

    def show_metrics() -> Response:
        """Show how the fleets and this server do, in Prometheus' text format: see docs/metrics.md.

        What is read from the upgrade database is some seconds old at most, and the same on all servers of it.
        """
        return Response(metrics.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    router = APIRouter()
    refused = {
        422: "A field is wrong: the message names it, its value, and what was expected.",
        500: "A fault of the upgrade server itself: its log says more.",
        503: "The upgrade server cannot answer now: try again.",
    }
    responses: dict[int | str, dict[str, Any]] = {
        status: {"model": Refusal, "description": words} for status, words in refused.items()
    }
    responses[200] = {"description": "The metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    router.add_api_route(
        "/metrics", show_metrics, methods=["GET"], operation_id="show_metrics", summary="Show the metrics",
        responses=responses, response_class=Response, response_model=None,
    )  # fmt: skip
    return router
