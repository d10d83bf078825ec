"""How many nodes a rule speaks of: a number of them, or a share of however many there are."""

import math
import re
from dataclasses import dataclass
from typing import TypeAlias

#: A float that stands for a whole number may miss it by this much.
_SLACK = 1e-9


@dataclass(frozen=True, slots=True)
class Percent:
    """A share of nodes, more than 0 and at most 100.

    Raises:
        ValueError: it is not.
    """

    value: float

    def __post_init__(self) -> None:
        if not 0 < self.value <= 100:
            raise ValueError(f"{self.value}% of nodes: make it more than 0% and at most 100%")

    def __str__(self) -> str:
        return f"{self.value:g}%"


#: A number of nodes, at least 1, or a share of them.
Amount: TypeAlias = int | Percent


def amount(given: object) -> Amount:
    """Take what an author wrote, such as `3` or `"25%"`.

    Raises:
        ValueError: it is no whole number of at least 1, and no percentage above 0% and up to 100%.
    """
    if type(given) is int and 1 <= given < 2**31:
        return given
    if isinstance(given, str) and re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?%", given, re.ASCII):
        return Percent(float(given.removesuffix("%")))
    raise ValueError(f"{given!r} is no number of nodes")


def at_most(asked: Amount, count: int) -> int:
    """Return the largest number of nodes that is not more than `asked` of `count`; at least 1, or nobody ever goes."""
    return asked if isinstance(asked, int) else max(1, math.floor(asked.value * count / 100 + _SLACK))


def at_least(asked: Amount, count: int) -> int:
    """Return the smallest number of nodes that is not less than `asked` of `count`; at least 1."""
    return asked if isinstance(asked, int) else max(1, math.ceil(asked.value * count / 100 - _SLACK))
