"""A release's predicate, run in the application's process: whether now is the time for the node to go to it."""

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

#: Seconds that it has: a node that waits asks again and again.
TIMEOUT_S = 10.0


async def objection(predicate: Callable[[Any], Any], instance: object) -> str | None:
    """Return why the node should not go now, in one line; None if it may.

    Args:
        predicate: the author's: a plain or an async function that takes what it looks at, and
            returns True if the node may go, else False, or why not as text. A plain one is run in a thread.
        instance: what it looks at: the object that serves, or the fleet.

    Raises:
        TimeoutError: it does not answer in time.
        TypeError: it returns something else.
        Exception: what it raised.
    """
    async with asyncio.timeout(TIMEOUT_S):
        if inspect.iscoroutinefunction(predicate):
            said = await predicate(instance)
        else:
            said = await asyncio.to_thread(predicate, instance)
            if inspect.isawaitable(said):
                said = await said
    match said:
        case True:
            return None
        case False:
            return "not now"
        case str():
            return " ".join(said.split()) or "not now"
        case _:
            raise TypeError(f"the predicate returned {said!r}: let it return True, or False or text to say why not")
