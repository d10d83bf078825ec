"""From version 1 to version 2: all that knows both, and what release.toml names.

A block has a name in each version, its SHA-1 and its SHA-256, and neither follows from the other
without the content. So each simulation keeps an index of both names of every block that it has seen,
and the transform, which has both at hand for all, writes the one for the past simulation.

Blocks have at most 1 MiB: to hash one takes a millisecond, on the event loop; zlib goes to a thread.
"""

from .state import transform
from .version1 import Version1
from .version2 import Version2

__all__ = ["Version1", "Version2", "transform"]
