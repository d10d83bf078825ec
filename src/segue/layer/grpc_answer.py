"""How a method of an object is called: one `Answer` for each (version, method, kind of caller).

An answer takes bytes and gives bytes, whatever the method's kind. So a call that gRPC hands over at
once and a call that was parked before anything of its kind was known go the same way.
"""

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, ClassVar, TypeAlias

import grpc
import grpc.aio

from segue.errors import Disallowed
from segue.layer.gate import Gate
from segue.layer.grpc_abort import AbortError, send
from segue.layer.grpc_collector import MethodHandler
from segue.layer.grpc_context import (
    Context,
    Requests,
    StreamContext,
    TypedContext,
    UnreadableRequestError,
    outcome_of,
    outcome_when_cancelled,
    reading,
    writing,
)
from segue.layer.grpc_generating import as_generator
from segue.layer.grpc_hooks import (
    Around,
    Hooks,
    Interceptor,
    InterceptorFailedError,
    ObserverFailedError,
    Passage,
    Spot,
    tell,
)
from segue.layer.grpc_order import Claims
from segue.layer.grpc_refusal import Refusal, RefusalReason, refuse
from segue.layer.grpc_step import within_step
from segue.layer.stay import EndedError, Stay
from segue.layer.steps import Steps
from segue.layer.tracing import Mark, marked
from segue.layer.usage import Tally
from segue.model.ids import Version
from segue.model.usage import AnsweredBy

_log = logging.getLogger(__name__)

#: What the table is keyed by: a version, and a method's path.
Key: TypeAlias = tuple[Version, str]
#: What becomes of a call that finds the gate closed: (answer, request's bytes if read, context, who calls) ->
#: reply's bytes.
Late: TypeAlias = Callable[["Answer", bytes, Context, str | None], Awaitable[bytes | None]]
#: Makes this node's refusals: (reason, the caller's version, message for people).
Refusing: TypeAlias = Callable[[RefusalReason, Version | None, str], Refusal]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A method of one object of the chain.

    Attributes:
        spot: which it is.
        handler: as the author's object registered it.
        behaviour: the author's method, asynchronous.
        claims: what a call of it must be in order with; None for nothing.
        interceptors: what stands in front of it.
        is_hooked: whether it is observed or intercepted.
        is_unary: whether it has one request and one reply.
    """

    spot: Spot
    handler: MethodHandler
    behaviour: Callable[..., Any]
    claims: Claims | None
    interceptors: tuple[Interceptor, ...]
    is_hooked: bool
    is_unary: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What an answer has around it.

    Attributes:
        key: the caller's version, and the method's path.
        from_node: whether its callers are nodes.
        gate: where its calls go in and out.
        tally: {who: {outcome: calls}}, to be added to.
        hooks: observers, as the chain has them now: looked at when a call ends, so that a simulation which came
            meanwhile is told of calls that were inside.
        steps: who waits for whom.
        late: what to do with a call that came to the open gate and finds it closed.
        answered_by: the kind of object that answers.
        refusing: makes the refusal of a call that the object did not answer.
        mark: tells the current span of each call; None while nobody traces.
    """

    key: Key
    from_node: bool
    gate: Gate
    tally: Tally
    hooks: Hooks
    steps: Steps
    late: Late
    answered_by: AnsweredBy
    refusing: Refusing
    mark: Mark | None = None


#: Callers whose handlers an answer keeps; it makes others' anew for each call. Far smaller, and it makes most anew.
_HANDLERS_LIMIT = 256


