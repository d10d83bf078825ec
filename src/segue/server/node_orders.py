"""What operators ordered that concerns the nodes themselves, told to each with the answer to its heartbeat."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from starlette.concurrency import run_in_threadpool

from segue.model.hand import Hand
from segue.model.ids import NodeId, SystemName, Version
from segue.server.store import Store

#: So old may be what a heartbeat is answered by: the database is not asked by each of ten thousand nodes.
_FRESH_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOrders:
    """What concerns the nodes of one system.

    Attributes:
        oldest: the oldest version that is still to be answered; 0 if none was retired.
        retries: `{node: its last order to try again}`; an order is named by its time.
    """

    oldest: Version
    retries: Mapping[NodeId, str]


class OrdersForNodes:
    """Knows the orders to the nodes of each system, as they were a second ago at most; for one event loop.

    Args:
        store: where actions are kept.
        seconds: a clock that only goes on, which tells how old that is.
    """

    def __init__(self, store: Store, seconds: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._seconds = seconds
        self._lock = asyncio.Lock()
        #: {system: (when it was read, what was read)}
        self._known: dict[SystemName, tuple[float, NodeOrders]] = {}

    async def of(self, system: SystemName) -> NodeOrders:
        """Return what the nodes of `system` are to be told.

        Raises:
            PeerError: the database does not answer now.
        """
        known = self._fresh(system)
        if known is not None:
            return known
        async with self._lock:  # one asks the database; who waited for that finds what it found
            known = self._fresh(system)
            if known is None:
                read_at = self._seconds()
                known = await run_in_threadpool(_orders, self._store, system)
                self._known[system] = (read_at, known)
            return known

    def forget(self, system: SystemName) -> None:
        """Ask the database anew: an action was added. Any thread may call."""
        self._known.pop(system, None)

    def _fresh(self, system: SystemName) -> NodeOrders | None:
        known = self._known.get(system)
        return known[1] if known is not None and self._seconds() - known[0] < _FRESH_S else None


def _orders(store: Store, system: SystemName) -> NodeOrders:
    hand = Hand.of(store.actions_of(system))
    latest: dict[NodeId, datetime] = {}
    for (_version, node), action in hand.retried.items():
        latest[node] = max(action.at, latest.get(node, action.at))
    return NodeOrders(
        oldest=Version(max(hand.retired) + 1) if hand.retired else Version(0),
        retries={node: at.isoformat() for node, at in latest.items()},
    )
