"""How a method of an object is called: one `Answer` for each (version, method, kind of caller).

An answer takes bytes and gives bytes, whatever the method's kind. So a call that gRPC hands over at
once and a call that was parked before anything of its kind was known go the same way.
"""

import asyncio
import inspect
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import grpc
import grpc.aio

from segue.errors import Disallowed
from segue.layer.gate import Gate
from segue.layer.grpc_collector import MethodHandler
from segue.layer.grpc_context import (
    Context,
    Requests,
    TypedContext,
    UnreadableRequestError,
    outcome_of,
    outcome_when_cancelled,
    reading,
    writing,
)
from segue.layer.grpc_refusal import Refusal, RefusalReason, refuse
from segue.model.ids import Version
from segue.model.usage import AnsweredBy

_log = logging.getLogger(__name__)

#: What the table is keyed by: a version, and a method's path.
Key: TypeAlias = tuple[Version, str]
#: Awaited with (request, reply, context).
Observer: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
#: What becomes of a call that finds the gate closed: (answer, request's bytes if read, context) -> reply's bytes.
Late: TypeAlias = Callable[["Answer", bytes, Context], Awaitable[bytes | None]]
#: Makes this node's refusals: (reason, the caller's version, message for people).
Refusing: TypeAlias = Callable[[RefusalReason, Version | None, str], Refusal]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What an answer has around it.

    Attributes:
        gate: where its calls go in and out.
        tally: {outcome: calls}, to be added to.
        observers: {(version, method): observers} as the chain has them now: looked at when a call
            ends, so that a simulation which came meanwhile is told of calls that were inside.
        late: what to do with a call that came to the open gate and finds it closed.
        answered_by: the kind of object that answers.
        refusing: makes the refusal of a call that the object did not answer.
    """

    gate: Gate
    tally: Counter[str]
    observers: Mapping[Key, tuple[Observer, ...]]
    late: Late
    answered_by: AnsweredBy
    refusing: Refusing


class Answer:
    """Answers the calls of one method in one version for one kind of caller.

    Args:
        key: the version and the method's path.
        handler: as the author's object registered it.
        around: gate, counts, observers.
    """

    #: How gRPC is told of a method of this kind.
    _make_handler: ClassVar[Callable[..., MethodHandler]]
    #: Whether the caller sends exactly one message.
    unary_request: ClassVar[bool]
    #: Whether the caller gets exactly one message.
    unary_reply: ClassVar[bool]

    def __init__(self, key: Key, handler: MethodHandler, behaviour: Callable[..., Any], around: Surroundings) -> None:
        self.key = key
        self.gate = around.gate
        self._behaviour = behaviour
        self._deserialize = reading(handler.request_deserializer)
        self._serialize = writing(handler.response_serializer)
        self._observers = around.observers
        self._tally = around.tally
        self._late = around.late
        self._answered_by = around.answered_by
        self._refusing = around.refusing
        self._generates = inspect.isasyncgenfunction(behaviour)
        #: What gRPC is given: it reads the request's bytes itself and then calls `serve`.
        self.handler: MethodHandler = type(self)._make_handler(self.serve)

    async def serve(self, request: Any, context: Context) -> bytes | None:
        """Answer a call, count it, and let nothing of an object's failure out but that it failed.

        Args:
            request: the request's bytes if there is exactly one; else it is not looked at, as `context` reads.
            context: gRPC's, which reads and writes bytes.

        Returns:
            The reply's bytes if there is exactly one; else None, as the replies were written.
        """
        gate = self.gate
        if not gate.enter():
            return await self._late(self, request, context)
        outcome = "UNKNOWN"
        try:
            reply = await self._run(request, context)
            outcome = "OK" if context.code() is None else outcome_of(context)
            return reply
        except asyncio.CancelledError:
            outcome = outcome_when_cancelled(context)
            raise
        except Exception as error:
            shown = await self._status_for(error, context)
            if isinstance(shown, grpc.aio.InternalError):
                outcome = "CANCELLED"  # the caller was gone when we wrote
            elif context.done():
                outcome = outcome_of(context)
            raise shown from shown.__cause__
        finally:
            self._tally[outcome] += 1
            gate.leave()

    async def _run(self, request: Any, context: Context) -> bytes | None:
        """Call the object's method as its kind is called."""
        raise NotImplementedError  # not an ABC, whose isinstance would be the dearest step of a call's dispatch

    async def _status_for(self, error: Exception, context: Context) -> Exception:
        """Send the status that `error` means, and return what to raise so that gRPC sends no other."""
        if context.done() or isinstance(error, _ENDED):
            return error
        refusal = self._refusal_for(error)
        try:
            if refusal.reason in _FAILURES and outcome_of(context) != "OK":  # gRPC's idiom: set_code, then raise
                await context.abort(context.code(), context.details() or refusal.message)
            await refuse(refusal, context)
        except grpc.aio.BaseError as ended:
            return ended

    def _refusal_for(self, error: Exception) -> Refusal:
        """Say what the caller is told of `error`, and log what the caller is not told."""
        version, method = self.key
        whose = f"the {_NOUNS[self._answered_by]} of version {version}"
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
        _log.error("%s: %s failed", method, whose, exc_info=error)
        reason = RefusalReason.OBJECT_FAILED if self._answered_by == "current" else RefusalReason.SIMULATION_FAILED
        return self._refusing(reason, version, f"segue: {whose} failed; its node's log says why")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.key[0]}, {self.key[1]}, {self.gate!r})"


