"""The metrics of the upgrade server, by name; docs/metrics.md says of each what it is good for."""

from typing import Final

from segue.model.metric import Metric, MetricKind

_GAUGE, _COUNTER, _HISTOGRAM = MetricKind.GAUGE, MetricKind.COUNTER, MetricKind.HISTOGRAM
_CLASS: Final = ("system", "class")

DATABASE_UP = Metric(
    name="segue_database_up", kind=_GAUGE, help="1 if the upgrade database answered at this look at it, else 0."
)
RELEASES = Metric(
    name="segue_releases", kind=_GAUGE, help="Releases published, which is the newest version.", labels=("system",)
)
NODES = Metric(
    name="segue_nodes",
    kind=_GAUGE,
    help="Nodes by the version that they run and where they are on their way.",
    labels=("system", "class", "version", "phase"),
)
UPGRADED = Metric(name="segue_nodes_upgraded", kind=_GAUGE, help="Nodes that run the newest release.", labels=_CLASS)
AWAY = Metric(name="segue_nodes_away", kind=_GAUGE, help="Nodes that hold a permit.", labels=_CLASS)
AWAY_LIMIT = Metric(
    name="segue_nodes_away_limit",
    kind=_GAUGE,
    help="How many nodes of the system may be away at once, by the newest schedule of the class.",
    labels=_CLASS,
)
WAITING = Metric(name="segue_nodes_waiting", kind=_GAUGE, help="Nodes that ask for a permit.", labels=_CLASS)
SILENT = Metric(
    name="segue_nodes_silent",
    kind=_GAUGE,
    help="Nodes not heard of for so long that they count as away.",
    labels=_CLASS,
)
FAILED = Metric(
    name="segue_nodes_failed", kind=_GAUGE, help="Nodes whose last attempt ended in a failure.", labels=_CLASS
)
GAVE_UP = Metric(
    name="segue_nodes_gave_up",
    kind=_GAUGE,
    help="Nodes that wait for an operator, or for the next release, after failures.",
    labels=_CLASS,
)
PAUSED = Metric(
    name="segue_rollouts_paused",
    kind=_GAUGE,
    help="1 while an operator has paused all grants, else 0.",
    labels=("system",),
)
HALTED = Metric(
    name="segue_rollouts_halted",
    kind=_GAUGE,
    help="Releases whose rollout has halted by itself, as its failure budget is spent.",
    labels=_CLASS,
)
ACTIONS = Metric(
    name="segue_actions_total",
    kind=_COUNTER,
    help="What operators did by hand, by what it was.",
    labels=("system", "deed"),
)
HEARTBEAT_AGE = Metric(
    name="segue_heartbeat_age_seconds",
    kind=_GAUGE,
    help="Seconds since the heartbeat of the node that was silent for longest.",
    labels=_CLASS,
)
PERMIT_AGE = Metric(
    name="segue_permit_age_seconds",
    kind=_GAUGE,
    help="Seconds since the oldest permit that is held was granted; 0 if none is held.",
    labels=_CLASS,
)
GRANTED = Metric(name="segue_permits_granted_total", kind=_COUNTER, help="Permits granted.", labels=_CLASS)
RETURNED = Metric(
    name="segue_permits_returned_total",
    kind=_COUNTER,
    help="Permits returned, by whether the node was upgraded.",
    labels=("system", "class", "outcome"),
)
CALLS = Metric(
    name="segue_calls_total",
    kind=_COUNTER,
    help="Calls that nodes answered, as reported: by the caller's version, who called, what answered and how.",
    labels=("system", "caller_version", "caller", "answered_by", "outcome"),
)
PAUSE = Metric(
    name="segue_upgrade_pause_seconds",
    kind=_HISTOGRAM,
    help="Seconds in which calls waited, of each upgrade that nodes went through.",
    labels=_CLASS,
)
TRANSFORM = Metric(
    name="segue_upgrade_transform_seconds",
    kind=_HISTOGRAM,
    help="Seconds that the transforms took, of each upgrade that nodes went through.",
    labels=_CLASS,
)
REQUESTS = Metric(
    name="segue_requests_total",
    kind=_COUNTER,
    help="Requests that this server answered.",
    labels=("method", "route", "status"),
)
REQUEST_TIME = Metric(
    name="segue_request_duration_seconds",
    kind=_HISTOGRAM,
    help="Seconds until this server began to answer a request.",
    labels=("method", "route"),
)
DATABASE_ERRORS = Metric(
    name="segue_database_errors_total",
    kind=_COUNTER,
    help="Times that the upgrade database did not answer this server.",
)
WATCHERS = Metric(name="segue_event_watchers", kind=_GAUGE, help="Streams of events that this server has open.")

#: What is read from the upgrade database: all servers on one database say the same.
OF_THE_DATABASE = (
    DATABASE_UP, RELEASES, NODES, UPGRADED, AWAY, AWAY_LIMIT, WAITING, SILENT, FAILED, GAVE_UP, PAUSED, HALTED,
    ACTIONS, HEARTBEAT_AGE, PERMIT_AGE, GRANTED, RETURNED, CALLS, PAUSE, TRANSFORM,
)  # fmt: skip
#: What one process of the server counts itself.
OF_THE_PROCESS = (REQUESTS, REQUEST_TIME, DATABASE_ERRORS, WATCHERS)
