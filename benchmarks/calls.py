"""Measures what a call costs each way: `benchmarks.ways` over `benchmarks.paired`.

The servers are replaced several times, as two processes of the same program differ by a few per cent. Calls that
stream are long, so not every round has them.
"""

import random
import statistics
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.paired import Block, Call, Ratio, Rounds, paired_ratio, play_round
from benchmarks.ways import WAYS, Way, opened


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured.

    Attributes:
        generations: how many times the servers are started.
        rounds: of each generation.
        rounds_with_streams: of these, one in so many.
    """

    generations: int
    rounds: int
    rounds_with_streams: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One way's figures; times in microseconds, of all its calls.

    Attributes:
        base: the way that `ratio` is to.
        ratio_to_bare: the ratio to the same kind of call on bare grpc.aio.
        limit: what `ratio` may be; None if none was asked for.
        calls: how many were counted.
    """

    median_us: float
    p95_us: float
    base: str
    ratio: float
    ratio_low: float
    ratio_high: float
    ratio_to_bare: float
    limit: float | None
    calls: int

    @property
    def verdict(self) -> str:
        """Whether the limit is kept."""
        return "" if self.limit is None else "kept" if self.ratio <= self.limit else "broken"


async def measure_calls(
    effort: Effort, program: Path | None, shuffle: random.Random, tick: Callable[[], None]
) -> Rounds:
    """Make calls all ways.

    Args:
        effort: how many.
        program: Envoy; None to leave out the ways that go through one.
        shuffle: where randomness comes from.
        tick: is called after each round.
    """
    ways = {name: way for name, way in WAYS.items() if program or not way.proxied}
    rounds: dict[str, list[list[float]]] = {name: [] for name in ways}
    for _ in range(effort.generations):
        async with AsyncExitStack() as stack:
            calls = {
                name: (await stack.enter_async_context(opened(way, program)), way.block) for name, way in ways.items()
            }
            for number in range(effort.rounds):
                chosen = _without_streams(calls) if number % effort.rounds_with_streams else calls
                for name, block in (await play_round(chosen, shuffle)).items():
                    rounds[name].append(block)
                tick()
    return rounds


def _without_streams(calls: Mapping[str, tuple[Call, Block]]) -> dict[str, tuple[Call, Block]]:
    return {name: call for name, call in calls.items() if not WAYS[name].streams}


def call_figures(rounds: Rounds, resample: random.Random) -> dict[str, Figure]:
    """Return each way's figures."""
    return {name: _figure(WAYS[name], blocks, rounds, resample) for name, blocks in rounds.items()}


def _figure(way: Way, blocks: list[list[float]], rounds: Rounds, resample: random.Random) -> Figure:
    times_us = [seconds * 1e6 for block in blocks for seconds in block]
    ratio = paired_ratio(blocks, rounds[way.base], resample)
    to_bare: Ratio = ratio if way.base == way.bare else paired_ratio(blocks, rounds[way.bare], resample)
    return Figure(
        median_us=round(statistics.median(times_us), 1),
        p95_us=round(statistics.quantiles(times_us, n=20)[-1], 1),
        base=way.base,
        ratio=ratio.ratio,
        ratio_low=ratio.ratio_low,
        ratio_high=ratio.ratio_high,
        ratio_to_bare=to_bare.ratio,
        limit=way.limit,
        calls=len(times_us),
    )
