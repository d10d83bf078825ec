"""What operators ordered that concerns the nodes themselves, told to each with the answer to its heartbeat."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from segue.model.clock import Clock
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
    """Knows the orders to the nodes of each system, as they were a second ago at most.

    Args:
        store: where actions are kept.
        clock: tells how old that is.
    """

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        #: {system: (when it was read, what was read)}
        self._known: dict[SystemName, tuple[datetime, NodeOrders]] = {}

    def of(self, system: SystemName) -> NodeOrders:
        """Return what the nodes of `system` are to be told."""
        now = self._clock.now()
        known = self._known.get(system)
        if known is not None and abs(now - known[0]) < timedelta(seconds=_FRESH_S):
            return known[1]
        with self._lock:  # one asks the database; who waited for that finds what it found
            known = self._known.get(system)
            if known is None or abs(now - known[0]) >= timedelta(seconds=_FRESH_S):
                known = self._known[system] = (now, _orders(self._store, system))
            return known[1]

    def forget(self, system: SystemName) -> None:
        """Ask the database anew: an action was added."""
        with self._lock:
            self._known.pop(system, None)


def _orders(store: Store, system: SystemName) -> NodeOrders:
    hand = Hand.of(store.actions_of(system))
    latest: dict[NodeId, datetime] = {}
    for (_version, node), action in hand.retried.items():
        latest[node] = max(action.at, latest.get(node, action.at))
    return NodeOrders(
        oldest=Version(max(hand.retired) + 1) if hand.retired else Version(0),
        retries={node: at.isoformat() for node, at in latest.items()},
    )
