"""The layer alone: a `grpc.aio` server that a team has already answers more versions than its own."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import grpc.aio

from segue.author import Node, Simulation
from segue.errors import OperatorError
from segue.layer.chain import Link
from segue.layer.grpc_collector import Collector, MethodHandler, behaviour_of
from segue.layer.grpc_live_chain import LiveChain, Maker
from segue.layer.grpc_node_channel import node_channel
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest, label_source, unlabelled_default
from segue.layer.usage import Usage
from segue.model.ids import ClassName, NodeId, SystemName, Version
from segue.model.usage import CallCounts

#: Makes a simulation of its node and its delegate: a subclass of `PastSimulation` or `FutureSimulation`.
MakeSimulation: TypeAlias = Callable[[Node, Any], Simulation]


class Versions:
    """Answers calls of other versions beside a server's own; it takes the server's place when services are added.

        versions = segue.Versions(server, version=2, past=[Version1])
        shop_pb2_grpc.add_ShopServicer_to_server(Shop(), versions)
        await versions.start()

    All services that are added to it are together the object to which simulations delegate. Services that no
    version of it has are the server's own, as ever.

    Args:
        server: a `grpc.aio.Server` that has not started.
        version: the version of the services that are added, 1 or later.
        past: simulations of older versions, the one right below `version` first.
        future: simulations of newer versions, the one right above `version` first.
        default: the version of calls without a label, where several versions have their method.
        state: where simulations have their folders; None for simulations that keep nothing: what they write
            is gone when the process ends.
        channel_options: of channels that simulations open with `self.node.channel(target)`.

    Raises:
        OperatorError: there are more past simulations than versions below `version`, or `default` is no version.
    """

    def __init__(
        self,
        server: grpc.aio.Server,
        *,
        version: int,
        past: Sequence[MakeSimulation] = (),
        future: Sequence[MakeSimulation] = (),
        default: int | Literal["current"] = "current",
        state: Path | str | None = None,
    ) -> None:
        if version - len(past) < 1:
            raise OperatorError(
                f"version {version} with {len(past)} past simulations: versions begin with 1, "
                f"so give at most {version - 1}"
            )
        self._version = Version(version)
        self._past = past
        self._future = future
        self._services = _Services()
        self._usage = Usage()
        self._newest = Newest(self._version)
        self._dispatch = Dispatch(
            usage=self._usage,
            newest=self._newest,
            on_newer=lambda _: None,
            default=unlabelled_default(default),
            park_limit_s=0.0,
        )
        self._live = LiveChain(self._dispatch)
        self._kept = tempfile.TemporaryDirectory(prefix="segue-") if state is None else None
        self._state = Path(self._kept.name if self._kept else state or "")
        server.add_generic_rpc_handlers((self._dispatch,))

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Take services, as the server would; generated code calls this."""
        self._services.collector.add_generic_rpc_handlers(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, MethodHandler]) -> None:
        """Take a service's methods, as the server would; generated code calls this."""
        self._services.collector.add_registered_method_handlers(service_name, method_handlers)

    @property
    def answered(self) -> list[int]:
        """The versions that are answered, oldest first."""
        return list(self._live.versions)

    def counts(self) -> CallCounts:
        """Return who called with which version since the process began."""
        return self._usage.counts()

    async def start(self) -> None:
        """Start the simulations, and let calls in: before the server starts, or their callers are refused.

        Raises:
            ReleaseError: a simulation cannot be registered, or observes what its delegate has not.
            Exception: what a simulation's `start()` raised.
        """
        current = Link(version=self._version, role="current", instance=self._services)
        past = [self._maker(make, self._version - at) for at, make in enumerate(self._past, start=1)]
        await self._live.start(current, past)
        for at, make in enumerate(self._future, start=1):
            await self._live.install(self._maker(make, self._version + at))

    async def retire(self, oldest: int, *, timeout_s: float = 30.0) -> None:
        """Answer no version below `oldest` any more, disturbing no call in flight.

        Args:
            oldest: of the versions that past simulations are to answer.
            timeout_s: seconds that calls inside have to end.

        Raises:
            TimeoutError: they have not; no new call comes to these simulations. Try again later.
        """
        await self._live.retire(Version(oldest), timeout_s)

    async def stop(self) -> None:
        """Stop the simulations: after the server has stopped.

        Raises:
            Exception: what a simulation's `stop()` raised.
        """
        await self._live.stop()
        if self._kept:
            self._kept.cleanup()

    def _maker(self, make: MakeSimulation, number: int) -> Maker:
        version = Version(number)
        return Maker(make=partial(self._simulation, make, version), version=version, since=version)

    def _simulation(self, make: MakeSimulation, version: Version, delegate: Any) -> Simulation:
        state = self._state / str(version)
        state.mkdir(parents=True, exist_ok=True)
        label = label_source(Newest(version), self._newest)
        return make(
            Node(
                system=SystemName(""),
                class_name=ClassName(""),
                id=NodeId(""),
                version=version,
                state=state,
                address="",
                open_channel=partial(node_channel, label=label),
                take_report=lambda _: None,
            ),
            delegate,
        )

    def __repr__(self) -> str:
        return f"Versions({self._version}, answers {self.answered})"


class _Services:
    """The services of a server, as the one object of a chain."""

    def __init__(self) -> None:
        self.collector = Collector()

    def register(self, server: Collector) -> None:
        server.methods.update(self.collector.methods)

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the first servicer that has it: what simulations ask their delegate for."""
        for handler in self.collector.methods.values():
            servicer = getattr(behaviour_of(handler), "__self__", None)
            if servicer is not None and hasattr(servicer, name):
                return getattr(servicer, name)
        raise AttributeError(name)
