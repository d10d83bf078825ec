"""Windows and freezes: when nodes may go by a clock on the wall."""

from segue.model.fleet import NodeFact
from segue.model.hours import closed_by_freeze, is_open, opens_at
from segue.schedule.reasons import Frozen, WindowClosed
from segue.schedule.scene import Scene


class Windows:
    """Whether it is time.

    Args:
        scene: what is decided on.
    """

    def __init__(self, scene: Scene) -> None:
        windows, freezes, now = scene.rules.windows, scene.rules.freezes, scene.now
        self._reason: WindowClosed | Frozen | None = None
        if closed_by_freeze(freezes, now) is not None:
            self._reason = Frozen(until=opens_at(windows, freezes, now))
        elif not is_open(windows, now):
            self._reason = WindowClosed(until=opens_at(windows, freezes, now))

    def refuse(self, _fact: NodeFact) -> WindowClosed | Frozen | None:
        """Return what keeps everybody, and until when; None if it is time."""
        return self._reason
