"""The contract with release authors: what an object is given, and what an upgrade is made of.

A release's own code imports this (as `segue`) and nothing else of Segue. It runs inside the
application's process, so only gRPC is imported here.
"""

import math
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
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
    "intercepts",
    "observes",
]

Method = TypeVar("Method", bound=Callable[..., Any])

_OBSERVES = "__segue_observes__"
_INTERCEPTS = "__segue_intercepts__"


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
        delegate: the object next to it in the chain, towards the current one. However it is written, its
            methods are called one way: `await delegate.Get(request, context)`, and
            `async for reply in delegate.List(request, context)`.
    """

    #: Who observes calls of this simulation's version: `{name of a method: observers}`.
    _beyond: Mapping[str, tuple[Callable[..., Awaitable[None]], ...]] = MappingProxyType({})

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

    async def tell(self, method: str, request: Any, reply: Any, context: Any) -> None:
        """Say that what a call of this simulation's version does has happened, though nobody made that call.

        An observer or an interceptor calls this when it has followed a call in the delegate's version
        that changed what this simulation answers. Simulations beyond this one, whose authors know this
        version and not the delegate's, observe it as the call that it stands for.

        Args:
            method: the name of a unary method of this simulation's own type, such as `"Put"`.
            request: of this version, as if it had been called with it.
            reply: of this version, as if it had answered with it.
            context: what the observer or interceptor was given.
        """
        for observer in self._beyond.get(method, ()):
            await observer(request, reply, context)

    def told_beyond(self, observers: Mapping[str, tuple[Callable[..., Awaitable[None]], ...]]) -> None:
        """Know whom `tell` tells from now on; the layer calls this when the chain changes.

        Args:
            observers: `{name of a method of this simulation's type: observers}`
        """
        self._beyond = observers


class PastSimulation(Simulation):
    """Answers calls of an older version, after the upgrade."""


class FutureSimulation(Simulation):
    """Answers calls of a newer version, before the upgrade."""


def observes(method: str, *, changes: bool = True) -> Callable[[Method], Method]:
    """Have the decorated method told of each call that the delegate answered without fault.

    It is awaited as `observer(request, reply, context)`, after the delegate has answered and before
    the caller hears of it, for calls made in the delegate's own version and for calls of other versions
    that reach the delegate through other simulations. Calls that the simulation itself makes to its
    delegate are not told. What it raises fails the call. The call and its observers are one step for
    all calls that pass through this simulation.

    Args:
        method: the name of a unary method of the delegate's type, such as `"Put"`.
        changes: whether the observer changes anything that this simulation answers with, or tells those beyond.
            If not, the calls that it is told of run together; else one after another.

    Source: docs/decisions/0014.
    """
    return _marking(_OBSERVES, method, changes)


def intercepts(method: str, *, changes: bool = True) -> Callable[[Method], Method]:
    """Have the decorated method stand in front of the delegate's, for the calls that `observes` would tell of.

    It is awaited as `interceptor(request, context, proceed)` in place of the delegate's method, and
    returns the reply. `await proceed(request)` has the delegate answer, with the same request or another;
    an interceptor may also answer without it, or raise `Disallowed`. What the delegate aborts with
    comes out of `proceed`. The call and its interceptors are one step, as with observers.

    Args:
        method: the name of a unary method of the delegate's type, such as `"Put"`.
        changes: whether the interceptor, or the delegate's method itself, changes anything that this simulation
            answers with, or tells those beyond. If not, such as for a method that reads, the calls run together;
            else one after another.

    Source: docs/decisions/0014.
    """
    return _marking(_INTERCEPTS, method, changes)


def _marking(kind: str, method: str, changes: bool) -> Callable[[Method], Method]:
    def mark(function: Method) -> Method:
        setattr(function, kind, (method, changes))
        return function

    return mark


@dataclass(frozen=True, slots=True)
class Marked:
    """What a simulation has around one method of its delegate: its own methods, and whether they change anything."""

    functions: tuple[Callable[..., Any], ...] = ()
    changes: bool = False


def observers_of(simulation: Simulation) -> dict[str, Marked]:
    """Return the simulation's observers: `{name of the delegate's method: bound methods}`."""
    return _marked(simulation, _OBSERVES)


def interceptors_of(simulation: Simulation) -> dict[str, Marked]:
    """Return the simulation's interceptors: `{name of the delegate's method: bound methods}`."""
    return _marked(simulation, _INTERCEPTS)


def _marked(simulation: Simulation, kind: str) -> dict[str, Marked]:
    found: dict[str, Marked] = {}
    for name in dir(type(simulation)):
        mark = getattr(getattr(type(simulation), name), kind, None)
        if mark is not None:
            method, changes = mark
            before = found.get(method, Marked())
            found[method] = Marked((*before.functions, getattr(simulation, name)), before.changes or changes)
    return found


def _nobody_asks(
    *, items_done: int | None, items_total: int | None, bytes_done: int | None, bytes_total: int | None
) -> None:
    """Take progress where nobody watches, such as in an author's own test."""


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
    take_progress: Callable[..., None] = _nobody_asks
    make_link: Callable[[Path, Path], None] = os.link

    def progress(
        self,
        *,
        items_done: int | None = None,
        items_total: int | None = None,
        bytes_done: int | None = None,
        bytes_total: int | None = None,
    ) -> None:
        """Say how far the transform is, for operators. Cheap: about five times a second it is passed on.

        Args:
            items_done: how many of whatever is counted are done so far; what is left out stays as it was.
            items_total: how many there are.
            bytes_done: how many bytes are done so far.
            bytes_total: how many there are.
        """
        self.take_progress(
            items_done=items_done, items_total=items_total, bytes_done=bytes_done, bytes_total=bytes_total
        )

    def link(self, source: Path, target: Path) -> None:
        """Have a file of the old state as it is in the new one, without a copy: it gets a second name (a hard link).

        The name appears when the transform has returned, so that no transform can change the old file by it. An
        object of the new version must not write into such a file either, but replace it: the old version would
        find what it wrote, if it goes back in service. `os.link` from the old folder fails.

        Args:
            source: a file below the old folder or the simulation's.
            target: the name below the new folder or the past simulation's; its folder exists, it does not.

        Raises:
            FileNotFoundError: there is no such file, or no such folder.
            FileExistsError: the target exists.
        """
        self.make_link(source, target)
