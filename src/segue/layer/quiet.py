"""How a chain goes quiet: who is let in no more, who may end, and in which order.

Streams first, while unary calls come and go: what is waited for streams is not waited by unary calls. Then
clients' calls, while nodes' calls are still answered: two nodes that go quiet at the same time, each with a
client's call inside that calls the other, do not wait for each other.

Source: docs/decisions/0007.
"""

import asyncio
from collections.abc import Callable

from segue.layer.gate import Gates

#: So long clients' unary calls may take before nodes' streams are let in again: one of them may wait for another
#: node's call which needs such a stream here. Shorter, and streams are begun in vain; longer, and the pause is longer
#: where two nodes go quiet at once.
_RELIEF_S = 1.0
#: So long a stream may be in the midst of its first reply when it is told to end. Shorter, and a caller on a slow line
#: is cut off without a status; longer, and one who does not take that reply holds up the upgrade longer.
_HELD_S = 1.0


async def go_quiet(
    clients: Gates, nodes: Gates, timeout_s: float, streams_s: float, changed: Callable[[], None]
) -> float:
    """Let no more calls in, and return once none is inside and nothing of the streams that were ended is at work.

    Args:
        clients: clients' calls.
        nodes: nodes' calls.
        timeout_s: seconds until it is given up, not counting `streams_s`.
        streams_s: seconds that streaming calls have to end by themselves; then they are ended.
        changed: called when other calls may go in than before.

    Returns:
        Since when clients' unary calls wait, in the loop's time.

    Raises:
        TimeoutError: calls are still inside; streams that were ended and are still at work, too.
    """
    for gates in (clients, nodes):
        gates.close_to_streams()
    changed()
    await _streams_ended((clients, nodes), streams_s)
    try:
        async with asyncio.timeout(timeout_s):
            await _no_streams(clients, nodes)
            since = asyncio.get_running_loop().time()
            clients.close()
            changed()
            were_let_in = await _clients_ended(clients, nodes, changed)
            nodes.close()
            changed()
            await nodes.unary_emptied()
            if were_let_in:
                await _streams_ended((nodes,), streams_s)
            await _no_streams(nodes)
    except TimeoutError:
        raise TimeoutError(
            f"after {timeout_s} s {clients.inside} calls of clients and {nodes.inside} of nodes are still inside, "
            f"{clients.streams_inside + nodes.streams_inside} of them streams that were told to end: "
            "resume, and try again when they have ended"
        ) from None
    return since


async def _streams_ended(all_gates: tuple[Gates, ...], streams_s: float) -> None:
    try:
        async with asyncio.timeout(streams_s):
            for gates in all_gates:
                await gates.streams_emptied()
    except TimeoutError:
        pass


async def _no_streams(*all_gates: Gates) -> None:
    for gates in all_gates:
        gates.end_streams()
    await _streams_ended(all_gates, _HELD_S)
    for gates in all_gates:
        gates.end_streams()  # those too that are held, as their callers do not take the first reply
    for gates in all_gates:
        await gates.streams_emptied()


async def _clients_ended(clients: Gates, nodes: Gates, changed: Callable[[], None]) -> bool:
    """Return once no client's call is inside; say whether nodes' streams had to be let in again for that."""
    try:
        async with asyncio.timeout(_RELIEF_S):
            await clients.emptied()
            return False
    except TimeoutError:
        nodes.open_to_streams()
        changed()
        await clients.emptied()
        return True
