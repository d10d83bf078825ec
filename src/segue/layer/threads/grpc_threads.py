"""Authors' methods written as plain functions, called as those written with `async def` are."""

import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any

from segue.layer.grpc_collector import MethodHandler
from segue.layer.grpc_context import AuthorContext, Context, Scope
from segue.layer.threads.grpc_bridge import Bridge, CallOverError
from segue.layer.threads.grpc_iterators import AHEAD, Blocking, from_thread
from segue.layer.threads.grpc_sync_context import SyncContext
from segue.layer.threads.workers import WORKERS, Workers

#: The bridge of the call that this thread is at work for, also in what the thread has started in the loop.
BRIDGE: ContextVar[Bridge | None] = ContextVar("segue_bridge", default=None)


def is_plain(behaviour: Callable[..., Any]) -> bool:
    """Say whether an author's method is a plain function, which must run in a thread."""
    return not (inspect.iscoroutinefunction(behaviour) or inspect.isasyncgenfunction(behaviour))


def as_async(handler: MethodHandler, behaviour: Callable[..., Any], workers: Workers = WORKERS) -> Callable[..., Any]:
    """Return a method that is called as an asynchronous one of its kind, however it was written.

    A plain function runs in a thread, a plain generator in one thread from its start to its end, with the
    caller's contextvars, a `grpc.ServicerContext` and plain iterators. When the call is cancelled, what it
    waits for ends, and the cancellation goes on once it has returned: so it never outlives its call.

    Args:
        handler: as the author's object registered it; its kind is looked at.
        behaviour: the author's method.
        workers: whose threads it runs in.

    Returns:
        `behaviour` itself if it is asynchronous; else a coroutine function or an asynchronous generator function.
    """
    if not is_plain(behaviour):
        return behaviour

    def plainly(bridge: Bridge, request: Any, context: SyncContext) -> Callable[[], Any]:
        if handler.request_streaming:
            given: Any = Blocking(bridge, lambda: aiter(request), ahead=0, owned=False)
        else:
            given = request
        return partial(_inside, bridge, behaviour, given, context)

    async def call(request: Any, context: Context) -> Any:
        async with _bridge(workers, context) as bridge:
            plain = SyncContext(context, bridge)
            with _cancelled_by(plain):
                return await bridge.run(plainly(bridge, request, plain))

    async def generate(request: Any, context: Context) -> AsyncGenerator[Any, None]:
        async with _bridge(workers, context) as bridge:
            plain = SyncContext(context, bridge)
            with _cancelled_by(plain):
                async with aclosing(from_thread(bridge, plainly(bridge, request, plain), AHEAD)) as replies:
                    async for reply in replies:
                        yield reply

    return generate if handler.response_streaming else call


@asynccontextmanager
async def _bridge(workers: Workers, context: Context) -> AsyncIterator[Bridge]:
    """Be in a call's turn, which it has already if it comes out of a thread, or has one at work."""
    outer = BRIDGE.get()
    scope = context.scope if isinstance(context, AuthorContext) else Scope()
    has_turn = scope.workers or (outer is not None and not outer.is_closed)
    async with nullcontext() if has_turn else workers.turn():
        bridge = Bridge(workers)
        scope.workers += 1
        await bridge.open()
        try:
            yield bridge
        finally:
            try:
                await bridge.close()
            finally:
                scope.workers -= 1


@contextmanager
def _cancelled_by(context: SyncContext) -> Iterator[None]:
    """End the call with CANCELLED if the method called `cancel`, whatever came of it."""
    try:
        yield
    except CallOverError:
        context.raise_if_cancelled()
        raise
    context.raise_if_cancelled()


def _inside(bridge: Bridge, behaviour: Callable[..., Any], request: Any, context: SyncContext) -> Any:
    BRIDGE.set(bridge)  # in the thread's own copy of the contextvars
    return behaviour(request, context)
