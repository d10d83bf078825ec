"""Dispatch: the handler of all calls of a process, which finds the object that answers each."""

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass

import grpc
import grpc.aio

from segue.layer.chain import Chain, Link
from segue.layer.gate import Gates, Pair, new_pair
from segue.layer.grpc_answer import Answer, Key, Surroundings
from segue.layer.grpc_collector import MethodHandler, service_of
from segue.layer.grpc_context import Context
from segue.layer.grpc_forwarding import Forwarding
from segue.layer.grpc_generating import as_generator
from segue.layer.grpc_hooks import Hook, Spot
from segue.layer.grpc_refusal import Refusal, RefusalReason, refuse
from segue.layer.grpc_refuser import Refuser
from segue.layer.grpc_table import Live, Table, bonds_of, build_table
from segue.layer.grpc_waiting import Call, FindWay, Wait, WaitingCalls, Way
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
from segue.layer.parked import Parked, ParkLimits
from segue.layer.quiet import go_quiet
from segue.layer.steps import Steps
from segue.layer.tracing import mark_of
from segue.layer.usage import Usage
from segue.model.ids import NodeId, Version

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """Calls that are here now.

    Attributes:
        clients: clients' calls inside objects.
        nodes: nodes' calls inside objects.
        parked: calls that wait to go in, or until the process that is to answer them can be reached.
        forwarded: calls that another process is answering through this one.
    """

    clients: int
    nodes: int
    parked: int
    forwarded: int


_DEFAULT_LIMITS = ParkLimits()

