"""What operators ordered that concerns the nodes themselves, told to each with the answer to its heartbeat."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from starlette.concurrency import run_in_threadpool

from segue.model.hand import Hand
from segue.model.ids import ClassName, NodeId, SystemName, Version
from segue.server.decisions import NO_ANSWERS, Answers
from segue.server.joining import begins_with
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
        self._joining = asyncio.Lock()
        #: {(system, class): (when it was read, what a node that joins begins with)}
        self._first: dict[tuple[SystemName, ClassName], tuple[float, Version]] = {}

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

    async def first_of(self, system: SystemName, class_name: ClassName, answers: Answers = NO_ANSWERS) -> Version:
        """Return the version that a node of a class begins with which never ran any; 0 if no release has the class.

        Only nodes that join ask for it: it takes a look at the whole system, once a second at most.

        Args:
            system: which.
            class_name: what the node is to run.
            answers: what webhooks say.

        Raises:
            PeerError: the database does not answer now.
        """
        place = system, class_name
        async with self._joining:
            known = self._first.get(place)
            if known is None or self._seconds() - known[0] >= _FRESH_S:
                read_at = self._seconds()
                known = read_at, await run_in_threadpool(_first, self._store, system, class_name, answers)
                self._first[place] = known
            return known[1]

    def forget(self, system: SystemName) -> None:
        """Ask the database anew: an action was added. Any thread may call."""
        self._known.pop(system, None)
        for place in [place for place in tuple(self._first) if place[0] == system]:
            self._first.pop(place, None)

    def _fresh(self, system: SystemName) -> NodeOrders | None:
        known = self._known.get(system)
        return known[1] if known is not None and self._seconds() - known[0] < _FRESH_S else None


def _first(store: Store, system: SystemName, class_name: ClassName, answers: Answers) -> Version:
    picture = store.glance_at(system)
    return begins_with(picture, class_name, picture.at, answers)


def _orders(store: Store, system: SystemName) -> NodeOrders:
    hand = Hand.of(store.actions_of(system))
    latest: dict[NodeId, datetime] = {}
    for (_version, node), action in hand.retried.items():
        latest[node] = max(action.at, latest.get(node, action.at))
    return NodeOrders(
        oldest=Version(max(hand.retired) + 1) if hand.retired else Version(0),
        retries={node: at.isoformat() for node, at in latest.items()},
    )
