"""How far a transform is: the one place where the time that is left is estimated."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a transform is, as its author counts.

    Attributes:
        items_done: how many of what the author counts are done, such as files or records.
        items_total: how many there are; None if nobody said.
        bytes_done: how many bytes are done; 0 if the author does not count them.
        bytes_total: how many bytes there are; None if nobody said.
        seconds_left: the estimate of the time left, in seconds; None if there is no ground for one.
    """

    items_done: int = 0
    items_total: int | None = None
    bytes_done: int = 0
    bytes_total: int | None = None
    seconds_left: float | None = None

    def __post_init__(self) -> None:
        for name in ("items_done", "items_total", "bytes_done", "bytes_total", "seconds_left"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"progress {name}={value}: count from 0")


def estimated(
    *, items_done: int, items_total: int | None, bytes_done: int, bytes_total: int | None, elapsed_s: float
) -> Progress:
    """Say how far a transform is, and how long it still takes if it goes on as it went so far.

    Where both items and bytes have a total, the slower of the two counts: many small files go by items,
    a few large ones by bytes.

    Args:
        items_done: of what the author counts; likewise the next three, as in `Progress`.
        items_total: None if nobody said.
        bytes_done: 0 if nobody counts them.
        bytes_total: None if nobody said.
        elapsed_s: seconds since the transform began.
    """
    counted = [(done, total) for done, total in ((items_done, items_total), (bytes_done, bytes_total)) if total]
    estimates = [elapsed_s * max(0, total - done) / done for done, total in counted if done > 0]
    if len(estimates) < len(counted) and max(estimates, default=0) == 0:
        estimates = []  # one is through, and of the other nothing is known yet
    return Progress(
        items_done=items_done,
        items_total=items_total,
        bytes_done=bytes_done,
        bytes_total=bytes_total,
        seconds_left=max(estimates, default=None),
    )
