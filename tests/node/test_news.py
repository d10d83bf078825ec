"""A node enters the release that is its next step, when it is, and not before it may."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from segue import journey
from segue.journey import Phase
from segue.model.ids import ContentHash, Version
from segue.model.release import Announcement
from segue.node.news import News
from segue.server.memory import MemoryStore
from segue.testing.server import SYSTEM, Bench, bundle_of, open_bench

NEWEST = Version(4)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    """An upgrade server with four releases."""
    async with open_bench(MemoryStore(), tmp_path) as bench:
        for version in range(1, NEWEST + 1):
            await bench.server.publish(bundle_of(version))
        yield bench


@pytest.fixture
def news(bench: Bench) -> News:
    return News(bench.server, SYSTEM)


@pytest.fixture
async def published(bench: Bench) -> list[Announcement]:
    return [
        Announcement(version=Version(one.version), sha256=ContentHash(one.sha256), size_bytes=one.size_bytes)
        for one in await bench.server.releases(SYSTEM)
    ]


async def test_a_new_node_wants_the_newest_and_all_before_it(news: News, published: list[Announcement]) -> None:
    news.hear(NEWEST, journey.Journey())
    learned = await news.next(journey.Journey())
    assert learned == journey.Learned(release=published[-1], before=tuple(published[:-1]))


async def test_a_new_node_begins_with_what_it_is_told(news: News, published: list[Announcement]) -> None:
    """Told of another, it looks anew; told of none, as by an older server, it wants the newest."""
    new = journey.Journey()
    news.hear(NEWEST, new, Version(2))
    assert await news.next(new) == journey.Learned(release=published[1], before=(published[0],))
    rejected = journey.Journey(rejected=frozenset(one.sha256 for one in published[:2]))
    assert await news.next(rejected) is None
    news.hear(NEWEST, rejected, Version(3))
    assert await news.next(rejected) == journey.Learned(release=published[2], before=tuple(published[:2]))
    news.hear(NEWEST, new)
    assert await news.next(new) == journey.Learned(release=published[3], before=tuple(published[:3]))


async def test_a_node_that_runs_goes_on_whatever_new_ones_begin_with(news: News, published: list[Announcement]) -> None:
    serving = journey.Journey(phase=Phase.SERVING, running=published[1])
    news.hear(NEWEST, serving, Version(1))
    assert await news.next(serving) == journey.Learned(release=published[2])


async def test_a_new_node_goes_round_a_release_that_it_rejected(news: News, published: list[Announcement]) -> None:
    at = journey.Journey(rejected=frozenset({published[-1].sha256}))
    news.hear(NEWEST, at)
    assert await news.next(at) == journey.Learned(release=published[2], before=tuple(published[:2]))


async def test_a_node_that_runs_takes_one_step_at_a_time(news: News, published: list[Announcement]) -> None:
    """The lowest that it wants, whether it serves or waits for a permit."""
    serving = journey.Journey(phase=Phase.SERVING, running=published[0])
    news.hear(NEWEST, serving)
    assert await news.next(serving) == journey.Learned(release=published[1])
    future = journey.Future(release=published[1], install_ms=1.0)
    waiting = replace(serving, phase=Phase.WAITING, futures=(future,), upgrade=journey.Upgrade(release=published[1]))
    assert await news.next(waiting) == journey.Learned(release=published[2])
    given_up = replace(serving, futures=(future,))
    assert await news.next(given_up) == journey.Learned(release=published[1])


def test_when_it_is_tried_again_is_told_as_the_same_each_time(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each report would be a new one else, while nothing has changed."""
    now = [1000.0]
    monkeypatch.setattr("segue.node.news.time", SimpleNamespace(monotonic=lambda: now[0]))
    news, begin = News(bench.server, SYSTEM, clock=bench.clock), bench.clock.now()
    assert news.retry_at is None
    news.put_off(1, NEWEST)
    assert news.retry_at == begin + timedelta(seconds=5)
    bench.clock.move(3.000001)
    now[0] += 3
    assert news.retry_at == begin + timedelta(seconds=5)
    now[0] += 2
    assert news.retry_at is None
    news.put_off(2, NEWEST)
    assert news.retry_at == bench.clock.now() + timedelta(seconds=10)
    news.put_off(0, NEWEST)
    assert news.retry_at is None


async def test_after_a_failure_what_failed_is_put_off_for_a_while(
    news: News, published: list[Announcement], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Longer after each that follows; not at all after a success."""
    at = journey.Journey(phase=Phase.SERVING, running=published[0])
    news.hear(NEWEST, at)
    now = [1000.0]
    monkeypatch.setattr("segue.node.news.time", SimpleNamespace(monotonic=lambda: now[0]))
    for failures, wait_s in ((1, 5), (2, 10), (3, 20), (20, 300)):
        news.put_off(failures, NEWEST)
        now[0] += wait_s - 0.1
        assert await news.next(at) is None
        now[0] += 0.2
        assert await news.next(at)
    news.put_off(20, NEWEST)
    news.put_off(0, NEWEST)
    assert await news.next(at)


async def test_a_release_that_is_newer_than_what_failed_is_not_put_off(
    news: News, published: list[Announcement]
) -> None:
    """Upgraded nodes call with its version."""
    future = journey.Future(release=published[1], install_ms=1.0)
    given_up = journey.Journey(phase=Phase.SERVING, running=published[0], futures=(future,), failures=7)
    news.hear(Version(2), given_up)
    news.put_off(7, Version(2))
    assert await news.next(given_up) is None
    news.hear(Version(3), given_up)
    assert await news.next(given_up) == journey.Learned(release=published[2])


async def test_only_what_the_node_may_want_wakes_who_waits(news: News, published: list[Announcement]) -> None:
    serving = journey.Journey(phase=Phase.SERVING, running=published[-1])
    news.hear(NEWEST, serving)
    future = journey.Future(release=published[-1], install_ms=1.0)
    waiting = journey.Journey(phase=Phase.WAITING, running=published[2], futures=(future,))
    news.hear(NEWEST, waiting)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await news.wait()
    await news.wait(0.01)
    news.hear(Version(NEWEST + 1), waiting)
    await news.wait()
    assert await news.next(waiting) is None  # it was a claim: nothing more is published
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await news.wait()
    news.wake()
    await news.wait()


async def test_a_release_that_was_rejected_is_no_news(news: News, published: list[Announcement]) -> None:
    """Heartbeats go on to name it: a node that waits for its permit is not woken by each of them."""
    rejected = frozenset({published[2].sha256})
    futures = (journey.Future(release=published[1], install_ms=1.0),)
    upgrade = journey.Upgrade(release=published[1])
    at = journey.Journey(phase=Phase.WAITING, running=published[0], futures=futures, upgrade=upgrade, rejected=rejected)
    news.hear(Version(3), at)
    assert await news.next(at) is None
    news.hear(Version(3), at)
    began = asyncio.get_running_loop().time()
    await news.wait(0.05)
    assert asyncio.get_running_loop().time() - began >= 0.04
    again = replace(at, phase=Phase.SERVING, upgrade=None)
    news.hear(Version(3), again)
    assert await news.next(again) == journey.Learned(release=published[1])