#: Callers may claim any version: beyond so many, claims are forgotten, and may be heard again.
_CLAIMS_LIMIT = 64


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
        parking: how long calls wait, and how many.
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
        parking: ParkLimits = _DEFAULT_LIMITS,
        node: NodeId | None = None,
    ) -> None:
        self._usage = usage
        self._newest = newest
        self._on_newer = on_newer
        self._default = unlabelled_default(default)
        self._refuser = Refuser(node)
        self._table: Table | None = None
        #: The table's, copied: answers of an older table that are still at work look here too.
        self._hooks: dict[Spot, tuple[Hook, ...]] = {}
        self._steps = Steps()
        self._clients = Gates()
        self._nodes = Gates()
        self._parked = Parked(parking)
        self._forwarding = Forwarding(self._parked)
        #: Where calls go now: one lookup if all may go in, as nearly always; more where some are held back.
        self._look: FindWay = self._way_in
        self._waiting = WaitingCalls(self._way, self._parked, self._forwarding, self._refuser)
        self._on_first: Callable[[], None] | None = None
        self._beside: grpc.GenericRpcHandler | None = None
        self._services_beside: frozenset[str] = frozenset()
        self._listeners: list[Callable[[], None]] = []
        self._claims: set[Version] = set()

    @property
    def in_flight(self) -> InFlight:
        """How many calls are here, by where."""
        return InFlight(
            clients=self._clients.inside,
            nodes=self._nodes.inside,
            parked=len(self._parked.waiting),
            forwarded=self._forwarding.calls,
        )

    @property
    def parked_bytes(self) -> int:
        """How many bytes the requests have that parked calls hold."""
        return self._parked.request_bytes

    @property
    def lets_in(self) -> bool:
        """Whether calls of all kinds are answered here as they come; on stand-by, too, for the first that comes."""
        return self._table is not None and (self._look == self._way_in or self._on_first is not None)

    @property
    def is_forwarding(self) -> bool:
        """Whether another process answers instead."""
        return self._forwarding.successor is not None

    @property
    def services(self) -> frozenset[str]:
        """The services that the chain has, of all versions, such as `blockstore.BlockStore`."""
        return frozenset() if self._table is None else self._table.services

    @property
    def current(self) -> Version | None:
        """The version that the node runs, the newest that its object answers; None before the first `show`."""
        return None if self._table is None else self._table.current

    def add_beside(self, handler: grpc.GenericRpcHandler, services: Collection[str]) -> None:
        """Have `handler` handle the calls of services that no version of the chain has, parked and refused by nobody.

        Calls that come while another process answers go there, as long as it can be reached.

        Args:
            handler: as for a server's `add_generic_rpc_handlers`.
            services: their full names.
        """
        self._beside = handler
        self._services_beside = frozenset(services)

    def add_listener(self, listener: Callable[[], None]) -> None:
        """Have `listener` called whenever calls go elsewhere than before, or are let in or not."""
        self._listeners.append(listener)

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
        self._change()

    def hide(self) -> None:
        """Have no chain answered any more, as before the first `show`; calls inside end where they are."""
        self._table = None
        self._refuser.show(None)
        self._hooks.clear()
        self._change()

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

    async def quiesce(self, timeout_s: float, *, streams_s: float = 0.0) -> float:
        """Let no more calls in and return once none is inside; calls that come are parked.

        Streams first: while they have time to end, unary calls are answered as ever. Those that do not end by
        themselves are ended: their methods are cancelled, and their callers told UNAVAILABLE, `NODE_UPGRADING`.
        Nothing of their methods is at work any more when this returns.

        Clients' calls end first, while nodes' calls are still answered: two nodes that go quiet at
        the same time and whose objects call each other do not wait for each other. Safe to repeat.

        Args:
            timeout_s: seconds until it is given up, not counting `streams_s`.
            streams_s: seconds that streams have to end by themselves.

        Returns:
            Since when clients' unary calls wait, in the loop's time.

        Raises:
            TimeoutError: calls are still inside, such as a stream whose method does not end though it was
                cancelled. Those gates that closed stay closed: `resume` opens them.
        """
        self._on_first = None
        return await go_quiet(self._clients, self._nodes, timeout_s, streams_s, self._change)

    def stand_by(self, on_first: Callable[[], None]) -> None:
        """Let no call in, and say when the first comes; to be used while no call is inside.

        Args:
            on_first: called once, when a call comes or at once if one waits already; it may call `resume`. Until
                somebody does, calls wait. If it raises, that is logged, and the next call that comes has it called
                again.
        """
        self._clients.close()
        self._nodes.close()
        self._on_first = on_first
        self._change()

    def resume(self) -> None:
        """Let calls in again, parked ones first; none is forwarded any more."""
        self._on_first = None
        self._forwarding.to(None)
        self._clients.open()
        self._nodes.open()
        self._change()

    def forward(self, channel: grpc.aio.Channel | None) -> None:
        """Have parked calls, and all that still come, answered through `channel`.

        While nobody can be reached there, they wait. It may be called again, with another channel: calls that are
        relayed end where they are, but for those that the process behind the channel before never got.

        Args:
            channel: to the process that answers instead; whoever opened it closes it, once it is not forwarded to
                any more and `relayed(channel)` has returned. None has nothing forwarded: calls wait, or go in if the
                gates are open.
        """
        self._forwarding.to(channel)
        self._change()

    async def relayed(self, channel: grpc.aio.Channel) -> None:
        """Return once no call is relayed through `channel`."""
        await self._forwarding.emptied(channel)

    def end_relayed_beside(self) -> None:
        """End the calls that are relayed of services beside, at once: whoever watches the node's health, say."""
        self._forwarding.end_all(self._services_beside)

    async def end_relayed(self, streams_s: float) -> None:
        """End the calls that are relayed, with UNAVAILABLE, `NODE_UPGRADING`, unless they end by themselves in time.

        Args:
            streams_s: seconds that they have.
        """
        try:
            async with asyncio.timeout(streams_s):
                await self._forwarding.all_emptied()
        except TimeoutError:
            self._forwarding.end_all()
            await self._forwarding.all_emptied()

    @property
    def for_relays(self) -> grpc.GenericRpcHandler:
        """What answers in its place on the socket where another process of the node relays calls.

        What comes there is believed about the callers: nobody else may be able to open that socket.
        """
        return _Relayed(self)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "MethodHandler | None":
        """Say how gRPC is to handle a call; None leaves it to other handlers, as no version has its service."""
        way, caller = self.find(handler_call_details)
        if isinstance(way, Answer):
            return way.handler if caller is None else way.handler_for(caller)
        return None if way is None else as_generator(way)

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
        way = self._look(version, method, node is not None)
        if isinstance(way, Answer) and not relayed:
            return way, caller
        if self._beside is not None and self._is_beside(method):
            return self._beside.service(handler_call_details), None
        if isinstance(way, Refusal):
            return _refusing(way) if self._refuser.is_ours(method, way) else None, caller
        return self._waiting.handler(Call(version, method, node is not None, caller, relayed=relayed)), caller

    def _is_beside(self, method: str) -> bool:
        """Say whether a call of a service beside is handled here: not if the author has it, or another process."""
        service = service_of(method)
        return service in self._services_beside and service not in self.services and not self._forwarding.is_reached

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
                late=self._waiting.take_late,
                answered_by=link.role,
                refusing=self._refuser.refusal,
                mark=mark_of(caller=key[0], answered_by=link.role, node=chain.current.version),
            )

        return build_table(chain, self._default, Live(hooks=self._hooks, steps=self._steps), surround)

    def _way(self, version: Version | None, method: str, from_node: bool) -> Way:
        """Say where a call goes as things are now. Never awaits."""
        return self._look(version, method, from_node)

    def _way_where_held(self, version: Version | None, method: str, from_node: bool) -> Way:
        """Say where a call goes while not all may go in."""
        if self._forwarding.successor is not None:
            return self._forwarding.successor
        if not (self._nodes if from_node else self._clients).lets_any_in:
            if self._on_first is not None and not self._is_beside(method) and self._tell_of_first():
                return self._look(version, method, from_node)
            return Wait(limited=False)
        way = self._way_in(version, method, from_node)
        if isinstance(way, Answer) and not way.gate.is_open:
            return Wait(limited=False)
        return way

    def _tell_of_first(self) -> bool:
        """Tell whoever waits for the first call; say whether that went well."""
        on_first, self._on_first = self._on_first, None
        assert on_first is not None, self
        try:
            on_first()
        except Exception:
            _log.exception("the first call is not let in")
            self._on_first = on_first
            return False
        return True

    def _way_in(self, version: Version | None, method: str, from_node: bool) -> Way:
        """Say where a call goes if it may go in."""
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

    def _not_yet(self, version: Version | None, method: str) -> Wait | Refusal:
        """Say what becomes of a call of what is not answered here, or not yet."""
        if self._parked.limits.wait_s > 0:
            return Wait(limited=True)
        return self._refuser.not_here(version, method)

    def _change(self) -> None:
        """Have calls go where they go from now on, those that wait first."""
        all_in = self._clients.is_open and self._nodes.is_open and self._forwarding.successor is None
        self._look = self._way_in if all_in else self._way_where_held
        self._parked.wake()
        for listener in self._listeners:
            listener()

    def _hear_of(self, version: Version) -> None:
        """Pass on what a caller claims. What the process knows, and tells others, it learns from who checked it."""
        if version in self._claims:
            return
        if len(self._claims) >= _CLAIMS_LIMIT:
            self._claims.clear()
        self._claims.add(version)
        self._on_newer(version)

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
        return None if way is None else as_generator(way)


def _refusing(refusal: Refusal) -> MethodHandler:
    async def abort(_: object, context: Context) -> None:
        await refuse(refusal, context)

    return grpc.stream_stream_rpc_method_handler(abort)
