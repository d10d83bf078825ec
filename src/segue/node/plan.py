"""What the agent tells an application's process about itself, as plain data that crosses as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from segue.layer.message_size import DEFAULT_MESSAGE_BYTES
from segue.layer.tls import TlsFiles
from segue.model.ids import Version


class HostPhase(StrEnum):
    """Where a process of the application is on its way from warm to gone."""

    COLD = "cold"
    WARM = "warm"
    STARTED = "started"
    SERVING = "serving"
    QUIET = "quiet"
    LEAVING = "leaving"
    ENDING = "ending"


class HandOver(StrEnum):
    """What the operator says of how a node's ports are to pass."""

    #: As the kernel can.
    AUTO = "auto"
    #: Without its help.
    STOP_AND_START = "stop-and-start"


class HandOverMode(StrEnum):
    """How a node's ports pass from one process to the next."""

    #: Both listen, and the kernel steers new connections to the newest: none is refused.
    PORT = "port"
    #: The old process stops to listen before the new one starts to: connections are refused for a moment.
    STOP_AND_START = "stop and start"


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationPlan:
    """A simulation: `module:Class` in its release, and its own folder."""

    code: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasePlan:
    """Where one release is, and what of it makes up a node's class.

    Attributes:
        version: the release's version.
        folder: where its bundle is unpacked.
        object: `module:Class` of the object.
        past: the past simulation of the version before it; None if it brought the class.
        future: the future simulation of its version; None if it brought the class.
    """

    version: Version
    folder: str
    object: str
    past: SimulationPlan | None = None
    future: SimulationPlan | None = None

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ReleasePlan":
        """Return the plan that `dataclasses.asdict` was asked for."""
        simulations = {
            role: SimulationPlan(**data[role]) if data[role] is not None else None for role in ("past", "future")
        }
        return cls(**{**data, **simulations})


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPlan:
    """Everything that a process is told before it imports a release.

    Attributes:
        system, class_name, node_id: who the node is.
        address: where others reach the node.
        attributes: what the operator said of the node.
        config: the application's own settings.
        unlabelled: the version that calls without a label are taken for: a number as text, or `current`.
        max_connection_age_s: how long a connection lives before gRPC retires it gracefully; this bounds
            how long a process that was replaced stays.
        park_limit_s: how long a call waits for a version that is not answered yet, if its deadline allows.
        max_message_bytes: the largest message that is received, by the node's port and by its objects' channels.
        control: path of the Unix socket that the agent speaks to.
        peer: path of the Unix socket that a process being replaced forwards calls to.
        usage: path of the file that keeps the last counts of calls when the process ends.
        answered: path of the file to be on disk before the first call is answered, if it is not there already;
            None if there is no way back that a call could close.
        releases: those that touch the node's class, oldest first: the last is what this process runs, and
            the others' calls it answers by past simulations.
        listen: all that the process listens on for clients, as `model.address` has it; empty for `address` alone.
        tls: by which files the ports are TLS, and the channels of the node's objects.
        hand_over: how the ports are taken.
        park_calls: how many calls may wait at once.
        park_bytes: how many bytes of requests they may hold, all together.
        stream_grace_s: how long streams have to end by themselves when they must.
        drain_limit_s: how long calls are forwarded by a process that was replaced.
        oldest: no version below it is answered, if the object itself is not of one.
    """

    system: str
    class_name: str
    node_id: str
    address: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    unlabelled: str = "current"
    max_connection_age_s: float
    max_message_bytes: int = DEFAULT_MESSAGE_BYTES
    park_limit_s: float = 30.0
    control: str
    peer: str
    usage: str
    answered: str | None = None
    releases: tuple[ReleasePlan, ...]
    listen: tuple[str, ...] = ()
    tls: TlsFiles = field(default_factory=TlsFiles)
    hand_over: HandOverMode = HandOverMode.PORT
    park_calls: int = 10_000
    park_bytes: int = 64 << 20
    stream_grace_s: float = 10.0
    drain_limit_s: float = 600.0
    oldest: Version = Version(0)  # noqa: RUF009 - a number

    @property
    def addresses(self) -> tuple[str, ...]:
        """All that the process listens on for clients."""
        return self.listen or (self.address,)

    @property
    def own(self) -> ReleasePlan:
        """What this process runs."""
        return self.releases[-1]

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "HostPlan":
        """Return the plan that `to_json` was asked for."""
        read = {
            "releases": tuple(ReleasePlan.from_json(release) for release in data["releases"]),
            "listen": tuple(data["listen"]),
            "tls": TlsFiles(**data["tls"]),
            "hand_over": HandOverMode(data["hand_over"]),
        }
        return cls(**{**data, **read})


@dataclass(frozen=True, slots=True, kw_only=True)
class Carry:
    """A release that leaves the class untouched: its number is carried by what answers the version before it."""

    version: Version


#: A version above the object's: the release whose future simulation answers it, or who carries it.
Future: TypeAlias = ReleasePlan | Carry


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What a process starts its object and simulations on.

    Attributes:
        state: the object's folder.
        carries: the newest version that the object answers.
        futures: the versions above it, oldest first.
    """

    state: str
    carries: Version
    futures: tuple[Future, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Stage":
        """Return the stage that `to_json` was asked for."""
        futures = tuple(
            ReleasePlan.from_json(future) if "folder" in future else Carry(**future) for future in data["futures"]
        )
        return cls(state=data["state"], carries=data["carries"], futures=futures)
