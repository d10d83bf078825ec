"""Rule: what comes while something is done is done in one go after it; each hears of its own, and harms no other."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from segue.errors import PeerError
from segue.server.together import Together


class Work:
    """Adds one to each number, once it is let; odd things happen to some.

    Attributes:
        batches: what it was handed.
        begun: how often it began.
        let: lets it go on.
    """

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.begun = threading.Semaphore(0)
        self.let = threading.Semaphore(0)

    def __call__(self, numbers: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append(list(numbers))
        self.begun.release()
        self.let.acquire()
        if -1 in numbers:
            raise ValueError("a wrong one")
        if -2 in numbers:
            raise PeerError("away")
        return [LookupError(str(number)) if number == 0 else number + 1 for number in numbers]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as pool:
        yield pool


async def after_the_first(
    work: Work, threads: ThreadPoolExecutor, numbers: Sequence[int], limit: int = 9
) -> list[int | Exception]:
    """Have `numbers` come while 100 is being done, and return what became of them."""
    together = Together(work, threads=threads, limit=limit)
    became: dict[int, int | Exception] = {}

    async def come(place: int, number: int) -> None:
        try:
            became[place] = await together.do(number)
        except (ValueError, LookupError, PeerError) as error:
            became[place] = error

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(come(-1, 100))
        await asyncio.to_thread(work.begun.acquire)
        for place, number in enumerate(numbers):
            tasks.create_task(come(place, number))
        await asyncio.sleep(0)
        for _ in range(50):
            work.let.release()
    assert together.is_idle
    assert became.pop(-1) == 101
    return [became[place] for place in range(len(numbers))]


async def test_what_comes_meanwhile_is_done_in_one_go(threads: ThreadPoolExecutor) -> None:
    work = Work()
    assert await after_the_first(work, threads, [1, 2, 3]) == [2, 3, 4]
    assert work.batches == [[100], [1, 2, 3]]


async def test_no_more_than_so_many_at_once(threads: ThreadPoolExecutor) -> None:
    work = Work()
    assert await after_the_first(work, threads, [1, 2, 3, 4, 5], limit=2) == [2, 3, 4, 5, 6]
    assert work.batches == [[100], [1, 2], [3, 4], [5]]


async def test_an_error_is_told_whose_it_is(threads: ThreadPoolExecutor) -> None:
    one, error, three = await after_the_first(Work(), threads, [1, 0, 3])
    assert (one, three) == (2, 4)
    assert isinstance(error, LookupError)


async def test_who_spoils_a_go_harms_no_other(threads: ThreadPoolExecutor) -> None:
    work = Work()
    one, error, three = await after_the_first(work, threads, [1, -1, 3])
    assert (one, three) == (2, 4)
    assert isinstance(error, ValueError)
    assert work.batches == [[100], [1, -1, 3], [1], [-1, 3], [-1], [3]]


async def test_who_spoils_every_go_costs_little(threads: ThreadPoolExecutor) -> None:
    """It is looked for by halves: a node that is refused at each report must not have each written by itself."""
    work = Work()
    became = await after_the_first(work, threads, [*range(1, 21), -1, *range(21, 33)], limit=64)
    assert [one for one in became if isinstance(one, int)] == list(range(2, 34))
    assert len(work.batches) < 15


async def test_where_nobody_can_it_is_not_tried_one_by_one(threads: ThreadPoolExecutor) -> None:
    work = Work()
    became = await after_the_first(work, threads, [1, -2, 3])
    assert [type(one) for one in became] == [PeerError] * 3
    assert len(work.batches) == 2


async def test_who_no_longer_waits_holds_up_nobody(threads: ThreadPoolExecutor) -> None:
    """Not even if it is just given the turn."""
    work = Work()
    together = Together(work, threads=threads, limit=9)

    async def come_first() -> None:
        await together.do(100)
        second.cancel()  # it has its turn by now, and has not taken it yet

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(come_first())
        await asyncio.to_thread(work.begun.acquire)
        gone, second, given, last = (tasks.create_task(together.do(number)) for number in (1, 2, 3, 4))
        await asyncio.sleep(0)
        gone.cancel()
        for _ in range(10):
            work.let.release()
    assert (given.result(), last.result()) == (4, 5)
    assert (gone.cancelled(), second.cancelled()) == (True, True)
    assert work.batches == [[100], [3, 4]]
    assert together.is_idle


async def test_when_the_server_ends_all_are_told(threads: ThreadPoolExecutor) -> None:
    work = Work()
    together = Together(work, threads=threads, limit=9)
    told: list[Exception] = []

    async def come(number: int) -> None:
        try:
            await together.do(number)
        except PeerError as error:
            told.append(error)

    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(come(100))
        await asyncio.to_thread(work.begun.acquire)
        doing = tasks.create_task(come(1))
        tasks.create_task(come(2))
        await asyncio.sleep(0)
        work.let.release()
        await asyncio.to_thread(work.begun.acquire)
        assert first.done() or work.batches[-1] == [1, 2]
        doing.cancel()
        await asyncio.sleep(0)
        work.let.release()
    assert doing.cancelled()
    assert [str(error) for error in told] == ["the upgrade server ends"]


async def test_what_is_in_no_hurry_is_gathered(threads: ThreadPoolExecutor) -> None:
    """Who comes first waits a moment; who comes in that moment goes with it."""
    work = Work()
    work.let.release()
    together = Together(work, threads=threads, limit=9, gather_s=0.2)
    async with asyncio.TaskGroup() as tasks:
        for number in (1, 2):
            tasks.create_task(together.do(number))
            await asyncio.sleep(0)
        tasks.create_task(together.do(3))
    assert work.batches == [[1, 2, 3]]
    assert together.is_idle


async def test_one_that_gives_up_while_it_gathers_holds_up_nobody(threads: ThreadPoolExecutor) -> None:
    work = Work()
    work.let.release()
    together = Together(work, threads=threads, limit=9, gather_s=0.05)
    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(together.do(1))
        await asyncio.sleep(0)
        second = tasks.create_task(together.do(2))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == 3
    assert work.batches == [[2]]
    assert together.is_idle
