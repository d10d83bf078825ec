"""What comes at the same time is done in one go, and each is told what became of its own once that is done.

There is no task: whoever comes first does what has come by then, and hands on to one of those that came meanwhile. So
one that comes alone waits for nobody, and under load each go takes as many as came during the last. What is in no hurry
may be gathered for a while before each go, so that it costs less.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Generic, TypeVar

from segue.errors import PeerError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class _Turn:
    """Stands for the result until it is there: it is this one's turn to do what has come."""


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Item, Result]):
    item: Item
    told: "asyncio.Future[Result | _Turn]"


class Together(Generic[Item, Result]):
    """Does what comes, many at a time and in the order in which it came; for one event loop.

    Args:
        do: does what it is handed, whole or not at all, and returns what became of each: a result, or an error that is
            its own. It runs in a thread. What it raises is everybody's: if that is no `PeerError`, halves are then
            done by themselves, and theirs, so that one that is at fault harms no other.
        threads: where it runs.
        limit: so many at most in one go.
        gather_s: for so many seconds who goes waits for others to come.
    """

    def __init__(
        self,
        do: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        *,
        threads: Executor,
        limit: int,
        gather_s: float = 0.0,
    ) -> None:
        self._do = do
        self._gather_s = gather_s
        self._threads = threads
        self._limit = limit
        self._waiting: list[_Waiting[Item, Result]] = []
        self._is_doing = False

    @property
    def is_idle(self) -> bool:
        """Say whether nothing is being done, and nothing waits."""
        return not self._is_doing and not self._waiting

    async def do(self, item: Item) -> Result:
        """Return what became of `item` once that is done.

        Raises:
            PeerError: nobody can do it now.
            Exception: whatever became of it, or came of doing it.
        """
        mine: _Waiting[Item, Result] = _Waiting(item, _future())
        self._waiting.append(mine)
        if self._is_doing:
            try:
                became = await mine.told
            except asyncio.CancelledError:
                if mine in self._waiting and mine.told.done() and not mine.told.cancelled():
                    self._waiting.remove(mine)  # it was its turn
                    self._hand_on()
                raise
            if not isinstance(became, _Turn):
                return became
            mine.told = _future()
        self._is_doing = True
        try:
            if self._gather_s:
                await asyncio.sleep(self._gather_s)
            await self._go()
        finally:
            if mine in self._waiting:  # it was cancelled before it went
                self._waiting.remove(mine)
            self._hand_on()
        became = mine.told.result()
        assert not isinstance(became, _Turn), "whoever goes, does its own"
        return became

    async def _go(self) -> None:
        batch, self._waiting = self._waiting[: self._limit], self._waiting[self._limit :]
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._threads, self._done, [one.item for one in batch])
        except BaseException as error:
            ended = isinstance(error, asyncio.CancelledError)
            for one in batch[1:]:
                if not one.told.done():
                    one.told.set_exception(PeerError("the upgrade server ends") if ended else error)
            raise
        for one, became in zip(batch, results, strict=True):
            if one.told.done():
                continue
            if isinstance(became, Exception):
                one.told.set_exception(became)
            else:
                one.told.set_result(became)

    def _done(self, items: Sequence[Item]) -> Sequence[Result | Exception]:
        try:
            return self._do(items)
        except PeerError:
            raise
        except Exception:
            if len(items) == 1:
                raise
        half = len(items) // 2
        return [*self._done_apart(items[:half]), *self._done_apart(items[half:])]

    def _done_apart(self, items: Sequence[Item]) -> Sequence[Result | Exception]:
        try:
            return self._done(items)
        except Exception as error:  # the other half may be done already
            return [error] * len(items)

    def _hand_on(self) -> None:
        """Give the turn to the next one that waits."""
        self._waiting = [one for one in self._waiting if not one.told.cancelled()]
        if not self._waiting:
            self._is_doing = False
            return
        self._waiting[0].told.set_result(_Turn())

    def __repr__(self) -> str:
        return f"Together({len(self._waiting)} wait)"


def _future() -> "asyncio.Future[Result | _Turn]":
    return asyncio.get_running_loop().create_future()
