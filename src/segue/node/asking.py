"""What the agent asks the application before it asks for a permit: whether releases on the way object to going now."""

import logging
from typing import Any, Protocol

from segue.errors import SegueError
from segue.journey import Journey
from segue.model.ids import NodeId, Version
from segue.node.control import one_line
from segue.node.placement import Placement
from segue.wire.messages import FleetRow

logger = logging.getLogger(__name__)

#: As much of it is told the upgrade server.
_TEXT_LIMIT_CHARS = 300


class Asked(Protocol):
    """A process of the application."""

    async def objection(self, version: Version, code: str, fleet: dict[str, Any] | None = None) -> str | None:
        """Return why the node should not go to `version` now, by `code` of that release; None if it may."""
        ...


class Asking:
    """Asks the code of releases on a node's way: predicates (`when`), and own functions (`custom`).

    Code that fails means not now, and is asked again: nobody knows what goes on there. On a node that is down
    nothing is asked, as it has nothing to lose.

    Args:
        placement: knows which releases have any.
        node: who goes.
    """

    def __init__(self, placement: Placement, node: NodeId) -> None:
        self._placement, self._node = placement, node
        self._by_predicates: dict[Version, str] = {}
        self._by_functions: dict[Version, str] = {}
        self._logged: dict[Version, str] = {}

    @property
    def holds(self) -> dict[Version, str]:
        """What was said last: `{version: why not now}`."""
        return self._by_functions | self._by_predicates

    async def ask(self, host: Asked | None, at: Journey) -> dict[Version, str]:
        """Return what predicates of releases on the node's way say against going there now.

        Args:
            host: the process that serves; None if the node is down.
            at: where the node is.
        """
        said: dict[Version, str] = {}
        for future in at.futures if host is not None else ():
            version, code = future.release.version, self._placement.predicate(future.release)
            text = await _objection(host, version, code)
            if text is not None:
                said[version] = text
        self._by_predicates = said
        return said

    async def agrees(self, host: Asked | None, at: Journey, fleet: FleetRow) -> bool:
        """Say whether the own function of a release, which the node is to go to, lets it go.

        Args:
            host: the process that serves; None if the node is down.
            at: where the node is.
            fleet: what the function is to see, and of which release it is.
        """
        version = Version(fleet.version)
        code = next(
            (self._placement.own_function(one.release) for one in at.futures if one.release.version == version), None
        )
        text = await _objection(host, version, code, {"node": self._node, **fleet.model_dump(mode="json")})
        self._by_functions = {} if text is None else {version: text}
        return text is None

    def is_held_by_rules(self) -> None:
        """Take note that rules hold the node: what a function said when they did not is no longer why it waits."""
        self._by_functions = {}

    def log(self) -> None:
        """Say in the log what is said against going, if that has changed."""
        said = self.holds
        if said != self._logged:
            logger.info("not now: %s", "; ".join(f"release {one}: {text}" for one, text in said.items()) or "over")
        self._logged = said


async def _objection(
    host: Asked | None, version: Version, code: str | None, fleet: dict[str, Any] | None = None
) -> str | None:
    if host is None or code is None:
        return None
    try:
        text = await host.objection(version, code, fleet)
    except SegueError as error:
        text = f"{code} failed: {one_line(error)}"
    return None if text is None else text[:_TEXT_LIMIT_CHARS]
