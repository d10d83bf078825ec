"""Runs a call as a step: from its beginning to its end, whatever it awaits is part of it."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from typing import Any, TypeVar

from segue.layer.grpc_hooks import Around, Passage, Unary
from segue.layer.grpc_order import Claims
from segue.layer.steps import Steps, current, enter, leave

Result = TypeVar("Result")

#: How many hooks of a call are at work in each other, and how many may be. Two authors who do not know each other can
#: have their hooks call each other without end; what is meant to end is far below this.
_depth: ContextVar[int] = ContextVar("segue_hook_depth", default=0)
_DEPTH_LIMIT = 32


async def within_step(steps: Steps, claims: Claims, from_node: bool, work: Callable[[], Awaitable[Result]]) -> Result:
    """Do `work` as one step.

    Args:
        steps: the chain's.
        claims: what the step claims.
        from_node: whether a node calls.
        work: is awaited once the step may begin.
    """
    step = steps.try_begin(claims.reads, claims.writes, from_node)
    if step is None:
        step = await steps.begin(claims.reads, claims.writes, from_node)
    token = enter(step)
    try:
        return await work()
    finally:
        leave(token)
        steps.end(step)


def through(around: Around, claims: Claims, steps: Steps) -> Unary:
    """Return what a simulation calls a method of its delegate by that others observe or intercept.

    Args:
        around: the method, without the hooks of the simulation itself.
        claims: the simulations that follow it.
        steps: the chain's.
    """

    async def call(request: Any, context: Any) -> Any:
        depth = _depth.get()
        if depth == _DEPTH_LIMIT:
            whose = type(around.asker).__qualname__
            raise RecursionError(
                f"hooks on both sides of the object call each other without end: {around.spot[1]}, called by {whose}, "
                "is followed by a simulation whose hook calls what that one follows"
            )
        token = _depth.set(depth + 1)
        try:
            passage = Passage(around, context)
            step = current()
            if step is not None and step.claims_anything:
                return await passage.go(request)  # all that follows was claimed when the call came in
            from_node = step is not None and step.from_node
            return await within_step(steps, claims, from_node, partial(passage.go, request))
        finally:
            _depth.reset(token)

    return call
