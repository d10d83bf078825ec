"""Which nodes a block belongs on."""

import hashlib
from bisect import bisect_left
from collections.abc import Iterable

#: Nodes that a block is on, if there are so many. To change it moves blocks between nodes.
REPLICAS = 3


def position_of(sha1: bytes) -> int:
    """Return the place on the ring of what has this SHA-1: its first 8 bytes, big-endian."""
    return int.from_bytes(sha1[:8], "big")


class Ring:
    """The members in the order of their positions; a member's position is that of its id.

    Args:
        members: the ids of all nodes of the system.
    """

    def __init__(self, members: Iterable[str]) -> None:
        self._members = sorted((position_of(hashlib.sha1(member.encode()).digest()), member) for member in members)

    def replicas(self, position: int) -> list[str]:
        """Return the ids of the nodes that a block at `position` belongs on: the next three, clockwise."""
        first = bisect_left(self._members, (position, ""))
        clockwise = self._members[first:] + self._members[:first]
        return [member for _, member in clockwise[:REPLICAS]]