class Answer:
    """Answers the calls of one method in one version for one kind of caller.

    Args:
        method: the author's method.
        around: gate, counts, hooks.
    """

    #: How gRPC is told of a method of this kind.
    _make_handler: ClassVar[Callable[..., MethodHandler]]
    #: Whether the caller sends exactly one message.
    unary_request: ClassVar[bool]
    #: Whether the caller gets exactly one message.
    unary_reply: ClassVar[bool]

    def __init__(self, method: Method, around: Surroundings) -> None:
        self.method = method
        self.key = around.key
        self.from_node = around.from_node
        self.gate = around.gate
        self._behaviour = method.behaviour
        self._deserialize = reading(method.handler.request_deserializer)
        self._serialize = writing(method.handler.response_serializer)
        self._spot = method.spot
        self._claims = method.claims
        self._steps = around.steps
        self._hooks = around.hooks
        self._tally = around.tally
        self._late = around.late
        self.answered_by = around.answered_by
        self._refusing = around.refusing
        self.mark = around.mark
        self._go: Callable[[Any, Context], Awaitable[bytes | None]] = marked(around.mark, self._run)
        self._generates = inspect.isasyncgenfunction(method.behaviour)
        #: What gRPC is given: it reads the request's bytes itself and then calls `serve`.
        self.handler: MethodHandler = as_generator(type(self)._make_handler(self.serve))
        #: The same for a caller that gives its name.
        self.handler_for: Callable[[str], MethodHandler] = lru_cache(_HANDLERS_LIMIT)(self._handler_for)

    def _handler_for(self, caller: str) -> MethodHandler:
        return as_generator(type(self)._make_handler(partial(self.serve, caller=caller)))

    async def serve(self, request: Any, context: Context, caller: str | None = None) -> bytes | None:
        """Answer a call, count it, and let nothing of an object's failure out but that it failed.

        Args:
            request: the request's bytes if there is exactly one; else it is not looked at, as `context` reads.
            context: gRPC's, which reads and writes bytes.
            caller: who calls, a name or a peer as gRPC writes it; None for the context's own peer.

        Returns:
            The reply's bytes if there is exactly one; else None, as the replies were written.
        """
        gate = self.gate
        if not gate.enter():
            return await self._late(self, request, context, caller)
        outcome = "UNKNOWN"
        try:
            claims = self._claims
            if claims is None:
                reply = await self._go(request, context)
            else:
                reply = await within_step(self._steps, claims, self.from_node, partial(self._go, request, context))
            outcome = "OK" if context.code() is None else outcome_of(context)
            return reply
        except asyncio.CancelledError as error:
            if not _is_stray(context):
                outcome = outcome_when_cancelled(context)
                raise
            version, method = self.key
            _log.error(
                "%s: the %s of version %d was cancelled", method, _NOUNS[self.answered_by], version, exc_info=error
            )
            outcome = "CANCELLED"
            raise await self._status_for(_cancelled(), context) from None
        except EndedError as ended:
            outcome = "UNAVAILABLE"
            self._log_ended(ended)
            raise
        except Exception as error:
            shown = await self._status_for(error, context)
            if isinstance(shown, grpc.aio.InternalError):
                outcome = "CANCELLED"  # the caller was gone when we wrote
            elif context.done():
                outcome = outcome_of(context)
            raise shown from shown.__cause__
        finally:
            self._tally[caller or context.peer()][outcome] += 1
            gate.leave()

    async def _run(self, request: Any, context: Context) -> bytes | None:
        """Call the object's method as its kind is called."""
        raise NotImplementedError  # not an ABC, whose isinstance would be the dearest step of a call's dispatch

    async def _status_for(self, error: Exception, context: Context) -> Exception:
        """Send the status that `error` means, and return what to raise so that gRPC sends no other."""
        if context.done() or (isinstance(error, _ENDED) and not isinstance(error, AbortError)):
            return error
        try:
            if isinstance(error, AbortError):
                await send(error, context)
            refusal = self._refusal_for(error)
            if refusal.reason in _FAILURES and outcome_of(context) != "OK":  # gRPC's idiom: set_code, then raise
                await context.abort(context.code(), context.details() or refusal.message)
            await refuse(refusal, context)
        except grpc.aio.BaseError as ended:
            return ended

    def _refusal_for(self, error: Exception) -> Refusal:
        """Say what the caller is told of `error`, and log what the caller is not told."""
        version, method = self.key
        whose = f"the {_NOUNS[self.answered_by]} of version {version}"
        match error:
            case Disallowed():
                return self._refusing(RefusalReason.DISALLOWED, version, str(error))
            case LeftOutError():
                return self._refusing(RefusalReason.NO_SUCH_METHOD, version, f"segue: {error}")
            case UnreadableRequestError():
                message = f"segue: the request is no message of version {version}'s {method}"
                return self._refusing(RefusalReason.UNREADABLE_REQUEST, version, message)
            case ObserverFailedError():
                _log.error("%s of version %d: %s", method, version, error, exc_info=error.__cause__)
                message = "segue: a simulation that observes this call failed; its node's log says why"
                return self._refusing(RefusalReason.OBSERVER_FAILED, version, message)
            case InterceptorFailedError():
                _log.error("%s of version %d: %s", method, version, error, exc_info=error.__cause__)
                message = "segue: a simulation that intercepts this call failed; its node's log says why"
                return self._refusing(RefusalReason.INTERCEPTOR_FAILED, version, message)
        _log.error("%s: %s failed", method, whose, exc_info=error)
        reason = RefusalReason.OBJECT_FAILED if self.answered_by == "current" else RefusalReason.SIMULATION_FAILED
        return self._refusing(reason, version, f"segue: {whose} failed; its node's log says why")

    def _log_ended(self, ended: EndedError) -> None:
        """Log what a method raised when it was told to end, unless that is what it should."""
        error = ended.__cause__
        if isinstance(error, Exception) and not isinstance(error, AbortError | grpc.aio.BaseError):
            _log.warning("%s of version %d failed when it was told to end", self.key[1], self.key[0], exc_info=error)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.key[0]}, {self.key[1]}, {self.gate!r})"


def _is_stray(context: Context) -> bool:
    """Say whether a cancellation is of something else than the call: gRPC would send its caller no status at all."""
    task = asyncio.current_task()
    return task is not None and not task.cancelling() and not context.done()


def _cancelled() -> AbortError:
    return AbortError(grpc.StatusCode.CANCELLED, "cancelled by the server")


#: What gRPC raises when it has sent the status, or could not; its `UsageError` is a fault as any other.
_ENDED = (grpc.aio.AbortError, grpc.aio.InternalError)

