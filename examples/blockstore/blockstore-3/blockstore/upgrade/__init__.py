"""From version 2 to version 3: all that knows both, and what release.toml names.

A public block is the same in both: its key, its form, its file. A private one has no meaning in version 2,
whose callers say not who they are. So it is kept where version 2 does not look: after the upgrade in the
object's own folder of private blocks, before it in the state of the future simulation, which the transform
hands on. Version 2's callers are told that a block is private, on either side of the upgrade.
"""

from .state import transform
from .version2 import Version2
from .version3 import Version3

__all__ = ["Version2", "Version3", "transform"]
