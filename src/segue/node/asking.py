"""What the agent asks the application before it asks for a permit: whether releases on the way object to going now."""

import logging
from typing import Protocol

from segue.errors import SegueError
from segue.journey import Journey
from segue.model.ids import Version
from segue.node.control import one_line
from segue.node.placement import Placement

logger = logging.getLogger(__name__)

#: As much of it is told the upgrade server.
_TEXT_LIMIT_CHARS = 300


class Asked(Protocol):
    """A process of the application."""

    async def objection(self, version: Version, code: str) -> str | None:
        """Return why the node should not go to `version` now, by its predicate `code`; None if it may."""
        ...


class Asking:
    """Asks the predicates (`when`) of the releases that a node is to go through.

    Args:
        placement: knows which releases have one.
    """

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        #: What was said last: `{version: why not now}`.
        self.holds: dict[Version, str] = {}

    async def ask(self, host: Asked | None, at: Journey) -> dict[Version, str]:
        """Return what releases on the node's way say against going there now.

        One whose predicate fails is not gone to now, and is asked again: nobody knows what goes on there.

        Args:
            host: the process that serves; None if the node is down. Then it has nothing to lose, and none is asked.
            at: where the node is.
        """
        said: dict[Version, str] = {}
        for future in at.futures if host is not None else ():
            version, code = future.release.version, self._placement.predicate(future.release)
            if code is not None and host is not None:
                text = await _objection(host, version, code)
                if text is not None:
                    said[version] = text[:_TEXT_LIMIT_CHARS]
        if said != self.holds:
            logger.info("not now: %s", "; ".join(f"release {one}: {text}" for one, text in said.items()) or "over")
        self.holds = said
        return said


async def _objection(host: Asked, version: Version, code: str) -> str | None:
    try:
        return await host.objection(version, code)
    except SegueError as error:
        return f"{code} failed: {one_line(error)}"
