"""Rule: who has waited longest is next, however quick another is; who gave up is passed over."""

import threading
from concurrent.futures import ThreadPoolExecutor

from segue.server.turns import Turns

SOON_S, LONG_S = 0.01, 10.0


def until_there_wait(turns: Turns, count: int) -> None:
    waited = threading.Event()
    while f"{count} wait" not in repr(turns):
        waited.wait(SOON_S)


def test_those_who_wait_have_it_in_their_order() -> None:
    turns, had = Turns(), list[int]()
    assert turns.acquire(LONG_S)

    def come(number: int) -> None:
        assert turns.acquire(LONG_S)
        had.append(number)
        turns.release()

    with ThreadPoolExecutor(4) as threads:
        for number in range(3):
            threads.submit(come, number)
            until_there_wait(turns, number + 1)
        turns.release()
        assert turns.acquire(LONG_S)  # as quick as can be, and yet after all of them
        had.append(9)
        turns.release()
    assert had == [0, 1, 2, 9]
    assert repr(turns) == "Turns(free, 0 wait)"


def test_who_gave_up_is_passed_over() -> None:
    turns = Turns()
    assert turns.acquire(LONG_S)
    assert not turns.acquire(SOON_S)
    turns.release()
    assert turns.acquire(SOON_S)
