"""Retired versions on a node: its process answers them no more, and what their simulations kept is removed."""

import logging
from weakref import WeakKeyDictionary

from segue.model.ids import Version
from segue.node.control import reason_of
from segue.node.folders import Folders
from segue.node.hosts import HostProcess
from segue.node.processes import FAILURES
from segue.node.told import Told

logger = logging.getLogger(__name__)

#: Calls that are inside a simulation that goes have so long to end, each time that it is tried: new ones are refused
#: from the first time on, and the node must not put off what else it does.
_SETTLE_S = 0.2


class Retirement:
    """Gives up, on one node, the versions that operators retired.

    Args:
        told: says which.
        folders: the node's places on disk.
    """

    def __init__(self, told: Told, folders: Folders) -> None:
        self._told = told
        self._folders = folders
        #: `{process: the oldest version that it was made to answer}`
        self._done: WeakKeyDictionary[HostProcess, Version] = WeakKeyDictionary()

    def is_due(self, host: HostProcess | None) -> bool:
        """Say whether a process has yet to give up what was retired."""
        return host is not None and self._told.oldest > self._done.get(host, Version(0))

    async def apply(self, host: HostProcess | None) -> None:
        """Have the process in service answer no version that was retired; what does not end in time is tried again.

        Args:
            host: the process, whose object is started; None if there is none.
        """
        oldest = self._told.oldest
        if host is None or not self.is_due(host):
            return
        try:
            await host.retire(oldest, _SETTLE_S)
        except FAILURES as error:
            logger.warning("versions below %s are refused, and not all removed yet: %s", oldest, reason_of(error))
            return
        self._done[host] = oldest
        self._folders.discard_past(oldest)
        logger.info("versions below %s are retired", oldest)
