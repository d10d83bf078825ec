"""Heartbeats that come at the same time are written in one transaction: each is answered once it is committed."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from segue.server.facts import Heard, Report
from segue.server.store import Greet, Store, welcome
from segue.server.together import Together

#: Heartbeats in one transaction: who decides about a system waits for it, in SQLite.
BATCH_LIMIT = 500
#: Nodes that say that nothing changed are heard together: a transaction costs as much as what dozens of them say. An
#: agent that says it waits for nothing but the answer.
GATHER_S = 0.05


class Heartbeats:
    """Passes reports on to the store, many at a time; for one event loop.

    Args:
        store: the upgrade database.
        greet: as `Store.hear` takes it.
        gather_s: for so many seconds reports that nothing changed are gathered.
    """

    def __init__(self, store: Store, greet: Greet = welcome, *, gather_s: float = GATHER_S) -> None:
        # Threads of their own: those for other requests may all wait for a decision.
        threads = ThreadPoolExecutor(2, thread_name_prefix="heartbeats")
        hear = partial(store.hear, greet=greet)
        self._together: Together[Report, Heard] = Together(hear, threads=threads, limit=BATCH_LIMIT)
        self._gathered: Together[Report, Heard] = Together(hear, threads=threads, limit=BATCH_LIMIT, gather_s=gather_s)

    async def hear(self, report: Report) -> Heard:
        """Return what became of `report` once that is committed.

        Raises:
            PeerError: the database does not answer now.
        """
        return await (self._gathered if report.said is None else self._together).do(report)

    def __repr__(self) -> str:
        return f"Heartbeats({self._together!r})"
