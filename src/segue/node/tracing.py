"""Traces of what a node goes through, for those who run its agent with OpenTelemetry: nothing happens else.

A trip is what a node does between two rests: it learns of a release, upgrades, or restarts. Each is a span, with a span
below it for each phase that it goes through. The names of spans and attributes are on docs/metrics.md.

An agent that dies in the middle takes the span of its trip with it, as spans are sent when they end. So the ids of that
span are kept in a file while the trip lasts: the agent that goes on makes its spans below it. It is one trace then,
and the first span that the next agent makes says when the trip began.
"""

import json
import logging
from contextlib import suppress
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, StatusCode, TraceFlags, Tracer

from segue import journey
from segue.journey import Journey, Phase
from segue.model.clock import Clock
from segue.node.settings import NodeSettings

logger = logging.getLogger(__name__)


class Trip(StrEnum):
    """What a node does between two rests; the value is the name of its span."""

    LEARN = "segue.learn"
    UPGRADE = "segue.upgrade"
    RESTART = "segue.restart"


#: Attributes of a trip's span.
SYSTEM: Final = "segue.system"
CLASS: Final = "segue.class"
NODE: Final = "segue.node"
FROM_VERSION: Final = "segue.from_version"
TO_VERSION: Final = "segue.to_version"
PERMIT: Final = "segue.permit"
OUTCOME: Final = "segue.outcome"
#: True on spans of what an earlier agent began.
RESUMED: Final = "segue.resumed"
#: An attribute of a phase's span: the event that ended it.
EVENT: Final = "segue.event"

_REST = frozenset({Phase.NEW, Phase.SERVING, Phase.WAITING})
_LEARNING = frozenset({Phase.FETCHING_FIRST, Phase.STARTING_FIRST, Phase.FETCHING, Phase.INSTALLING})


def trip_of(phase: Phase) -> Trip | None:
    """Return what a node does that is in `phase`; None if it rests."""
    if phase in _REST:
        return None
    if phase in _LEARNING:
        return Trip.LEARN
    return Trip.RESTART if phase.is_restart else Trip.UPGRADE


def phase_span(trip: Trip, phase: Phase) -> str:
    """Return the name of the span of a phase of a trip, such as `segue.upgrade.handing_over`."""
    return f"{trip}.{phase.value.removeprefix('restarting: ').replace(' ', '_')}"


