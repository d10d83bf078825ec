"""The layer alone: the versions that a server answers which has neither an agent nor an upgrade server."""

import asyncio
import logging
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import grpc

from segue.author import Node, Simulation
from segue.errors import OperatorError, ReleaseError, SegueError
from segue.layer.chain import Link
from segue.layer.grpc_answer import Answer
from segue.layer.grpc_collector import Collector, MethodHandler, behaviour_of, service_of
from segue.layer.grpc_live_chain import LiveChain, Maker
from segue.layer.grpc_node_channel import node_channel
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest, label_source, unlabelled_default
from segue.layer.parked import ParkLimits
from segue.layer.usage import Usage
from segue.model.ids import ClassName, NodeId, SystemName, Version
from segue.model.usage import AnsweredBy

_log = logging.getLogger(__name__)

#: Makes a simulation of its node and its delegate: a subclass of `PastSimulation` or `FutureSimulation`.
MakeSimulation: TypeAlias = Callable[[Node, Any], Simulation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a team says of its server's versions.

    Attributes:
        version: of the services that the server has.
        past: simulations of older versions, the one right below `version` first.
        future: simulations of newer versions, the one right above `version` first.
        default: the version of calls without a label, where several versions have their method.
        state: where simulations have their folders; None for simulations that keep nothing.
        channel_options: gRPC's, of the channels that simulations open.

    Raises:
        OperatorError: `version` is none, there are more past simulations than versions below it, or
            `default` is a version that is not answered.
    """

    version: int
    past: Sequence[MakeSimulation]
    future: Sequence[MakeSimulation]
    default: int | Literal["current"]
    state: Path | str | None
    channel_options: Sequence[tuple[str, Any]]

    def __post_init__(self) -> None:
        if self.version < 1:
            raise OperatorError(f"version {self.version}: versions are whole numbers, and begin with 1")
        oldest, newest = self.version - len(self.past), self.version + len(self.future)
        if oldest < 1:
            raise OperatorError(
                f"version {self.version} with {len(self.past)} past simulations: versions begin with 1, "
                f"so give at most {self.version - 1}"
            )
        default = unlabelled_default(self.default)
        if default != "current" and not oldest <= default <= newest:
            raise OperatorError(
                f"default {default} for calls without a label: the versions here are {oldest} to {newest}: "
                'use one of these, or "current"'
            )


class Alone:
    """The services of one server as the one object of a chain, with its simulations; it lives in one event loop.

    Attributes:
        services: takes the services.
        dispatch: answers calls; those of services that no version has are left to other handlers.
        usage: who called.
        live: the chain.
    """

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._version = Version(setting.version)
        self.services = Services()
        self.usage = Usage()
        self._newest = Newest(Version(setting.version + len(setting.future)))
        self.dispatch = AloneDispatch(
            self.services.names,
            usage=self.usage,
            newest=self._newest,
            on_newer=_nobody_installs,
            default=unlabelled_default(setting.default),
            parking=ParkLimits(wait_s=0),
        )
        self.live = LiveChain(self.dispatch)
        self._kept: tempfile.TemporaryDirectory[str] | None = None
        self._state = Path()
        self._state_of = "stopped"
        #: Held while the chain changes; of the event loop that `start` was awaited in.
        self._changing = asyncio.Lock()
        #: The simulation that was made last, for people.
        self._coming = ""

    @property
    def is_started(self) -> bool:
        """Whether it answers calls."""
        return self._state_of == "started"

    async def start(self) -> None:
        """Start the simulations, past ones first, each from the object outwards, and let calls in.

        Raises:
            OperatorError: no service was added, or this was started already.
            ReleaseError: a simulation does not start (says which and why); none is started then.
        """
        if self._state_of != "stopped":
            raise OperatorError(f"versions {self.live.versions} are {self._state_of} already: start them once")
        if not self.services.collector.methods:
            raise OperatorError(
                f"version {self._version} has no service: "
                "call the generated add_…Servicer_to_server(servicer, versions) before start()"
            )
        self._state_of = "starting"
        self._changing = asyncio.Lock()
        try:
            await self._start()
        except BaseException as error:
            self._state_of = "stopped"
            self._forget_state()
            if isinstance(error, SegueError) or not isinstance(error, Exception):
                raise
            raise ReleaseError(f"{self._coming} did not start: {error!r}; mend it, or leave it out") from error
        self._state_of = "started"

    async def _start(self) -> None:
        if self._setting.state is None:
            self._kept = tempfile.TemporaryDirectory(prefix="segue-", ignore_cleanup_errors=True)
            self._state = Path(self._kept.name)
        else:
            self._state = Path(self._setting.state)
        current = Link(version=self._version, role="current", instance=self.services)
        past = [self._maker(make, "past", self._version - at) for at, make in enumerate(self._setting.past, start=1)]
        await self.live.start(current, past)
        try:
            for at, make in enumerate(self._setting.future, start=1):
                await self.live.install(self._maker(make, "future", self._version + at))
        except BaseException:
            await self._stop_quietly()
            raise

    async def _stop_quietly(self) -> None:
        try:
            await self.live.stop()
        except Exception:
            _log.exception("a simulation could not be stopped")
        self.live.hide()

    async def retire(self, oldest: int, timeout_s: float) -> None:
        """Answer no version below `oldest` any more, disturbing no call in flight.

        Raises:
            OperatorError: it was not started.
            TimeoutError: calls of retired versions are still inside; no new one comes to them.
        """
        async with self._changing:
            if not self.is_started:
                raise OperatorError(f"versions below {oldest} cannot be retired: start() first")
            await self.live.retire(Version(oldest), timeout_s)

    async def stop(self) -> None:
        """Stop the simulations. Safe to repeat.

        Raises:
            Exception: what a simulation's `stop()` raised.
        """
        if not self.is_started:
            return
        self._state_of = "stopped"
        try:
            await self.live.stop()
        finally:
            self._forget_state()

    def _forget_state(self) -> None:
        if self._kept is not None:
            self._kept.cleanup()
            self._kept = None

    def _maker(self, make: MakeSimulation, role: AnsweredBy, number: int) -> Maker:
        version = Version(number)
        return Maker(make=partial(self._simulation, make, role, version), version=version, since=version)

    def _simulation(self, make: MakeSimulation, role: AnsweredBy, version: Version, delegate: Any) -> Simulation:
        self._coming = f"the {role} simulation {getattr(make, '__qualname__', make)} of version {version}"
        # Not one folder for a version: it may be a future one now, and when it has been the server's own a past one.
        state = self._state / role / str(version)
        state.mkdir(parents=True, exist_ok=True)
        label = label_source(version, self._newest)
        simulation = make(
            Node(
                system=SystemName(""),
                class_name=ClassName(""),
                id=NodeId(""),
                version=version,
                state=state,
                address="",
                open_channel=partial(node_channel, label=label, options=self._setting.channel_options),
                take_report=lambda _: None,
            ),
            delegate,
        )
        if not isinstance(simulation, Simulation):
            raise ReleaseError(
                f"{self._coming} is {simulation!r}: derive it from segue.PastSimulation or segue.FutureSimulation"
            )
        return simulation

    def __repr__(self) -> str:
        return f"version {self._version}, answers {self.live.versions}"


def _nobody_installs(_: Version) -> None:
    """A caller's claim that there is a newer version is of no use here."""


class AloneDispatch(Dispatch):
    """A dispatch that shares its server with others: it leaves them what is of no service of its own.

    Args:
        services: says whose calls are its own before it shows a chain.
        given: `Dispatch`'s own.
    """

    def __init__(self, services: Callable[[], Collection[str]], **given: Any) -> None:
        super().__init__(**given)
        self._services = services

    def find(
        self, handler_call_details: grpc.HandlerCallDetails, *, relayed: bool = False
    ) -> "tuple[Answer | MethodHandler | None, str | None]":
        """Find what answers a call; it is not looked at if its service is none of this dispatch's."""
        if not self.owns(handler_call_details.method):
            return None, None
        return super().find(handler_call_details, relayed=relayed)

    def owns(self, method: str) -> bool:
        """Say whether a method's service is one of this dispatch's."""
        table = self._table
        return service_of(method) in (self._services() if table is None else table.services)


class Services:
    """The services of a server, as the one object of a chain."""

    def __init__(self) -> None:
        self.collector = Collector()

    def register(self, server: Collector) -> None:
        """Have `server` take the services."""
        server.methods.update(self.collector.methods)

    def names(self) -> set[str]:
        """Return the services' full names, such as `blockstore.BlockStore`."""
        return {service_of(method) for method in self.collector.methods}

    def add(self, service_name: str, method_handlers: Mapping[str, MethodHandler]) -> None:
        """Take a service's methods."""
        self.collector.add_registered_method_handlers(service_name, method_handlers)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the servicer that has it: what simulations ask their delegate for."""
        if name.startswith("__"):
            raise AttributeError(name)
        found: dict[int, Any] = {}
        for handler in self.collector.methods.values():
            servicer = getattr(behaviour_of(handler), "__self__", None)
            if servicer is not None and hasattr(servicer, name):
                found[id(servicer)] = servicer
        if not found:
            raise AttributeError(f"no servicer of this server has {name}")
        if len(found) > 1:
            whose = " and ".join(sorted(type(servicer).__qualname__ for servicer in found.values()))
            raise AttributeError(f"{name} is of {whose}: give each of these services versions of its own")
        [servicer] = found.values()
        return getattr(servicer, name)
