"""Observers and interceptors: which stand around which method of a chain, and a call's way through them."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import grpc
import grpc.aio

from segue.author import Marked, Simulation, interceptors_of, observers_of
from segue.errors import Disallowed, ReleaseError
from segue.layer.chain import Chain, Link, Place
from segue.layer.grpc_collector import MethodHandler
from segue.layer.grpc_context import AuthorContext, Serializer, outcome_of
from segue.model.ids import Version

#: A method of one object of a chain: where the object stands, and the method's path.
Spot: TypeAlias = tuple[Place, str]
#: Awaited with (request, reply, context).
Observer: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
#: Awaited with (request, context, proceed), returns the reply.
Interceptor: TypeAlias = Callable[[Any, Any, Any], Awaitable[Any]]
#: Awaited with (request, context), returns the reply.
Unary: TypeAlias = Callable[[Any, Any], Awaitable[Any]]
#: What the objects of a chain registered: {where the object stands: {path: handler}}
Methods: TypeAlias = Mapping[Place, Mapping[str, MethodHandler]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """What one simulation has around one method of its delegate.

    Attributes:
        simulation: the author's object.
        place: where the simulation stands.
        interceptors: stand in front of the method, the first outermost.
        observers: are told of what it answered.
        changes: whether a call through them changes anything that the simulation answers with.
    """

    simulation: Simulation
    place: Place
    interceptors: tuple[Interceptor, ...]
    observers: tuple[Observer, ...]
    changes: bool


#: What is around each method, past simulations' hooks first.
Hooks: TypeAlias = Mapping[Spot, tuple[Hook, ...]]


class ObserverFailedError(Exception):
    """An observer of the call failed; what it raised is the cause."""


class InterceptorFailedError(Exception):
    """An interceptor of the call failed; what it raised is the cause."""


#: What says itself what the caller is told: statuses that somebody chose, and faults that are somebody's already.
_SAID = (grpc.aio.AbortError, grpc.aio.InternalError, ObserverFailedError, InterceptorFailedError)


def hooks_of(chain: Chain, methods: Methods) -> dict[Spot, tuple[Hook, ...]]:
    """Find what the simulations of a chain have around their delegates' methods.

    Raises:
        ReleaseError: a simulation observes or intercepts what its delegate has not, or what streams; or the
            hook is not asynchronous, or does not take what it is given.
    """
    found: dict[Spot, tuple[Hook, ...]] = {}
    for link in chain.links:
        if link.role == "current" or not isinstance(link.instance, Simulation):
            continue
        delegate = chain.delegate_of(link)
        at = chain.place_of(delegate)
        for path, observers, interceptors in _hooks_on(link, link.instance, delegate, methods[at]):
            hook = Hook(
                simulation=link.instance,
                place=chain.place_of(link),
                interceptors=interceptors.functions,
                observers=observers.functions,
                changes=interceptors.changes or observers.changes,
            )
            found[at, path] = (*found.get((at, path), ()), hook)
    return found


def _hooks_on(
    link: Link, simulation: Simulation, delegate: Link, handlers: Mapping[str, MethodHandler]
) -> Iterator[tuple[str, Marked, Marked]]:
    """Yield what a simulation has around its delegate's methods: (path, observers, interceptors)."""
    observers, interceptors = observers_of(simulation), interceptors_of(simulation)
    for name in sorted({*observers, *interceptors}):
        whose = f"{type(simulation).__qualname__} of version {link.version}: its"
        kind = "observer" if name in observers else "interceptor"
        path = _unary_path(f'{whose} {kind} of "{name}"', name, delegate.version, handlers)
        observing, intercepting = observers.get(name, Marked()), interceptors.get(name, Marked())
        for observer in observing.functions:
            _check(observer, f'{whose} observer of "{name}"', ("request", "reply", "context"))
        for interceptor in intercepting.functions:
            _check(interceptor, f'{whose} interceptor of "{name}"', ("request", "context", "proceed"))
        yield path, observing, intercepting


def _unary_path(who: str, name: str, delegate: Version, handlers: Mapping[str, MethodHandler]) -> str:
    """Return the path of the one unary method of the delegate that is called `name`."""
    paths = [path for path in handlers if path.rpartition("/")[2] == name]
    if not paths:
        known = ", ".join(sorted({path.rpartition("/")[2] for path in handlers}))
        raise ReleaseError(f"{who}, but version {delegate} has no such method: use one of {known}")
    if len(paths) > 1:
        raise ReleaseError(f"{who}, but version {delegate} has {' and '.join(sorted(paths))}")
    handler = handlers[paths[0]]
    if handler.request_streaming or handler.response_streaming:
        raise ReleaseError(f"{who}, which streams: only unary methods can be observed or intercepted")
    return paths[0]


