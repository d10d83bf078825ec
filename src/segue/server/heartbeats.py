"""Heartbeats that come at the same time are written in one transaction: each is answered once it is committed.

There is no task and no timer: whoever comes first writes what has come by then, and hands on to one of those that
came meanwhile. So a single heartbeat waits for nobody, and under load each transaction takes as many as came during
the last.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from segue.errors import PeerError
from segue.server.facts import Heard, Report
from segue.server.store import Greet, Store, welcome

#: Heartbeats in one transaction: who decides about a system waits for it, in SQLite.
BATCH_LIMIT = 500


@dataclass(slots=True, eq=False)
class _Waiting:
    report: Report
    #: What became of the report; None if it is this one's turn to write.
    told: asyncio.Future[Heard | None]


class Heartbeats:
    """Passes reports on to the store, many at a time; for one event loop.

    Args:
        store: the upgrade database.
        greet: as `Store.hear` takes it.
    """

    def __init__(self, store: Store, greet: Greet = welcome) -> None:
        self._store = store
        self._greet = greet
        # A thread of its own: those for other requests may all wait for a decision.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="heartbeats")
        self._waiting: list[_Waiting] = []
        self._is_writing = False

    async def hear(self, report: Report) -> Heard:
        """Return what became of `report` once that is committed.

        Raises:
            PeerError: the database does not answer now.
        """
        mine = _Waiting(report, _future())
        self._waiting.append(mine)
        if self._is_writing:
            try:
                heard = await mine.told
            except asyncio.CancelledError:
                if mine in self._waiting and mine.told.done() and not mine.told.cancelled():
                    self._waiting.remove(mine)  # it was its turn
                    self._hand_on()
                raise
            if heard is not None:
                return heard
            mine.told = _future()
        self._is_writing = True
        try:
            await self._write()
        finally:
            self._hand_on()
        heard = mine.told.result()
        assert heard is not None, "whoever writes, writes its own report"
        return heard

    async def _write(self) -> None:
        batch, self._waiting = self._waiting[:BATCH_LIMIT], self._waiting[BATCH_LIMIT:]
        loop = asyncio.get_running_loop()
        try:
            heard = await loop.run_in_executor(self._thread, self._hear, [one.report for one in batch])
        except BaseException as error:
            ended = isinstance(error, asyncio.CancelledError)
            for one in batch[1:]:
                if not one.told.done():
                    one.told.set_exception(PeerError("the upgrade server ends") if ended else error)
            raise
        for one, became in zip(batch, heard, strict=True):
            if one.told.done():
                continue
            if isinstance(became, Heard):
                one.told.set_result(became)
            else:
                one.told.set_exception(became)

    def _hear(self, reports: Sequence[Report]) -> Sequence[Heard | Exception]:
        try:
            return self._store.hear(reports, self._greet)
        except PeerError:
            raise
        except Exception:
            if len(reports) == 1:
                raise
        # One of them is at fault: the others must not suffer from it.
        return [self._hear_one(report) for report in reports]

    def _hear_one(self, report: Report) -> Heard | Exception:
        try:
            (heard,) = self._store.hear([report], self._greet)
        except Exception as error:
            return error
        return heard

    def _hand_on(self) -> None:
        """Give the turn to the next one that waits."""
        self._waiting = [one for one in self._waiting if not one.told.cancelled()]
        if not self._waiting:
            self._is_writing = False
            return
        self._waiting[0].told.set_result(None)

    def __repr__(self) -> str:
        return f"Heartbeats({len(self._waiting)} wait)"


def _future() -> "asyncio.Future[Heard | None]":
    return asyncio.get_running_loop().create_future()
