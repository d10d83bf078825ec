"""Calls that could not go in at once: they wait, go in, are relayed to another process, or are refused."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import grpc
import grpc.aio

from segue.layer.grpc_answer import Answer
from segue.layer.grpc_collector import MethodHandler
from segue.layer.grpc_context import Context, outcome_of
from segue.layer.grpc_forwarding import Forwarding, MovedError
from segue.layer.grpc_read_ahead import ReadAhead
from segue.layer.grpc_refusal import Refusal, refuse
from segue.layer.grpc_refuser import Refuser
from segue.layer.grpc_relay import Onward, RelayedContext
from segue.layer.parked import Parked, TooManyParkedError, Waiting
from segue.layer.stay import EndedError
from segue.model.ids import Version

#: A call that waits for its version is refused so much before its caller's deadline, as a share of what remains:
#: gRPC rounds deadlines up on the way by a hundredth, and networks are slow. Smaller, and the caller gets
#: DEADLINE_EXCEEDED.
_ANSWER_SHARE = 0.1
#: The same for short deadlines, in seconds: what the refusal needs to reach the caller; but half of what remains stays.
_ANSWER_S = 0.05


@dataclass(frozen=True, slots=True)
class Call:
    """What is known of a call that could not go in at once.

    `version` is None if it has no label, `caller` if its caller gives no name.
    """

    version: Version | None
    method: str
    from_node: bool
    caller: str | None
    unary_reply: bool = False
    #: Whether another process of the node has it answered here, which says who the caller is.
    relayed: bool = False


@dataclass(frozen=True, slots=True)
class Wait:
    """The call waits: `limited`, for its version; else for a gate, as long as the caller does."""

    limited: bool


#: Where a call goes.
Way: TypeAlias = Answer | grpc.aio.Channel | Wait | Refusal
#: Says where a call goes as things are now: of (version on its label, method, whether a node calls).
FindWay: TypeAlias = Callable[[Version | None, str, bool], Way]


class WaitingCalls:
    """Brings each call to where it goes, now or later.

    Args:
        find_way: says where a call goes.
        parked: the calls that wait.
        forwarding: those that are relayed.
        refuser: words refusals.
    """

    def __init__(self, find_way: FindWay, parked: Parked, forwarding: Forwarding, refuser: Refuser) -> None:
        self._find_way = find_way
        self._parked = parked
        self._forwarding = forwarding
        self._refuser = refuser

    def handler(self, call: Call) -> MethodHandler:
        """Return what gRPC is given for a call whose kind is not known yet, which on the wire is a stream each way."""
        return grpc.stream_stream_rpc_method_handler(partial(self._serve_as_bytes, call))

    async def take_late(self, answer: Answer, request: Any, context: Context, caller: str | None) -> bytes | None:
        """Handle a call whose gate closed while gRPC read its request."""
        version, method = answer.key
        call = Call(version, method, answer.from_node, caller, answer.unary_reply)
        return await self._serve(call, request if answer.unary_request else None, context)

    async def _serve_as_bytes(self, call: Call, _: object, context: Context) -> None:
        if call.relayed:
            context = RelayedContext(context)
        reply = await self._serve(call, None, context)
        if reply is not None and outcome_of(context) == "OK":
            await context.write(reply)

    async def _serve(self, call: Call, request: bytes | None, context: Context) -> bytes | None:
        """Go where the call goes, now or as soon as that can be said."""
        visit = _Visit(call, request, context, Waiting(self._parked, 0 if request is None else len(request)))
        try:
            return await self._go(visit)
        except TooManyParkedError:
            await refuse(self._refuser.too_many_parked(call.version), context)
        except EndedError:
            await refuse(self._refuser.not_relayed_longer(call.version, call.method), context)
        finally:
            await visit.end()

    async def _go(self, visit: "_Visit") -> bytes | None:
        call = visit.call
        limited: tuple[float, float] | None = None
        while True:
            match self._find_way(call.version, call.method, call.from_node):
                case Answer(unary_request=True) if visit.request is None:
                    await visit.take_request()  # things may change meanwhile: look again
                case Answer() as answer:
                    return await answer.serve(visit.request, visit.context, call.caller)
                case Wait(limited=False):
                    await self._wait(visit, None)
                case Wait():
                    limited = limited or self._patience(visit.context)
                    patience_s, until = limited
                    if not await self._wait(visit, until):
                        await refuse(self._refuser.not_yet(call.version, call.method, patience_s), visit.context)
                case Refusal() as refusal:
                    await refuse(refusal, visit.context)
                case successor:
                    is_reached = self._forwarding.is_reached
                    if not is_reached:
                        self._parked.check()
                    # Also where it can be reached: the call may be moved in the middle of reading, and gRPC would
                    # give that request to nobody.
                    await visit.read_ahead()
                    try:
                        return await self._forwarding.relay(successor, visit.onward(is_reached=is_reached))
                    except MovedError:
                        continue

    async def _wait(self, visit: "_Visit", until: float | None) -> bool:
        """Wait until things are not as they were; return False if it is `until` first, in the loop's time.

        Raises:
            TooManyParkedError: it may not wait.
        """
        await self._begin_waiting(visit)
        return await self._parked.wait(visit.waiting, until)

    async def _begin_waiting(self, visit: "_Visit") -> None:
        """Have the call's request read and counted; not even that if there is no room.

        Raises:
            TooManyParkedError: there is none.
        """
        self._parked.check()
        await visit.read_ahead()

    def _patience(self, context: Context) -> tuple[float, float]:
        """Return how long a call may wait for its version, and until when in the loop's time.

        That is a little less than its caller waits, so that the caller hears why it was refused.
        """
        patience_s = self._parked.limits.wait_s
        left_s: float | None = context.time_remaining()
        if left_s is not None:
            patience_s = min(patience_s, left_s - max(left_s * _ANSWER_SHARE, min(_ANSWER_S, left_s / 2)))
        return patience_s, asyncio.get_running_loop().time() + patience_s


class _Visit:
    """A call on its way.

    Attributes:
        call: what is known of it.
        request: its one request, if gRPC read it or it is known to be the only one.
        context: what its requests are read from.
        waiting: what it holds while it waits.
    """

    def __init__(self, call: Call, request: bytes | None, context: Context, waiting: Waiting) -> None:
        self.call = call
        self.request = request
        self.context = context
        self.waiting = waiting
        self._ahead: ReadAhead | None = None
        self._is_given = request is not None

    async def read_ahead(self) -> None:
        """Have the first request read while the call waits, unless it was read or that was begun."""
        if self.request is None and self._ahead is None:
            await self._given().begin()

    async def take_request(self) -> None:
        """Read the one request. It stays in the context, too, for a method of another kind than is expected now."""
        message = await self._given().peek()
        if message is grpc.aio.EOF:
            await self.context.abort(grpc.StatusCode.INTERNAL, "segue: the caller sent no request: send exactly one")
        self.request = message

    def onward(self, *, is_reached: bool) -> Onward:
        """Return the call as it is relayed."""
        return Onward(
            method=self.call.method,
            request=self.request if self._is_given else None,
            ahead=self._given(),
            unary_reply=self.call.unary_reply,
            waiting=self.waiting,
            is_reached=is_reached,
        )

    def _given(self) -> ReadAhead:
        if self._ahead is None:
            self.context = self._ahead = ReadAhead(self.context, self.waiting)
        return self._ahead

    async def end(self) -> None:
        """Read no more; the call is over."""
        if self._ahead is not None:
            await self._ahead.end()
