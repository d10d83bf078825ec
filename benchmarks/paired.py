"""The method: blocks of calls, every way in every round, and ratios of blocks of one round.

In each round every way has a block of calls, one after another, in a new random order, so that whatever else the
machine does meets all ways alike. A way's ratio is paired: in each round the median of its block is divided by the
median of the block of another way, and the median over all rounds is given. It is what to compare between machines;
the times are not. `ratio_low` and `ratio_high` bound that median with 95 % confidence, by resampling the rounds.
"""

import random
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

#: Makes one call.
Call: TypeAlias = Callable[[], Awaitable[object]]
#: `{way: a list of seconds for each round}`
Rounds: TypeAlias = Mapping[str, list[list[float]]]

_RESAMPLES = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """How a way's calls are made.

    Attributes:
        calls: of a block, that count.
        discarded: before them: another server's process was running until then.
    """

    calls: int
    discarded: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio:
    """How much longer one way takes than another: the median over rounds, and its bounds with 95 % confidence."""

    ratio: float
    ratio_low: float
    ratio_high: float


async def play_round(calls: Mapping[str, tuple[Call, Block]], shuffle: random.Random) -> dict[str, list[float]]:
    """Make a block of calls each way, in random order, and return how long each call took, in seconds."""
    return {way: await _block(*calls[way]) for way in shuffle.sample(list(calls), len(calls))}


async def _block(call: Call, block: Block) -> list[float]:
    times: list[float] = []
    for _ in range(block.discarded + block.calls):
        began = time.perf_counter()
        await call()
        times.append(time.perf_counter() - began)
    return times[block.discarded :]


def paired_ratio(blocks: Sequence[Sequence[float]], base: Sequence[Sequence[float]], resample: random.Random) -> Ratio:
    """Compare two ways, round by round.

    Args:
        blocks: seconds, a list for each round.
        base: the same of what it is compared with.
        resample: where randomness comes from.
    """
    ratios = [statistics.median(ours) / statistics.median(theirs) for ours, theirs in zip(blocks, base, strict=True)]
    medians = sorted(statistics.median(resample.choices(ratios, k=len(ratios))) for _ in range(_RESAMPLES))
    edge = _RESAMPLES // 40
    return Ratio(
        ratio=round(statistics.median(ratios), 4),
        ratio_low=round(medians[edge], 4),
        ratio_high=round(medians[-edge - 1], 4),
    )
