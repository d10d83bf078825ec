"""The layer alone: a `grpc.aio` server that a team has already answers more versions than its own."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import grpc.aio

from segue.layer.alone.grpc_alone import Alone, MakeSimulation, Setting
from segue.layer.grpc_collector import MethodHandler
from segue.model.usage import CallCounts


class Versions:
    """Answers calls of other versions beside a server's own; it takes the server's place when services are added.

        versions = segue.Versions(server, version=2, past=[Version1])
        shop_pb2_grpc.add_ShopServicer_to_server(Shop(), versions)
        await versions.start()

    All services that are added to it are together the object to which simulations delegate. Services that no
    version of it has are the server's own, as ever: a health service, or those of other `Versions`.

    A simulation's `node` says what is known here: `version`, the folder `state`, and `channel(target)` with
    the simulation's label. Its `system`, `class_name`, `id` and `address` are empty, `attributes` and
    `config` too, and what it reports goes nowhere.

    Args:
        server: a `grpc.aio.Server` that has not started.
        version: the version of the services that are added, 1 or later.
        past: simulations of older versions, the one right below `version` first: classes, or whatever else
            is called with a node and a delegate.
        future: simulations of newer versions, the one right above `version` first.
        default: the version of calls without a label, where several versions have their method.
        state: where simulations have their folders, `past/1` or `future/3`; None for simulations that keep
            nothing: what they write is gone when they stop.
        channel_options: of channels that simulations open with `self.node.channel(target)`.

    Raises:
        OperatorError: there are more past simulations than versions below `version`, or `default` is a version
            that is not answered.
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
        channel_options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        self._alone = Alone(
            Setting(
                version=version,
                past=tuple(past),
                future=tuple(future),
                default=default,
                state=state,
                channel_options=channel_options,
            )
        )
        server.add_generic_rpc_handlers((self._alone.dispatch,))

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Take services, as the server would; generated code calls this."""
        self._alone.services.collector.add_generic_rpc_handlers(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, MethodHandler]) -> None:
        """Take a service's methods, as the server would; generated code calls this."""
        self._alone.services.add(service_name, method_handlers)

    @property
    def answered(self) -> list[int]:
        """The versions that are answered, oldest first."""
        return list(self._alone.live.versions)

    def counts(self) -> CallCounts:
        """Return who called with which version since the process began."""
        return self._alone.usage.counts()

    async def start(self) -> None:
        """Start the simulations, and let calls in: before the server starts, or their callers are refused.

        Raises:
            OperatorError: no service was added, or this was started already.
            ReleaseError: a simulation does not start, or observes what its delegate has not (says which and
                why); none is started then, and the server is not to start.
        """
        await self._alone.start()

    async def retire(self, oldest: int, *, timeout_s: float = 30.0) -> None:
        """Answer no version below `oldest` any more, disturbing no call in flight. Safe to repeat.

        Args:
            oldest: of the versions that past simulations are to answer.
            timeout_s: seconds that calls inside have to end.

        Raises:
            OperatorError: this was not started.
            TimeoutError: they have not; no new call comes to these simulations. Try again later.
        """
        await self._alone.retire(oldest, timeout_s)

    async def stop(self) -> None:
        """Stop the simulations: after the server has stopped. Safe to repeat.

        Raises:
            Exception: what a simulation's `stop()` raised.
        """
        await self._alone.stop()

    def __repr__(self) -> str:
        return f"Versions({self._alone!r})"
