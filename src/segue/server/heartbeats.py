"""Heartbeats that come at the same time are written in one transaction: each is answered once it is committed."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

from segue.server.facts import Heard, Report
from segue.server.store import Greet, Store, welcome
from segue.server.together import Together

#: Heartbeats in one transaction: who decides about a system waits for it, in SQLite.
BATCH_LIMIT = 500


class Heartbeats:
    """Passes reports on to the store, many at a time; for one event loop.

    Args:
        store: the upgrade database.
        greet: as `Store.hear` takes it.
    """

    def __init__(self, store: Store, greet: Greet = welcome) -> None:
        # A thread of its own: those for other requests may all wait for a decision.
        threads = ThreadPoolExecutor(1, thread_name_prefix="heartbeats")
        self._together: Together[Report, Heard] = Together(
            partial(store.hear, greet=greet), threads=threads, limit=BATCH_LIMIT
        )

    async def hear(self, report: Report) -> Heard:
        """Return what became of `report` once that is committed.

        Raises:
            PeerError: the database does not answer now.
        """
        return await self._together.do(report)

    def __repr__(self) -> str:
        return f"Heartbeats({self._together!r})"
