"""The agent's log says what the node runs, and which release its phase is about."""

import pytest

from segue.journey import Future, Journey, Phase, Upgrade
from segue.model.ids import ContentHash, Version
from segue.model.release import Announcement
from segue.node.agent import log_words


def release(version: int) -> Announcement:
    return Announcement(version=Version(version), sha256=ContentHash(f"{version:064x}"), size_bytes=1)


RUNS_1 = Journey(phase=Phase.SERVING, running=release(1))
WAITS = Journey(
    phase=Phase.WAITING,
    running=release(1),
    futures=(Future(release=release(2), install_ms=1.0),),
    upgrade=Upgrade(release=release(2)),
)


@pytest.mark.parametrize(
    ("at", "words"),
    [
        (Journey(), "new"),
        (Journey(phase=Phase.FETCHING_FIRST, learning=(release(1), release(2))), "fetching first, version 2"),
        (RUNS_1, "runs version 1, serving"),
        (Journey(phase=Phase.FETCHING, running=release(1), learning=(release(3),)), "runs version 1, fetching 3"),
        (WAITS, "runs version 1, waiting, on its way to 2"),
        (
            Journey(phase=Phase.RETURNING, running=release(2), upgrade=Upgrade(release=release(2))),
            "runs version 2, returning",
        ),
    ],
)
def test_the_release_is_named(at: Journey, words: str) -> None:
    assert log_words(at) == words
