"""The layer alone on gRPC's threaded server, for which no event loop runs yet."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import grpc

from segue.errors import OperatorError
from segue.layer.alone.grpc_alone import Alone, MakeSimulation, Setting
from segue.layer.alone.grpc_loop_call import in_loop
from segue.layer.alone.grpc_native_call import is_native, natively
from segue.layer.alone.loop_thread import LoopOverError, LoopThread
from segue.layer.grpc_answer import Answer
from segue.layer.grpc_collector import MethodHandler, behaviour_of
from segue.layer.grpc_refusal import refuse_plainly, stopped
from segue.layer.threads.workers import WORKERS
from segue.layer.usage import Usage
from segue.model.ids import Version
from segue.model.usage import CallCounts, CallKey

#: Handlers that are kept, one for each method, version and caller that gives its name. Far smaller, and most
#: calls have theirs made anew.
_HANDLERS_LIMIT = 4096


class SyncVersions:
    """Answers calls of other versions beside a `grpc.server`'s own; it takes the server's place as `Versions` does.

        versions = segue.SyncVersions(server, version=2, past=[Version1])
        shop_pb2_grpc.add_ShopServicer_to_server(Shop(), versions)
        versions.start()

    Servicers and simulations may be plain or asynchronous. Calls of the server's own version to plain methods
    that no simulation observes or intercepts run in the server's threads, as ever. All others run in an event
    loop, which has a thread of its own from `start` to `stop`, while one of the server's waits; plain methods
    then run in further threads. `node` is what it is for `Versions`.

    Args:
        server: a `grpc.Server` that has not started.
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
        server: grpc.Server,
        *,
        version: int,
        past: Sequence[MakeSimulation] = (),
        future: Sequence[MakeSimulation] = (),
        default: int | Literal["current"] = "current",
        state: Path | str | None = None,
        channel_options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        self._version = Version(version)
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
        self._loop: LoopThread | None = None
        #: Whether calls are let in.
        self._answers = False
        #: Calls that did not come to the loop: counted in the server's threads, under the lock.
        self._native = Usage()
        self._counting = threading.Lock()
        self._handler_for: Callable[[Answer, str | None], MethodHandler] = lru_cache(_HANDLERS_LIMIT)(self._make)
        server.add_generic_rpc_handlers((_Handler(self._service),))

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
        counts: Counter[CallKey] = Counter()
        with self._counting:
            counts.update(self._native.counts())
        loop = self._loop
        try:
            counts.update(self._alone.usage.counts() if loop is None else loop.run(self._count))
        except LoopOverError:  # it is being stopped: nothing but calls that are cancelled is still to be counted
            counts.update(self._alone.usage.counts())
        return dict(counts)

    async def _count(self) -> CallCounts:
        return self._alone.usage.counts()

    def start(self) -> None:
        """Start the simulations, and let calls in: before the server starts, or their callers are refused.

        Raises:
            OperatorError: no service was added, or this was started already.
            ReleaseError: a simulation does not start, or observes what its delegate has not (says which and
                why); none is started then, and the server is not to start.
        """
        if self._loop is not None:
            raise OperatorError(f"versions {self.answered} are started already: start them once")
        loop = LoopThread("segue-versions")
        loop.start()
        try:
            loop.run(self._alone.start)
        except BaseException:
            loop.stop(_nothing, timeout_s=0)
            raise
        self._loop = loop
        self._answers = True

    def retire(self, oldest: int, *, timeout_s: float = 30.0) -> None:
        """Answer no version below `oldest` any more, disturbing no call in flight. Safe to repeat.

        Args:
            oldest: of the versions that past simulations are to answer.
            timeout_s: seconds that calls inside have to end.

        Raises:
            OperatorError: this was not started, or is being stopped.
            TimeoutError: they have not; no new call comes to these simulations. Try again later.
        """
        if self._loop is None:
            raise OperatorError(f"versions below {oldest} cannot be retired: start() first")
        try:
            self._loop.run(partial(self._alone.retire, oldest, timeout_s))
        except LoopOverError:
            raise OperatorError(f"versions below {oldest} cannot be retired: they are being stopped") from None
        self._handler_for.cache_clear()  # type: ignore[attr-defined]

    def stop(self, *, timeout_s: float = 30.0) -> None:
        """Stop the simulations, and end the threads: after the server has stopped. Safe to repeat.

        Calls that are inside are cancelled, but for those that run in the server's threads.

        Args:
            timeout_s: seconds that they and the simulations have to end.

        Raises:
            TimeoutError: they have not. Calls are refused from now on; try again later.
            Exception: what a simulation's `stop()` raised.
        """
        self._answers = False
        loop = self._loop
        if loop is None:
            return
        try:
            if not loop.stop(self._alone.stop, timeout_s):
                raise TimeoutError(f"after {timeout_s} s calls or simulations are still at work: stop() again")
        except TimeoutError:
            raise
        except BaseException:
            self._loop = None
            raise
        self._loop = None
        WORKERS.close()

    def _service(self, details: grpc.HandlerCallDetails) -> "MethodHandler | None":
        """Say how the server is to handle a call; the server asks in one thread."""
        loop = self._loop
        if loop is None or not self._answers:
            return _NOT_NOW if self._alone.dispatch.owns(details.method) else None
        way, caller = self._alone.dispatch.find(details)
        if isinstance(way, Answer):
            return self._handler_for(way, caller)
        if way is None:
            return None
        return in_loop(loop, behaviour_of(way), unary_request=False, unary_reply=False)

    def _make(self, answer: Answer, caller: str | None) -> MethodHandler:
        if is_native(answer):
            version, method = answer.key
            with self._counting:
                tally = self._native.tally(version, method, answer.answered_by, answer.from_node, self._version)
            return natively(answer, tally, self._counting, caller)
        assert self._loop is not None
        return in_loop(
            self._loop,
            partial(answer.serve, caller=caller),
            unary_request=answer.unary_request,
            unary_reply=answer.unary_reply,
        )

    def __repr__(self) -> str:
        return f"SyncVersions({self._alone!r})"


class _Handler(grpc.GenericRpcHandler):
    def __init__(self, service: "Callable[[grpc.HandlerCallDetails], MethodHandler | None]") -> None:
        self._service = service

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "MethodHandler | None":
        return self._service(handler_call_details)


def _refuse(_: object, context: grpc.ServicerContext) -> Any:
    refuse_plainly(stopped(), context)


#: The handler of calls that come before the start, or after the stop.
_NOT_NOW: MethodHandler = grpc.stream_stream_rpc_method_handler(_refuse)


async def _nothing() -> None:
    pass
