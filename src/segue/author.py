"""The contract with release authors: what an object is given, and what an upgrade is made of.

A release's own code imports this (as `segue`) and nothing else of Segue. It runs inside the
application's process, so only gRPC is imported here.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc.aio

from segue.errors import Disallowed
from segue.model.ids import ClassName, NodeId, SystemName, Version

__all__ = [
    "Disallowed",
    "FutureSimulation",
    "Node",
    "PastSimulation",
    "Simulation",
    "TransformContext",
    "observes",
]

Method = TypeVar("Method", bound=Callable[..., Any])

_OBSERVES = "__segue_observes__"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """The node as one object on it sees it: who it is, its own folder, its own version's channels.

    Attributes:
        system: the system that the node belongs to.
        class_name: what the node runs.
        id: the node's id, unique in its system.
        version: the version of the object that was given this.
        state: the object's own folder, and nobody else's; it exists.
        address: where the node is reached, `host:port`.
        attributes: what the operator said of the node, such as `{"zone": "a"}`.
        config: the application's own settings, as the operator gave them (`segue node --config`).
    """

    system: SystemName
    class_name: ClassName
    id: NodeId
    version: Version
    state: Path
    address: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    open_channel: Callable[[str], grpc.aio.Channel]
    take_report: Callable[[Mapping[str, float]], None]

    def channel(self, target: str) -> grpc.aio.Channel:
        """Open a channel to `target` on which every call carries this object's version.

        Args:
            target: a gRPC target, such as `host:port`.

        Returns:
            A channel for generated stubs. Whoever opens it closes it.
        """
        return self.open_channel(target)

    def report(self, **facts: float) -> None:
        """Tell the upgrade server facts about this node, such as `free_bytes=1e9`; the last value of each counts.

        Raises:
            ValueError: a value is not a finite number.
        """
        for name, value in facts.items():
            if not math.isfinite(value):
                raise ValueError(f"fact {name}={value}: report a finite number, or leave it out")
        self.take_report(facts)


class Simulation:
    """An object that answers calls of a version that its node does not run.

    Subclass `PastSimulation` or `FutureSimulation` together with the generated servicer of the
    version that is simulated, and register it as an object registers itself.

    Args:
        node: the node as this simulation sees it; its `state` folder and channels are the simulation's own.
        delegate: the object next to it in the chain, towards the current one.
    """

    def __init__(self, node: Node, delegate: Any) -> None:
        self.node = node
        self.delegate = delegate

    @property
    def state(self) -> Path:
        """The simulation's own folder; it exists."""
        return self.node.state

    async def start(self) -> None:
        """Get ready to answer; observers are already told of calls. What this raises keeps the simulation out."""

    async def stop(self) -> None:
        """Finish writing: no call comes after this, and the folder may be handed on."""


class PastSimulation(Simulation):
    """Answers calls of an older version, after the upgrade."""


class FutureSimulation(Simulation):
    """Answers calls of a newer version, before the upgrade."""


def observes(method: str) -> Callable[[Method], Method]:
    """Have the decorated method told of each call that the delegate answered without fault.

    It is awaited as `observer(request, reply, context)`, after the delegate has answered and before
    the caller hears of it, for calls made in the delegate's own version. Calls that the simulation
    itself makes to its delegate are not told. What it raises fails the call.

    Args:
        method: the name of a unary method of the delegate's type, such as `"Put"`.
    """

    def mark(function: Method) -> Method:
        setattr(function, _OBSERVES, method)
        return function

    return mark


def observers_of(simulation: Simulation) -> dict[str, list[Callable[..., Any]]]:
    """Return the simulation's observers: `{name of the delegate's method: bound methods}`."""
    found: dict[str, list[Callable[..., Any]]] = {}
    for name in dir(type(simulation)):
        observed = getattr(getattr(type(simulation), name), _OBSERVES, None)
        if observed is not None:
            found.setdefault(observed, []).append(getattr(simulation, name))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformContext:
    """What a transform has besides the old folder and the new one.

    Attributes:
        from_version: the version that wrote the old folder.
        to_version: the version that will open the new one.
        simulation: what the future simulation kept, to be read; None if none was installed.
        past: an empty folder, to be filled with what the past simulation will open as its state.
    """

    from_version: Version
    to_version: Version
    simulation: Path | None
    past: Path
