"""What the agent tells an application's process about itself, as plain data that crosses as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

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


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasePlan:
    """Where one release is, and the names in it that make up a node's class.

    Attributes:
        version: the release's version.
        folder: where its bundle is unpacked.
        object: `module:Class` of the object.
        past: `module:Class` of the past simulation; None in version 1.
        future: `module:Class` of the future simulation; None in version 1.
    """

    version: Version
    folder: str
    object: str
    past: str | None
    future: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPlan:
    """Everything that a process is told before it imports a release.

    Attributes:
        system, class_name, node_id: who the node is.
        address: where clients reach the node, `host:port`.
        attributes: what the operator said of the node.
        config: the application's own settings.
        unlabelled: the version that calls without a label are taken for: a number as text, or `current`.
        max_connection_age_s: how long a connection lives before gRPC retires it gracefully; this bounds
            how long a process that was replaced stays.
        control: path of the Unix socket that the agent speaks to.
        peer: path of the Unix socket that a process being replaced forwards calls to.
        usage: path of the file that keeps the last counts of calls when the process ends.
        release: what this process runs.
        previous: the release before it, if it is on this node.
    """

    system: str
    class_name: str
    node_id: str
    address: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    unlabelled: str = "current"
    max_connection_age_s: float
    control: str
    peer: str
    usage: str
    release: ReleasePlan
    previous: ReleasePlan | None

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "HostPlan":
        """Return the plan that `to_json` was asked for."""
        previous = data["previous"]
        return cls(
            **{
                **data,
                "release": ReleasePlan(**data["release"]),
                "previous": ReleasePlan(**previous) if previous else None,
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Future:
    """A future simulation to install: the release that it comes from, and its own folder."""

    release: ReleasePlan
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The folders that a process starts its object and simulations on.

    Attributes:
        state: the object's folder.
        past: the past simulation's folder; None if nothing came before.
        future: the future simulation to install; None if there is none.
    """

    state: str
    past: str | None
    future: Future | None

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Stage":
        """Return the stage that `to_json` was asked for."""
        future = data["future"]
        return cls(state=data["state"], past=data["past"], future=future_from_json(future) if future else None)


def future_from_json(data: Mapping[str, Any]) -> Future:
    """Return the `Future` that `dataclasses.asdict` was asked for."""
    return Future(release=ReleasePlan(**data["release"]), state=data["state"])
