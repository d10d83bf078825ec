"""The rule: the time left is what the rest takes at the pace so far, and nothing is said without ground."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segue.model.progress import Progress, estimated

NOTHING: dict[str, Any] = {"items_done": 0, "items_total": None, "bytes_done": 0, "bytes_total": None, "elapsed_s": 4.0}


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ({}, None),
        ({"items_done": 10}, None),
        ({"items_total": 10}, None),
        ({"items_done": 1, "items_total": 5}, 16.0),
        ({"bytes_done": 1000, "bytes_total": 1500}, 2.0),
        ({"items_done": 1, "items_total": 2, "bytes_done": 1, "bytes_total": 5}, 16.0),
        ({"items_done": 5, "items_total": 5}, 0.0),
        ({"items_done": 6, "items_total": 5}, 0.0),
        ({"bytes_done": 5, "bytes_total": 5, "items_total": 3}, None),
        ({"bytes_done": 1, "bytes_total": 5, "items_total": 3}, 16.0),
    ],
)
def test_the_rest_goes_at_the_pace_so_far(said: dict[str, Any], left: float | None) -> None:
    assert estimated(**NOTHING | said).seconds_left == left


COUNT = st.integers(0, 10**18)


@given(COUNT, COUNT | st.none(), COUNT, COUNT | st.none(), st.floats(0, 10**6))
def test_whatever_is_counted_there_is_an_answer(
    items: int, of_items: int | None, size: int, of_size: int | None, elapsed_s: float
) -> None:
    progress = estimated(
        items_done=items, items_total=of_items, bytes_done=size, bytes_total=of_size, elapsed_s=elapsed_s
    )
    assert (progress.items_done, progress.bytes_total) == (items, of_size)
    assert progress.seconds_left is None or progress.seconds_left >= 0


@pytest.mark.parametrize("wrong", [{"items_done": -1}, {"bytes_total": -1}, {"seconds_left": -0.1}])
def test_a_count_below_nought_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Progress(**wrong)
