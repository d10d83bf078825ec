"""The metrics of an agent, by name; docs/metrics.md says of each what it is good for."""

from segue.model.metric import Metric, MetricKind

_GAUGE, _COUNTER, _HISTOGRAM = MetricKind.GAUGE, MetricKind.COUNTER, MetricKind.HISTOGRAM

INFO = Metric(
    name="segue_node_info",
    kind=_GAUGE,
    help="Always 1: who the node is, and how its port passes in an upgrade.",
    labels=("system", "class", "node", "hand_over"),
)
PHASE = Metric(
    name="segue_node_phase",
    kind=_GAUGE,
    help="1 for the phase that the node is in, 0 for the others.",
    labels=("phase",),
)
VERSION = Metric(name="segue_node_version", kind=_GAUGE, help="The version that the node runs; 0 if none yet.")
TARGET = Metric(
    name="segue_node_target_version",
    kind=_GAUGE,
    help="The version that the node is on its way to; the one that it runs if it goes nowhere.",
)
ANSWERED = Metric(name="segue_node_answered_versions", kind=_GAUGE, help="How many versions' calls the node answers.")
UPGRADES = Metric(
    name="segue_node_upgrades_total", kind=_COUNTER, help="Upgrades, by how they ended.", labels=("outcome",)
)
RESTARTS = Metric(
    name="segue_node_restarts_total",
    kind=_COUNTER,
    help="Restarts of the application that somebody ordered, by how they ended.",
    labels=("outcome",),
)
PAUSE = Metric(
    name="segue_node_pause_seconds",
    kind=_HISTOGRAM,
    help="Seconds in which calls waited, of each upgrade that the node went through.",
)
TRANSFORM = Metric(
    name="segue_node_transform_seconds",
    kind=_HISTOGRAM,
    help="Seconds that the transforms took, of each upgrade that the node went through.",
)
FAILURES = Metric(
    name="segue_node_failures", kind=_GAUGE, help="Attempts that failed, one after the other; 0 after a success."
)
GAVE_UP = Metric(
    name="segue_node_gave_up",
    kind=_GAUGE,
    help="1 if the node waits for an operator, or for the next release, after failures.",
)
CRASHES = Metric(
    name="segue_node_crashes_total",
    kind=_COUNTER,
    help="Ends of the application's process that nobody ordered, since the agent began.",
)
CALLS = Metric(
    name="segue_node_calls", kind=_GAUGE, help="Calls that were here at the last report, by where.", labels=("where",)
)
DISK = Metric(name="segue_node_disk_bytes", kind=_GAUGE, help="What the node has on its disk.", labels=("part",))
HEARTBEATS = Metric(
    name="segue_node_heartbeats_total",
    kind=_COUNTER,
    help="Heartbeats of this agent, by whether the upgrade server answered.",
    labels=("outcome",),
)

#: All of them.
OF_THE_AGENT = (
    INFO, PHASE, VERSION, TARGET, ANSWERED, UPGRADES, RESTARTS, PAUSE, TRANSFORM, FAILURES, GAVE_UP, CRASHES, CALLS,
    DISK, HEARTBEATS,
)  # fmt: skip