#: What has been logged, and is told as no more than that it happened.
_FAILURES = frozenset({RefusalReason.OBJECT_FAILED, RefusalReason.SIMULATION_FAILED})

_NOUNS: dict[AnsweredBy, str] = {"past": "past simulation", "current": "object", "future": "future simulation"}


class LeftOutError(Exception):
    """The author did not write this method of a generated servicer."""


class _UnaryUnary(Answer):
    """An unhooked method. The current object's gets gRPC's own context, which costs nothing."""

    _make_handler = staticmethod(grpc.unary_unary_rpc_method_handler)
    unary_request = True
    unary_reply = True

    async def _run(self, request: bytes, context: Context) -> bytes:
        message = self._deserialize(request)
        if self.answered_by == "current":
            reply = await self._behaviour(message, context)
        else:
            typed = TypedContext(context, self._deserialize, self._serialize)
            try:
                reply = await self._behaviour(message, typed)
            finally:
                await typed.finish()
        if context.code() is not None and outcome_of(context) != "OK":
            return b""
        raw = self._serialize(reply)
        if self._spot in self._hooks:  # a simulation came while the call was inside
            observers = [observer for hook in self._hooks[self._spot] for observer in hook.observers]
            await tell(observers, message, reply, TypedContext(context, self._deserialize, self._serialize))
        return raw


class _Hooked(_UnaryUnary):
    """A unary method that is observed or intercepted."""

    def __init__(self, method: Method, around: Surroundings) -> None:
        super().__init__(method, around)
        self._around = Around(
            method=method.behaviour,
            spot=method.spot,
            interceptors=method.interceptors,
            live=around.hooks,
            serialize=self._serialize,
        )

    async def _run(self, request: bytes, context: Context) -> bytes:
        typed = TypedContext(context, self._deserialize, self._serialize)
        passage = Passage(self._around, typed)
        try:
            reply = await passage.go(self._deserialize(request))
        finally:
            await typed.finish()
        return b"" if outcome_of(context) != "OK" else passage.bytes_of(reply)


class _Streaming(Answer):
    """A method of another kind: a call of it can be ended when its node goes quiet."""

    unary_reply = False

    async def serve(self, request: Any, context: Context, caller: str | None = None) -> bytes | None:
        """Answer a call, as any; if it was ended, tell its caller so.

        Once it has left its gate: a caller who does not read does not get the status, and nobody waits for that.
        """
        reply: bytes | None = None
        try:
            reply = await super().serve(request, context, caller)
        except EndedError:
            if context.done():
                raise asyncio.CancelledError from None  # its caller has gone meanwhile, as gRPC would say it
            message = f"segue: this node upgrades, and does not wait longer for {self.key[1]} to end: call again"
            await refuse(self._refusing(RefusalReason.NODE_UPGRADING, self.key[0], message), context)
        return reply


class _UnaryStream(_Streaming):
    _make_handler = staticmethod(grpc.unary_stream_rpc_method_handler)
    unary_request = True
    unary_reply = False

    async def _run(self, request: bytes, context: Context) -> None:
        with Stay(self.gate.stays, self.key[1]) as stay:
            typed = StreamContext(context, self._deserialize, self._serialize, stay)
            await self._stream(self._deserialize(request), typed)

    async def _stream(self, request: Any, typed: TypedContext) -> None:
        try:
            if not self._generates:
                await self._behaviour(request, typed)
                return
            # Closed here and not by the collector of garbage, so that the object's clean-up is over when the call is.
            replies: AsyncIterator[Any]
            async with aclosing(self._behaviour(request, typed)) as replies:
                async for reply in replies:
                    await typed.write(reply)
        finally:
            await typed.finish()


class _StreamUnary(_Streaming):
    _make_handler = staticmethod(grpc.stream_unary_rpc_method_handler)
    unary_request = False
    unary_reply = True

    async def _run(self, request: object, context: Context) -> bytes:  # noqa: ARG002 - read from the context
        with Stay(self.gate.stays, self.key[1]) as stay:
            typed = StreamContext(context, self._deserialize, self._serialize, stay)
            try:
                reply = await self._behaviour(Requests(typed), typed)
            finally:
                await typed.finish()
            return self._serialize(reply) if outcome_of(context) == "OK" else b""


class _StreamStream(_UnaryStream):
    _make_handler = staticmethod(grpc.stream_stream_rpc_method_handler)
    unary_request = False

    async def _run(self, request: object, context: Context) -> None:  # noqa: ARG002 - read from the context
        with Stay(self.gate.stays, self.key[1]) as stay:
            typed = StreamContext(context, self._deserialize, self._serialize, stay)
            await self._stream(Requests(typed), typed)


#: {(request streaming, response streaming): kind}
_KINDS: dict[tuple[bool, bool], type[Answer]] = {
    (False, False): _UnaryUnary,
    (False, True): _UnaryStream,
    (True, False): _StreamUnary,
    (True, True): _StreamStream,
}


def answer(method: Method, around: Surroundings) -> Answer:
    """Make the answer for a method of whatever kind."""
    if method.is_hooked:
        return _Hooked(method, around)
    return _KINDS[method.handler.request_streaming, method.handler.response_streaming](method, around)