#: What gRPC raises when it has sent the status, or could not; its `UsageError` is a fault as any other.
_ENDED = (grpc.aio.AbortError, grpc.aio.InternalError)

#: What has been logged, and is told as no more than that it happened.
_FAILURES = frozenset({RefusalReason.OBJECT_FAILED, RefusalReason.SIMULATION_FAILED})

_NOUNS: dict[AnsweredBy, str] = {"past": "past simulation", "current": "object", "future": "future simulation"}


class LeftOutError(Exception):
    """The author did not write this method of a generated servicer."""


class ObserverFailedError(Exception):
    """The object answered, and an observer of the call failed; what it raised is the cause."""


async def _tell(observer: Observer, request: Any, reply: Any, context: Context) -> None:
    try:
        await observer(request, reply, context)
    except _ENDED:
        raise
    except Exception as error:
        raise ObserverFailedError(f"the observer {observer.__qualname__} failed") from error


class _UnaryUnary(Answer):
    _make_handler = staticmethod(grpc.unary_unary_rpc_method_handler)
    unary_request = True
    unary_reply = True

    async def _run(self, request: bytes, context: Context) -> bytes:
        message = self._deserialize(request)
        reply = await self._behaviour(message, context)
        if context.code() is not None and outcome_of(context) != "OK":
            return b""
        raw = self._serialize(reply)
        if self.key in self._observers:
            for observer in self._observers[self.key]:
                await _tell(observer, message, reply, context)
        return raw


class _UnaryStream(Answer):
    _make_handler = staticmethod(grpc.unary_stream_rpc_method_handler)
    unary_request = True
    unary_reply = False

    async def _run(self, request: bytes, context: Context) -> None:
        typed = TypedContext(context, self._deserialize, self._serialize)
        await self._stream(self._deserialize(request), typed)

    async def _stream(self, request: Any, typed: TypedContext) -> None:
        if not self._generates:
            await self._behaviour(request, typed)
            return
        # Closed here and not by the collector of garbage, so that the object's clean-up is over when the call is.
        replies: AsyncIterator[Any]
        async with aclosing(self._behaviour(request, typed)) as replies:
            async for reply in replies:
                await typed.write(reply)


class _StreamUnary(Answer):
    _make_handler = staticmethod(grpc.stream_unary_rpc_method_handler)
    unary_request = False
    unary_reply = True

    async def _run(self, request: object, context: Context) -> bytes:  # noqa: ARG002 - read from the context
        typed = TypedContext(context, self._deserialize, self._serialize)
        reply = await self._behaviour(Requests(typed), typed)
        return self._serialize(reply) if outcome_of(context) == "OK" else b""


class _StreamStream(_UnaryStream):
    _make_handler = staticmethod(grpc.stream_stream_rpc_method_handler)
    unary_request = False

    async def _run(self, request: object, context: Context) -> None:  # noqa: ARG002 - read from the context
        typed = TypedContext(context, self._deserialize, self._serialize)
        await self._stream(Requests(typed), typed)


#: {(request streaming, response streaming): (kind, name of the handler's behaviour)}
_KINDS: dict[tuple[bool, bool], tuple[type[Answer], str]] = {
    (False, False): (_UnaryUnary, "unary_unary"),
    (False, True): (_UnaryStream, "unary_stream"),
    (True, False): (_StreamUnary, "stream_unary"),
    (True, True): (_StreamStream, "stream_stream"),
}


def behaviour_of(handler: MethodHandler) -> Callable[..., Any]:
    """Return the author's method behind a handler."""
    behaviour: Callable[..., Any] = getattr(handler, _KINDS[handler.request_streaming, handler.response_streaming][1])
    return behaviour


def answer(key: Key, handler: MethodHandler, behaviour: Callable[..., Any], around: Surroundings) -> Answer:
    """Make the answer for a method of whatever kind."""
    kind, _ = _KINDS[handler.request_streaming, handler.response_streaming]
    return kind(key, handler, behaviour, around)
