"""Dispatch: the handler of all calls of a process, which finds the object that answers each."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import grpc
import grpc.aio

from segue.layer.chain import Chain, Link
from segue.layer.gate import Gates, Pair, new_pair
from segue.layer.grpc_answer import Answer, Key, Surroundings
from segue.layer.grpc_collector import MethodHandler
from segue.layer.grpc_context import Context, outcome_of
from segue.layer.grpc_hooks import Hook, Spot
from segue.layer.grpc_refusal import Refusal, RefusalReason, refuse
from segue.layer.grpc_refuser import Refuser
from segue.layer.grpc_relay import RelayedContext, relay
from segue.layer.grpc_table import Live, Table, bonds_of, build_table
from segue.layer.label import (
    CALLER_KEY,
    LABEL_KEY,
    NODE_KEY,
    MalformedLabelError,
    Newest,
    UnlabelledDefault,
    read_caller,
    read_label,
    unlabelled_default,
)
from segue.layer.steps import Steps
from segue.layer.usage import Usage
from segue.model.ids import NodeId, Version


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """Calls that are here now.

    Attributes:
        clients: clients' calls inside objects.
        nodes: nodes' calls inside objects.
        parked: calls that wait to go in.
        forwarded: calls that another process is answering through this one.
    """

    clients: int
    nodes: int
    parked: int
    forwarded: int


@dataclass(frozen=True, slots=True)
class _Call:
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
class _Wait:
    """The call waits: `limited`, for its version; else for a gate, as long as the caller does."""

    limited: bool


#: Callers may claim any version: beyond so many, claims are forgotten, and may be heard again.
_CLAIMS_LIMIT = 64

#: A call that waits for its version is refused so much before its caller's deadline, as a share of what remains:
#: gRPC rounds deadlines up on the way by a hundredth, and networks are slow. Smaller, and the caller gets
#: DEADLINE_EXCEEDED.
_ANSWER_SHARE = 0.1
#: The same for short deadlines, in seconds: what the refusal needs to reach the caller; but half of what remains stays.
_ANSWER_S = 0.05

#: Where a call goes.
_Way: TypeAlias = Answer | grpc.aio.Channel | _Wait | Refusal


class Dispatch(grpc.GenericRpcHandler):
    """Answers each call by the object of the caller's version; give it to `add_generic_rpc_handlers`.

    It lives in one event loop. Until the first `show`, all calls are parked.

    Args:
        usage: where answered calls are counted.
        newest: what this process knows; each `show` adds to it.
        on_newer: called once, at once, with each newer version that a label is the first to name: a claim,
            since anybody can write a label.
        default: the version of calls without a label whose method more than one version has: a number, or
            `current` for the one that the node runs. If only one version has the method, the call is of that.
        park_limit_s: how long a call waits for a version that is not answered here yet, if its deadline allows. 0
            where nobody installs versions: such a call is refused at once.
        node: the node's id, which refusals name; None if it has none.

    Raises:
        OperatorError: `default` is neither `current` nor a version.
    """

    def __init__(
        self,
        *,
        usage: Usage,
        newest: Newest,
        on_newer: Callable[[Version], None],
        default: UnlabelledDefault = "current",
        park_limit_s: float = 30.0,
        node: NodeId | None = None,
    ) -> None:
        self._usage = usage
        self._newest = newest
        self._on_newer = on_newer
        self._default = unlabelled_default(default)
        self._park_limit_s = park_limit_s
        self._refuser = Refuser(node)
        self._table: Table | None = None
        #: The table's, copied: answers of an older table that are still at work look here too.
        self._hooks: dict[Spot, tuple[Hook, ...]] = {}
        self._steps = Steps()
        self._clients = Gates()
        self._nodes = Gates()
        self._successor: grpc.aio.Channel | None = None
        self._claims: set[Version] = set()
        self._changed = asyncio.Event()
        self._parked = 0
        self._forwarded = 0

    @property
    def in_flight(self) -> InFlight:
        """How many calls are here, by where."""
        return InFlight(
            clients=self._clients.inside, nodes=self._nodes.inside, parked=self._parked, forwarded=self._forwarded
        )

    def bind(self, chain: Chain) -> None:
        """Have the simulations of `chain` call their delegates, before any call is let in to them.

        Raises:
            ReleaseError: the chain cannot be dispatched to (says why).
        """
        bonds_of(chain, Live(hooks=self._hooks, steps=self._steps)).bind()

    def has_hooks(self, simulation: object) -> bool:
        """Say whether a simulation of the chain that is shown observes or intercepts calls."""
        return any(hook.simulation is simulation for hooks in self._hooks.values() for hook in hooks)

    def show(self, chain: Chain) -> None:
        """Let calls be answered by the objects of `chain` from now on, parked ones too.

        Calls that are inside end where they are, but observers of the new chain are told of them.

        Raises:
            ReleaseError: the chain cannot be dispatched to (says why); the one before stays.
        """
        clients, nodes = new_pair(), new_pair()
        table = self._build(chain, clients, nodes)
        self._clients.replace(clients)
        self._nodes.replace(nodes)
        table.bonds.bind()
        self._table = table
        self._refuser.show(table)
        self._hooks.clear()
        self._hooks.update(table.hooks)
        self._newest.learn(chain.newest)
        if self._default != "current" and self._default > self._newest.version:
            self._hear_of(self._default)  # calls without a label claim it, as a label would
        self._wake()

    async def settle(self, timeout_s: float, *, streams: bool = True) -> bool:
        """Wait until no call is inside that went in before the last `show`, and say whether that came in time.

        A simulation that the chain no longer has can then be stopped, and what a new one finds is all that it
        was not told of. Streaming calls that the object itself answers may stay: they come to no simulation.

        Args:
            timeout_s: seconds to wait.
            streams: whether streaming calls that simulations answer are waited for, too.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._clients.replaced_emptied(streams=streams)
                await self._nodes.replaced_emptied(streams=streams)
        except TimeoutError:
            return False
        return True

    async def quiesce(self, timeout_s: float) -> None:
        """Let no more calls in and return once none is inside; calls that come are parked.

        Clients' calls end first, while nodes' calls are still answered: two nodes that go quiet at
        the same time and whose objects call each other do not wait for each other. Safe to repeat.

        Args:
            timeout_s: seconds until it is given up.

        Raises:
            TimeoutError: calls are still inside. The gates stay closed: `resume` opens them.
        """
        try:
            async with asyncio.timeout(timeout_s):
                for gates in (self._clients, self._nodes):
                    gates.close()
                    await gates.emptied()
        except TimeoutError:
            raise TimeoutError(
                f"after {timeout_s} s {self._clients.inside} calls of clients and {self._nodes.inside} of nodes "
                "are still inside: resume, and try again when they have ended"
            ) from None

    def resume(self) -> None:
        """Let calls in again, parked ones first; none is forwarded any more."""
        self._successor = None
        self._clients.open()
        self._nodes.open()
        self._wake()

    def forward(self, channel: grpc.aio.Channel) -> None:
        """Have parked calls, and all that still come, answered through `channel`.

        Args:
            channel: to the process that answers instead; whoever opened it closes it, after the last call.
        """
        self._successor = channel
        self._wake()

    @property
    def relayed(self) -> grpc.GenericRpcHandler:
        """What answers in its place on the socket where another process of the node relays calls.

        What comes there is believed about the callers: nobody else may be able to open that socket.
        """
        return _Relayed(self)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "MethodHandler | None":
        """Say how gRPC is to handle a call; None leaves it to other handlers, as no version has its service."""
        way, caller = self.find(handler_call_details)
        if isinstance(way, Answer):
            return way.handler if caller is None else way.handler_for(caller)
        return way

    def find(
        self, handler_call_details: grpc.HandlerCallDetails, *, relayed: bool = False
    ) -> "tuple[Answer | MethodHandler | None, str | None]":
        """Find what answers a call, for servers of any make.

        Args:
            handler_call_details: the method's path, and what the caller sent.
            relayed: whether another process of the node passes the call on.

        Returns:
            What answers it, if that is known already; else an asynchronous handler of bytes that finds it or
            refuses the call; None leaves it to other handlers. And whom the call counts for: None for its peer.
        """
        method = handler_call_details.method
        label = node = name = caller = None
        for key, value in handler_call_details.invocation_metadata:
            if key == LABEL_KEY:
                label = value
            elif key == NODE_KEY:
                node = value
            elif key == CALLER_KEY:
                name = value
        version: Version | None = None
        try:
            if label is not None:
                read = read_label(label, node)
                version = read.caller
                if read.newest > self._newest.version:
                    self._hear_of(read.newest)
            if node is not None or name is not None:
                caller = read_caller(name, node)
        except MalformedLabelError as error:
            return _refusing(self._refuser.refusal(RefusalReason.MALFORMED_LABEL, None, f"segue: {error}")), None
        way = self._way(version, method, node is not None)
        if isinstance(way, Answer) and not relayed:
            return way, caller
        if isinstance(way, Refusal):
            return _refusing(way) if self._refuser.is_ours(method, way) else None, caller
        call = _Call(version, method, node is not None, caller, relayed=relayed)
        return grpc.stream_stream_rpc_method_handler(partial(self._serve_as_bytes, call)), caller

    def _build(self, chain: Chain, clients: Pair, nodes: Pair) -> Table:
        def surround(link: Link, key: Key, from_node: bool, unary: bool) -> Surroundings:
            pair = nodes if from_node else clients
            return Surroundings(
                key=key,
                from_node=from_node,
                gate=pair.unary if unary else pair.own if link.role == "current" else pair.streams,
                tally=self._usage.tally(key[0], key[1], link.role, from_node, chain.current.version),
                hooks=self._hooks,
                steps=self._steps,
                late=self._take_late,
                answered_by=link.role,
                refusing=self._refuser.refusal,
            )

        return build_table(chain, self._default, Live(hooks=self._hooks, steps=self._steps), surround)

    def _way(self, version: Version | None, method: str, from_node: bool) -> _Way:
        """Say where a call goes as things are now. Never awaits."""
        if self._successor is not None:
            return self._successor
        if not (self._nodes if from_node else self._clients).is_open:
            return _Wait(limited=False)
        table = self._table
        if table is None:
            return self._not_yet(version, method)
        spoken = table.unlabelled.get(method) if version is None else version
        if spoken is None:
            return self._refuser.no_such_method(table, None, method, labelled=False)
        answers = table.answers.get((spoken, method))
        if answers is not None:
            return answers[from_node]
        if spoken > table.newest or (spoken, method) in table.unready:
            return self._not_yet(version, method)
        if spoken < table.oldest:
            return self._refuser.retired(table, spoken, labelled=version is not None)
        return self._refuser.no_such_method(table, spoken, method, labelled=version is not None)

    def _not_yet(self, version: Version | None, method: str) -> _Wait | Refusal:
        """Say what becomes of a call of what is not answered here, or not yet."""
        if self._park_limit_s > 0:
            return _Wait(limited=True)
        return self._refuser.not_here(version, method)

    def _hear_of(self, version: Version) -> None:
        """Pass on what a caller claims. What the process knows, and tells others, it learns from who checked it."""
        if version in self._claims:
            return
        if len(self._claims) >= _CLAIMS_LIMIT:
            self._claims.clear()
        self._claims.add(version)
        self._on_newer(version)

    async def _serve_as_bytes(self, call: _Call, _: object, context: Context) -> None:
        """Handle a call of a kind that is not known yet, which on the wire is a stream each way."""
        if call.relayed:
            context = RelayedContext(context)
        reply = await self._wait_and_serve(call, None, context)
        if reply is not None and outcome_of(context) == "OK":
            await context.write(reply)

    async def _take_late(self, answer: Answer, request: Any, context: Context, caller: str | None) -> bytes | None:
        """Handle a call whose gate closed while gRPC read its request."""
        version, method = answer.key
        call = _Call(version, method, answer.from_node, caller, answer.unary_reply)
        return await self._wait_and_serve(call, request if answer.unary_request else None, context)

    async def _wait_and_serve(self, call: _Call, request: bytes | None, context: Context) -> bytes | None:
        """Go where the call goes, now or as soon as that can be said."""
        limited: tuple[float, float] | None = None
        while True:
            match self._way(call.version, call.method, call.from_node):
                case Answer(unary_request=True) if request is None:
                    request = await _one_request(context)  # things may change meanwhile: look again
                case Answer() as answer:
                    return await answer.serve(request, context, call.caller)
                case _Wait(limited=False):
                    await self._change(None)
                case _Wait():
                    limited = limited or self._patience(context)
                    patience_s, until = limited
                    if not await self._change(until):
                        await refuse(self._refuser.not_yet(call.version, call.method, patience_s), context)
                case Refusal() as refusal:
                    await refuse(refusal, context)
                case successor:
                    return await self._forward(successor, call, request, context)

    async def _forward(
        self, successor: grpc.aio.Channel, call: _Call, request: bytes | None, context: Context
    ) -> bytes | None:
        self._forwarded += 1
        try:
            return await relay(successor, call.method, request, context, unary_reply=call.unary_reply)
        finally:
            self._forwarded -= 1

    async def _change(self, until: float | None) -> bool:
        """Wait until things are not as they were; return False if it is `until` first, in the loop's time."""
        changed = self._changed
        self._parked += 1
        try:
            async with asyncio.timeout_at(until):
                await changed.wait()
        except TimeoutError:
            return False
        finally:
            self._parked -= 1
        return True

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _patience(self, context: Context) -> tuple[float, float]:
        """Return how long a call may wait for its version, and until when in the loop's time.

        That is a little less than its caller waits, so that the caller hears why it was refused.
        """
        patience_s = self._park_limit_s
        left_s: float | None = context.time_remaining()
        if left_s is not None:
            patience_s = min(patience_s, left_s - max(left_s * _ANSWER_SHARE, min(_ANSWER_S, left_s / 2)))
        return patience_s, asyncio.get_running_loop().time() + patience_s

    def __repr__(self) -> str:
        return f"Dispatch(clients={self._clients!r}, nodes={self._nodes!r}, {self.in_flight})"


class _Relayed(grpc.GenericRpcHandler):
    """Answers what another process of the node relays here."""

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "MethodHandler | None":
        """Say how gRPC is to handle a call; None leaves it to other handlers."""
        way, _ = self._dispatch.find(handler_call_details, relayed=True)
        assert not isinstance(way, Answer), way  # it would count the relaying process as the caller
        return way


async def _one_request(context: Context) -> bytes:
    message = await context.read()
    if message is grpc.aio.EOF:
        await context.abort(grpc.StatusCode.INTERNAL, "segue: the caller sent no request: send exactly one")
    return message  # type: ignore[no-any-return]


def _refusing(refusal: Refusal) -> MethodHandler:
    async def abort(_: object, context: Context) -> None:
        await refuse(refusal, context)

    return grpc.stream_stream_rpc_method_handler(abort)
