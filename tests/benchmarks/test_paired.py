"""A ratio says how much longer one way takes than another, whatever else slows a whole round down."""

import random

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.paired import Block, paired_ratio, play_round

SLOWNESS = st.lists(st.floats(0.5, 50.0), min_size=1, max_size=20)


@given(SLOWNESS, st.floats(0.5, 4.0))
def test_what_slows_a_round_down_is_not_in_the_ratio(slowness: list[float], factor: float) -> None:
    """Both ways meet it alike."""
    base = [[0.001 * slow, 0.002 * slow, 0.009 * slow] for slow in slowness]
    ours = [[seconds * factor for seconds in block] for block in base]
    found = paired_ratio(ours, base, random.Random(1))
    for value in (found.ratio, found.ratio_low, found.ratio_high):
        assert abs(value - factor) < 0.0001


def test_bounds_are_around_the_median() -> None:
    """They are as wide apart as rounds differ."""
    generator = random.Random(1)
    ours = [[generator.gauss(1.1, 0.05)] for _ in range(100)]
    found = paired_ratio(ours, [[1.0]] * 100, generator)
    assert 1.07 < found.ratio_low < found.ratio < found.ratio_high < 1.13


async def test_the_head_of_a_block_does_not_count() -> None:
    """The calls are made, but only those after them have times."""
    made = {"one": 0, "two": 0}

    async def call(way: str) -> None:
        made[way] += 1

    block = Block(calls=4, discarded=3)
    times = await play_round(
        {"one": (lambda: call("one"), block), "two": (lambda: call("two"), block)}, random.Random(1)
    )
    assert made == {"one": 7, "two": 7}
    assert {way: len(found) for way, found in times.items()} == {"one": 4, "two": 4}
