"""What the operator says of one node when its agent starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segue.errors import OperatorError
from segue.layer.label import unlabelled_default
from segue.layer.tls import TlsFiles
from segue.model.address import Address, read_address, read_addresses, split_address
from segue.model.ids import ClassName, NodeId, SystemName
from segue.node.plan import HandOver
from segue.node.requirements import InstallSettings

#: gRPC counts a message's bytes in 31 bits.
_MESSAGE_LIMIT_MIB = 2047
#: Seconds that cannot be none.
_POSITIVE = ("poll_s", "max_connection_age_s", "park_limit_s", "quiesce_timeout_s", "transform_timeout_s", "retry_s")
#: Python and what it imports of Segue and gRPC take about 40 MiB.
_LEAST_TRANSFORM_MEMORY_MIB = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """The settings of one node.

    Attributes:
        server_url: where the upgrade server is.
        system, class_name, node_id: who the node is.
        address: where others reach the node's object.
        state: the node's state folder.
        attributes: what schedules may ask of the node, such as `{"zone": "a"}`.
        config: the application's own settings, handed to the object as they are.
        unlabelled: the version that calls without a label are taken for, where several have their method: a
            number, or `current` for the one that the node runs.
        poll_s: seconds between reports to the upgrade server.
        max_connection_age_s: seconds until gRPC retires a connection gracefully.
        max_message_mib: the largest message that the node receives, in MiB: a caller's request, or another node's
            reply to its object.
        park_limit_s: seconds that a call waits for a version that is not answered yet, if its deadline allows.
        quiesce_timeout_s: seconds that calls inside have to end when the node goes away.
        transform_timeout_s: seconds that a transform may take.
        retries: how often a release that failed on this node is tried again, before it waits for the operator.
        probation_s: seconds after an upgrade in which an end of the new process counts as the release's failure.
        keep_old_s: seconds that the old version's state is kept after a commit.
        install: where the libraries come from that releases require.
        transform_memory_mib: memory that each process of a transform may have, in MiB; None for no limit.
        disk_reserve_mib: room on the disk that an upgrade leaves free beside the new state, in MiB.
        listen: all that the node listens on, as `model.address` has it; empty for `address` alone.
        tls: the files by which the node's ports are TLS, and the channels of its objects.
        hand_over: how its ports are to pass from one process to the next.
        park_calls: how many calls may wait at once.
        park_mib: how much their requests may hold, all together, in MiB.
        stream_grace_s: seconds that streams have to end by themselves when the node goes away; 0 for none.
        drain_limit_s: seconds that a process that was replaced forwards calls, at most.
        retry_s: seconds after a failure until the release is tried again; twice as many after each further one.
        metrics: where the agent tells its metrics, as HOST:PORT; None for nowhere.
    """

    server_url: str
    system: SystemName
    class_name: ClassName
    node_id: NodeId
    address: str
    state: Path
    attributes: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    unlabelled: str = "current"
    poll_s: float = 2.0
    max_connection_age_s: float = 30.0
    max_message_mib: int = 4
    park_limit_s: float = 30.0
    quiesce_timeout_s: float = 30.0
    transform_timeout_s: float = 3600.0
    retries: int = 3
    probation_s: float = 10.0
    keep_old_s: float = 3600.0
    install: InstallSettings = field(default_factory=InstallSettings)
    transform_memory_mib: int | None = None
    disk_reserve_mib: int = 256
    listen: tuple[str, ...] = ()
    tls: TlsFiles = field(default_factory=TlsFiles)
    hand_over: HandOver = HandOver.AUTO
    retry_s: float = 5.0

    @property
    def addresses(self) -> tuple[Address, ...]:
        """All that the node listens on."""
        return read_addresses(self.listen or (self.address,))

    park_calls: int = 10_000
    park_mib: int = 64
    stream_grace_s: float = 10.0
    drain_limit_s: float = 600.0
    metrics: str | None = None

    def __post_init__(self) -> None:
        read_address(self.address)
        assert self.addresses
        unlabelled_default(self.unlabelled)
        if self.metrics is not None:
            split_address(self.metrics)
        for name in _POSITIVE:
            if getattr(self, name) <= 0:
                raise OperatorError(f"{name} is {getattr(self, name)}: it must be more than 0 seconds")
        for name in ("retries", "probation_s", "keep_old_s"):
            if getattr(self, name) < 0:
                raise OperatorError(f"{name} is {getattr(self, name)}: it must be 0 or more")
        if not 1 <= self.max_message_mib <= _MESSAGE_LIMIT_MIB:
            raise OperatorError(
                f"max_message_mib is {self.max_message_mib}: it must be a whole number from 1 to {_MESSAGE_LIMIT_MIB}"
            )
        if self.transform_memory_mib is not None and self.transform_memory_mib < _LEAST_TRANSFORM_MEMORY_MIB:
            raise OperatorError(
                f"transform_memory_mib is {self.transform_memory_mib}: it must be {_LEAST_TRANSFORM_MEMORY_MIB} or more"
            )
        if self.disk_reserve_mib < 0:
            raise OperatorError(f"disk_reserve_mib is {self.disk_reserve_mib}: it must be 0 or more")
        for name in ("park_calls", "park_mib"):
            if getattr(self, name) < 1:
                raise OperatorError(f"{name} is {getattr(self, name)}: it must be a whole number, 1 or more")
        for name in ("stream_grace_s", "drain_limit_s"):
            if getattr(self, name) < 0:
                raise OperatorError(f"{name} is {getattr(self, name)}: it must be 0 seconds or more")
