"""What the demo observed, as frozen data: the verdict and the report are made from this alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from segue.model.ids import NodeId, Version
from segue.node.plan import HandOverMode
from segue.schedule.rules import Rules
from segue.wire.messages import SystemStatus

__all__ = ["ClientCalls", "Facts", "Failure", "Reading"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A call that a client saw fail.

    Attributes:
        at_s: when, in seconds since the epoch.
        call: what was called, such as `get`.
        status: the gRPC status, else the kind of error, or `WRONG_CONTENT`.
        text: what the caller was told.
    """

    at_s: float
    call: str
    status: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCalls:
    """Every call that the clients of one version made, storing and reading back included.

    Attributes:
        version: of the clients.
        calls: that ended, one way or the other.
        failed: of these.
        failures: the first few of them.
        admitted: private blocks that came back, as they were, to those who may read them.
        refused: tries at private blocks that were refused as they must be: `{reason or status: how many}`.
        leaked: tries at private blocks that were not refused; they are among those that failed.
    """

    version: Version
    calls: int
    failed: int
    failures: tuple[Failure, ...] = ()
    admitted: int = 0
    refused: Mapping[str, int] = field(default_factory=dict)
    leaked: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Files that were read back through clients of one version, and compared bit for bit.

    Attributes:
        version: of the clients.
        files: how many were read.
        mismatches: those that did not come back as they were, with the reason.
        started_at: UTC.
        ended_at: UTC.
    """

    version: Version
    files: int
    mismatches: tuple[str, ...]
    started_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that was observed.

    Attributes:
        seed: what the load was drawn from.
        duration_s: of the whole demo.
        versions: the one that ran first, and those that were published under load, in order.
        private: whether clients of the last can put private blocks.
        nodes: that were started.
        files: how many were stored.
        size_bytes: of them all.
        published_at: `{version: when it was published (UTC)}`, of those that were.
        calls: the clients' calls, a row per version.
        pids_before: `{node: pid of its process before the first publication under load}`.
        pids_seen: `{node: every pid that its status ever showed, in order}`.
        pids_left: of those seen, the processes that were replaced and had not ended long after.
        samples: readings made during the upgrade.
        readings: readings of everything, made after it.
        rules: `{version: of the schedule that led to it}`.
        status: the last that was asked for; None if none was had.
        broken: whether the last version was published with a self-test that fails.
        hand_over: how the nodes' ports pass from one process to the next on this machine.
    """

    seed: int
    duration_s: float
    versions: tuple[Version, ...]
    private: bool
    nodes: tuple[NodeId, ...]
    files: int
    size_bytes: int
    published_at: Mapping[Version, datetime]
    calls: tuple[ClientCalls, ...]
    pids_before: Mapping[NodeId, int]
    pids_seen: Mapping[NodeId, tuple[int, ...]]
    pids_left: frozenset[int]
    samples: tuple[Reading, ...]
    readings: tuple[Reading, ...]
    rules: Mapping[Version, Rules]
    status: SystemStatus | None
    hand_over: HandOverMode = HandOverMode.PORT
    broken: bool = False

    @property
    def from_version(self) -> Version:
        """What ran first."""
        return self.versions[0]

    @property
    def to_version(self) -> Version:
        """What was published last."""
        return self.versions[-1]
