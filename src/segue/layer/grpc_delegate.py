"""Delegates: the object next to a simulation in its chain, called one way however it was written."""

import asyncio
import inspect
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, nullcontext
from functools import partial
from threading import get_ident
from types import AsyncGeneratorType
from typing import Any

import grpc.aio

from segue.layer.grpc_collector import MethodHandler
from segue.layer.grpc_context import AuthorContext, Context
from segue.layer.grpc_no_call import no_call
from segue.layer.threads.grpc_bridge import Outcome, outcome_of_call, result_of
from segue.layer.threads.grpc_iterators import AHEAD, Blocking, from_thread
from segue.layer.threads.grpc_sync_context import SyncContext
from segue.layer.threads.grpc_threads import BRIDGE, as_async, is_plain
from segue.layer.threads.workers import WORKERS, Workers


class Delegate:
    """What a simulation gets as its delegate: the object next to it, and how its methods are called.

    Each method is called as `delegate.Method(request, context)`: awaited if it has one reply, iterated over
    with `async for` if it has a stream of them, whichever way the object's author has written it. From a thread,
    as in a simulation's plain functions, the same returns the reply, or a plain iterator.

    Args:
        instance: the object; what is not a method of its services is the object's own.
    """

    def __init__(self, instance: object) -> None:
        self.__dict__.update({_INSTANCE: instance, _BOUND: frozenset()})

    def __getattr__(self, name: str) -> Any:
        try:
            return getattr(self.__dict__[_INSTANCE], name)
        except KeyError:  # not made yet, as when it is copied
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self.__dict__[_INSTANCE], name, value)

    def __repr__(self) -> str:
        return f"Delegate({self.__dict__[_INSTANCE]!r})"


#: Not names that an attribute of an object could have.
_INSTANCE, _BOUND = "the instance", "the bound methods"


def bind(delegate: Delegate, methods: Mapping[str, Callable[..., Any]]) -> None:
    """Have a delegate's methods called by these from now on; those that were bound before are forgotten.

    A function, since a service may have a method `bind`.

    Args:
        delegate: of one simulation.
        methods: `{method's name: what delegated() returned}`
    """
    own = delegate.__dict__  # looked at sooner than anything that a class could do about attributes
    for name in own[_BOUND] - methods.keys():
        del own[name]
    own.update(methods, **{_BOUND: frozenset(methods)})


def delegated(
    handler: MethodHandler,
    behaviour: Callable[..., Any],
    workers: Workers = WORKERS,
    following: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None,
) -> Callable[..., Any]:
    """Return what a delegate's method is called by, for calls from the event loop and from threads.

    It is made in the event loop's thread. From there, what an asynchronous method with one request returns is
    handed on as it is.

    Args:
        handler: as the delegate's object registered it; its kind is looked at.
        behaviour: the object's method, written in whatever way.
        workers: whose threads plain functions run in.
        following: makes of the method, asynchronous, what is called from the event loop; None for the method itself.
    """
    method = as_async(handler, behaviour, workers)
    onward = _in_loop(handler, method if following is None else following(method))
    blocking = _plainly(handler, behaviour) if is_plain(behaviour) else _waiting(handler, onward)
    # Not `asyncio.get_running_loop`, which asks the system for the process's id each time.
    here = get_ident()
    if not handler.response_streaming:

        def call(request: Any, context: Any = None) -> Any:
            if get_ident() != here:
                return blocking(request, context)
            return onward(request, no_call() if context is None else context)

        return call

    def iterate(request: Any, context: Any = None) -> Any:
        if get_ident() != here:
            return blocking(request, context)
        if context is None:
            context = no_call()
        replies = onward(request, context)
        if isinstance(context, AuthorContext) and isinstance(replies, AsyncGeneratorType):
            context.scope.keep(replies)
        return replies

    return iterate


# --- in the event loop ---