def _check(function: Callable[..., Any], who: str, arguments: Sequence[str]) -> None:
    if not inspect.iscoroutinefunction(function):
        raise ReleaseError(f"{who} is not asynchronous: write it with `async def`")
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        raise ReleaseError(f"{who} does not take ({', '.join(arguments)}): give it these") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """A unary method with what is around it.

    Attributes:
        method: the object's own.
        spot: which method it is.
        interceptors: in front of it, the outermost first.
        live: the hooks of the chain as it is when a call ends: a simulation that has come meanwhile is told,
            one that has gone is not.
        asker: the simulation that calls its delegate, whose own hooks are passed by; None for other callers.
        serialize: makes bytes of the reply before observers hear of it; None if nobody needs them.
    """

    method: Unary
    spot: Spot
    interceptors: tuple[Interceptor, ...]
    live: Hooks
    asker: object | None = None
    serialize: Serializer | None = None


def interceptors_at(spot: Spot, hooks: Hooks, asker: object | None) -> tuple[Interceptor, ...]:
    """Return what stands in front of a method, for calls that `asker` makes; None for other callers."""
    return tuple(
        interceptor
        for hook in hooks.get(spot, ())
        if asker is None or hook.simulation is not asker
        for interceptor in hook.interceptors
    )


class _OwnCode(AuthorContext):
    """The context of a method that others follow: it knows the status that this method set, not what stood before.

    A simulation may have set one, or an earlier call of its delegate, and go on.
    """

    def __init__(self, below: Any) -> None:
        super().__init__(below)
        self.own_outcome = "OK"

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the status that is sent at the end."""
        super().set_code(code)
        self.own_outcome = outcome_of(self)


class Passage:
    """One call's way through interceptors to the object's method, and on to its observers.

    Args:
        around: the method.
        context: the author's, or None where there is no call.
    """

    __slots__ = ("_around", "_context", "_faults", "_raw", "_reply")

    def __init__(self, around: Around, context: Any) -> None:
        self._around = around
        self._context = context
        self._faults: list[BaseException] = []
        self._reply: Any = None
        self._raw: bytes | None = None

    async def go(self, request: Any) -> Any:
        """Return what the caller gets.

        Raises:
            ObserverFailedError, InterceptorFailedError: such a one failed.
            Exception: what the object's method raised, or an interceptor chose to raise.
        """
        return await self._go(0, request)

    def bytes_of(self, reply: Any) -> bytes:
        """Return the bytes of what `go` returned."""
        if self._raw is not None and reply is self._reply:
            return self._raw
        assert self._around.serialize is not None, self._around
        return self._around.serialize(reply)

    async def _go(self, depth: int, request: Any) -> Any:
        around = self._around
        if depth == len(around.interceptors):
            return await self._arrive(request)
        interceptor = around.interceptors[depth]
        try:
            return await interceptor(request, self._context, partial(self._go, depth + 1))
        except (*_SAID, Disallowed):
            raise
        except Exception as error:
            if any(error is fault for fault in self._faults):
                raise
            raise InterceptorFailedError(f"the interceptor {interceptor.__qualname__} failed") from error

    async def _arrive(self, request: Any) -> Any:
        """Call the object's method, and tell the observers if it answered without fault."""
        around, context = self._around, self._context
        try:
            within = None if context is None else _OwnCode(context)
            reply = await around.method(request, within)
            if within is not None and within.own_outcome != "OK":
                return reply
            if around.serialize is not None:
                self._reply, self._raw = reply, around.serialize(reply)
        except Exception as error:
            self._faults.append(error)
            raise
        observers = [
            observer
            for hook in around.live.get(around.spot, ())
            if around.asker is None or hook.simulation is not around.asker
            for observer in hook.observers
        ]
        if observers:
            await tell(observers, request, reply, context)
        return reply


def followed_later(spot: Spot, live: Hooks, asker: object, method: Unary) -> Unary:
    """Return a delegate's method that nobody follows yet: whoever has come when a call of it ends is told.

    Args:
        spot: which method it is.
        live: the hooks of the chain as it is when a call ends.
        asker: the simulation that calls.
        method: the method.
    """

    async def call(request: Any, context: Any) -> Any:
        reply = await method(request, context)
        if spot in live and outcome_of(context) == "OK":
            observers = [observer for hook in live[spot] if hook.simulation is not asker for observer in hook.observers]
            await tell(observers, request, reply, context)
        return reply

    return call


async def tell(observers: Iterable[Observer], request: Any, reply: Any, context: Any) -> None:
    """Tell observers of a call that was answered: all of them, even if its caller gives up meanwhile.

    Raises:
        ObserverFailedError: one failed.
        asyncio.CancelledError: the caller gave up; the observers have ended by then.
    """
    told = asyncio.Event()

    async def tell_each() -> None:
        try:
            for observer in observers:
                await _tell(observer, request, reply, context)
        finally:
            told.set()

    try:
        await asyncio.shield(tell_each())
    except asyncio.CancelledError:
        while not told.is_set():
            with suppress(asyncio.CancelledError):
                await told.wait()
        raise


async def _tell(observer: Observer, request: Any, reply: Any, context: Any) -> None:
    try:
        await observer(request, reply, context)
    except _SAID:
        raise
    except Exception as error:
        raise ObserverFailedError(f"the observer {observer.__qualname__} failed") from error