class Traces:
    """Makes the spans of one node. None of it can fail the node.

    Args:
        settings: the node's.
        kept: the file that outlives the agent.
        clock: for the times of spans.
        at: where the node is as its agent begins.
        tracer: by default that of the process's provider, which does nothing if nobody has set one.
    """

    def __init__(
        self, settings: NodeSettings, *, kept: Path, clock: Clock, at: Journey, tracer: Tracer | None = None
    ) -> None:
        self._tracer = tracer or trace.get_tracer("segue.node")
        self._settings = settings
        self._kept = kept
        self._clock = clock
        self._trip: Trip | None = None
        self._span: Span = trace.INVALID_SPAN
        self._since = clock.now()
        #: Whether an earlier agent began the trip, and until the next event also the phase.
        self._resumed = (trip := trip_of(at.phase)) is not None
        if trip is not None:
            self._begin(trip, at, *self._left(trip, at))

    def note(self, before: Journey, event: journey.Event, after: Journey) -> None:
        """Take note of what happened to the node: it ends a phase, or one of several transforms.

        Args:
            before: where it was.
            event: what happened.
            after: where it is now.
        """
        now = self._clock.now()
        if self._trip is not None:
            self._phase(self._trip, before.phase, event, now)
        following = trip_of(after.phase)
        if following is not self._trip and self._trip is not None:
            self._end(before, event, now)
        self._since, self._resumed = now, False
        if following is not self._trip and following is not None:
            self._begin(following, after, None, now)
        self._trip = following

    def _begin(self, trip: Trip, at: Journey, parent: SpanContext | None, since: datetime) -> None:
        below = trace.set_span_in_context(NonRecordingSpan(parent), Context()) if parent else Context()
        self._trip = trip
        self._span = self._tracer.start_span(
            trip.value, context=below, start_time=_ns(since), attributes=self._attributes(trip, at)
        )
        if self._span.get_span_context().is_valid:
            self._keep(trip, at, since)

    def _attributes(self, trip: Trip, at: Journey) -> dict[str, Any]:
        settings = self._settings
        found: dict[str, Any] = {
            SYSTEM: settings.system,
            CLASS: settings.class_name,
            NODE: settings.node_id,
            FROM_VERSION: at.version,
            TO_VERSION: at.version,
        }
        match trip:
            case Trip.UPGRADE:
                found |= {TO_VERSION: at.under_way.release.version, PERMIT: at.under_way.held}
            case Trip.LEARN:
                found |= {TO_VERSION: at.learnt.version}
            case Trip.RESTART:
                pass
        return found | ({RESUMED: True} if self._resumed else {})

    def _phase(self, trip: Trip, phase: Phase, event: journey.Event, now: datetime) -> None:
        attributes: dict[str, Any] = {EVENT: type(event).__name__} | ({RESUMED: True} if self._resumed else {})
        span = self._tracer.start_span(
            phase_span(trip, phase),
            context=trace.set_span_in_context(self._span, Context()),
            start_time=_ns(self._since),
            attributes=attributes,
        )
        reason = getattr(event, "reason", None)
        if reason is not None:
            span.set_status(StatusCode.ERROR, reason)
        span.end(_ns(now))

    def _end(self, before: Journey, event: journey.Event, now: datetime) -> None:
        outcome, failure = _outcome(before, event)
        self._span.set_attribute(OUTCOME, outcome)
        if failure is not None:
            self._span.set_status(StatusCode.ERROR, failure)
        self._span.end(_ns(now))
        self._span = trace.INVALID_SPAN
        with suppress(OSError):
            self._kept.unlink(missing_ok=True)

    def _keep(self, trip: Trip, at: Journey, since: datetime) -> None:
        """Keep the ids for an agent that comes after a crash; without them it begins a trace of its own."""
        ids = self._span.get_span_context()
        kept = {
            "trip": _key(trip, at), "since": since.isoformat(), "trace_id": f"{ids.trace_id:032x}",
            "span_id": f"{ids.span_id:016x}", "flags": int(ids.trace_flags),
        }  # fmt: skip
        try:
            self._kept.write_text(json.dumps(kept))
        except OSError as error:
            logger.warning("%s: a crash would break the trace in two: %s", self._kept, error)

    def _left(self, trip: Trip, at: Journey) -> tuple[SpanContext | None, datetime]:
        """Return the span of the trip that an earlier agent was on, and when that began."""
        try:
            kept = json.loads(self._kept.read_text())
            if kept["trip"] == _key(trip, at):
                ids = int(kept["trace_id"], 16), int(kept["span_id"], 16)
                flags = TraceFlags(kept["flags"])
                since = datetime.fromisoformat(kept["since"])
                return SpanContext(*ids, is_remote=True, trace_flags=flags), since
        except FileNotFoundError:
            pass  # nobody traced, or the agent died before it was kept
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s cannot be read, so the trace begins anew: %s", self._kept, error)
        return None, self._clock.now()

    def __repr__(self) -> str:
        return f"Traces({self._trip or 'at rest'})"


def _key(trip: Trip, at: Journey) -> str:
    """Return what tells a trip from every other of the node: its permit, the release learnt, the process replaced."""
    match trip:
        case Trip.UPGRADE:
            return f"{trip} {at.under_way.held}"
        case Trip.LEARN:
            return f"{trip} {at.learnt.sha256}"
        case Trip.RESTART:
            return f"{trip} {at.generation}"


def _outcome(before: Journey, event: journey.Event) -> tuple[str, str | None]:
    """Return how a trip ended, in a word, and why if it failed."""
    match event:
        case journey.PermitReturned():
            upgrade = before.under_way
            if upgrade.failure is None:
                return "upgraded", None
            return ("failed_probation" if upgrade.release == before.running else "failed"), upgrade.failure
        case journey.Resumed():
            return "failed", before.failure
        case journey.HandedOver():
            return "restarted", None
        case _:
            reason = getattr(event, "reason", None)
            return ("learnt" if reason is None else "failed"), reason


def _ns(moment: datetime) -> int:
    """Return a time as OpenTelemetry has it, in nanoseconds since 1970; exact, as a float is not."""
    seconds = int(moment.timestamp())
    return seconds * 10**9 + moment.microsecond * 1000
