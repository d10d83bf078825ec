"""What a node has on its disk."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """What a node's folder takes, and what room is left there.

    Attributes:
        state_bytes: of the object's persistent state, and that of its simulations.
        old_bytes: of old states that are still kept after an upgrade.
        releases_bytes: of releases that are unpacked there, with what was installed for them.
        free_bytes: that the node may still write.
        measured_at: when that was so (UTC).
    """

    state_bytes: int
    old_bytes: int
    releases_bytes: int
    free_bytes: int
    measured_at: datetime