def _in_loop(handler: MethodHandler, behaviour: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that returns an awaitable, or an asynchronous generator."""
    writes = handler.response_streaming and not inspect.isasyncgenfunction(behaviour)
    if writes:
        return partial(_written, behaviour, handler.request_streaming)
    if not handler.request_streaming:
        return behaviour

    def with_requests(requests: Any, context: Context) -> Any:
        source = _requests(requests)
        return behaviour(source, _Delegated(context, source, None))

    return with_requests


class _Delegated(AuthorContext):
    """The context of a delegate that reads the simulation's requests, or writes replies to it."""

    def __init__(self, below: Context, requests: AsyncIterator[Any] | None, replies: "_Written | None") -> None:
        super().__init__(below)
        self._requests = requests
        self._replies = replies

    async def read(self) -> Any:
        """Return the simulation's next request, or `grpc.aio.EOF`."""
        if self._requests is None:
            raise grpc.aio.UsageError("this method has one request: there is nothing to read")
        return await anext(self._requests, grpc.aio.EOF)

    async def write(self, message: Any) -> None:
        """Hand a reply to the simulation."""
        if self._replies is None:
            raise grpc.aio.UsageError("this method returns or yields its replies: there is nothing to write to")
        await self._replies.put(message)


def _requests(requests: Any) -> AsyncIterator[Any]:
    if hasattr(requests, "__aiter__"):
        return aiter(requests)
    if isinstance(requests, Iterable):
        return _each(requests)
    raise TypeError(f"requests {requests!r}: give an iterator of messages, asynchronous or plain")


async def _each(requests: Iterable[Any]) -> AsyncGenerator[Any, None]:
    for request in requests:
        yield request


async def _written(
    behaviour: Callable[..., Any], streaming: bool, request: Any, context: Context
) -> AsyncGenerator[Any, None]:
    """Yield what a method writes, which is at work in a task of its own as long as this is iterated over."""
    source = _requests(request) if streaming else None
    replies = _Written()
    given = request if source is None else source
    # A group entered and left by hand: its one task does not raise, so all the group does is to wait for it. With
    # `async with`, it would cancel the task of whoever iterates, and change how this generator is closed.
    group = asyncio.TaskGroup()
    await group.__aenter__()
    task = group.create_task(outcome_of_call(partial(behaviour, given, _Delegated(context, source, replies))))
    task.add_done_callback(replies.ended)
    try:
        while (message := await replies.get()) is not _END:
            yield message
    finally:
        task.cancel()
        await group.__aexit__(None, None, None)


_END = object()


class _Written:
    """Replies on their way from the task that writes them to the one that iterates; a few wait."""

    def __init__(self) -> None:
        self._messages: deque[Any] = deque()
        self._outcome: Outcome | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._room = asyncio.Semaphore(AHEAD)

    async def put(self, message: Any) -> None:
        await self._room.acquire()
        self._messages.append(message)
        self._wake()

    async def get(self) -> Any:
        while not self._messages:
            if self._outcome is not None:
                result_of(self._outcome)
                return _END
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        self._room.release()
        return self._messages.popleft()

    def ended(self, task: asyncio.Task[Outcome]) -> None:
        self._outcome = (None, asyncio.CancelledError()) if task.cancelled() else task.result()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


# --- in threads ---


def _plainly(handler: MethodHandler, behaviour: Callable[..., Any]) -> Callable[..., Any]:
    """Return what calls a plain function in the thread that it is called from."""

    def call(request: Any, context: Any) -> Any:
        if not isinstance(context, SyncContext):
            context = SyncContext(no_call() if context is None else context, BRIDGE.get())
        given = iter(request) if handler.request_streaming else request
        replies = behaviour(given, context)
        return iter(replies) if handler.response_streaming else replies

    return call


def _waiting(handler: MethodHandler, onward: Callable[..., Any]) -> Callable[..., Any]:
    """Return what has an asynchronous method called in the event loop, and waits for it."""

    def call(request: Any, context: Any) -> Any:
        bridge = context.bridge if isinstance(context, SyncContext) else BRIDGE.get()
        if bridge is None or bridge.is_closed:
            raise RuntimeError(
                "a delegate's asynchronous method was called in a thread that answers no call: "
                "call it from the event loop, or hand the context of a call on"
            )
        below = context.below if isinstance(context, SyncContext) else no_call() if context is None else context
        source = None
        if handler.request_streaming and not hasattr(request, "__aiter__"):
            # Plain requests may wait for something: they are taken in another thread, each when it is asked for.
            source = from_thread(bridge, lambda: request, 0)
        make = partial(onward, request if source is None else source, below)
        if handler.response_streaming:
            return Blocking(bridge, partial(_many, source, make), ahead=AHEAD, owned=True)
        return bridge.wait(partial(_one, source, make))

    return call


async def _one(source: AsyncGenerator[Any, None] | None, onward: Callable[[], Any]) -> Any:
    async with nullcontext() if source is None else aclosing(source):
        return await onward()


async def _many(
    source: AsyncGenerator[Any, None] | None, onward: Callable[[], AsyncGenerator[Any, None]]
) -> AsyncGenerator[Any, None]:
    async with nullcontext() if source is None else aclosing(source), aclosing(onward()) as replies:
        async for reply in replies:
            yield reply
