"""Runs a call as a step: from its beginning to its end, whatever it awaits is part of it."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from segue.layer.grpc_hooks import Around, Passage, Unary
from segue.layer.grpc_order import Claims
from segue.layer.steps import Steps, current, enter, leave

Result = TypeVar("Result")


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
        passage = Passage(around, context)
        step = current()
        if step is not None and step.claims_anything:
            return await passage.go(request)  # all that follows was claimed when the call came in
        from_node = step is not None and step.from_node
        return await within_step(steps, claims, from_node, partial(passage.go, request))

    return call
