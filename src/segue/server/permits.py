"""Requests for permits that come at the same time are decided in one transaction, system by system.

To decide takes as long for one node as for many: what is looked at is the whole fleet.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeAlias
from uuid import uuid4

from segue.model.ids import NodeId, SystemName
from segue.server.admission import Asking, Returning, ask_permits, return_permits
from segue.server.decisions import Answers
from segue.server.facts import Verdict
from segue.server.store import Store
from segue.server.together import Together
from segue.wire.messages import PermitRequest, PermitReturnRequest

#: Requests in one transaction: in SQLite heartbeats wait for it.
BATCH_LIMIT = 500
#: Systems that are decided about at once.
_THREADS = 4

_Item: TypeAlias = tuple[NodeId, PermitRequest] | Returning
_Became: TypeAlias = Verdict | None


class Permits:
    """Has nodes' requests decided, and takes back what they return, many at a time; for one event loop.

    Args:
        store: the upgrade database.
        answers: returns what a system's webhooks say.
    """

    def __init__(self, store: Store, answers: Callable[[SystemName], Answers]) -> None:
        self._store, self._answers = store, answers
        # Threads of their own: those for other requests may all wait for a decision.
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="permits")
        #: Of those systems of which something is under way: anybody may make up a name.
        self._systems: dict[SystemName, Together[_Item, _Became]] = {}

    async def ask(self, system: SystemName, node: NodeId, request: PermitRequest) -> Verdict:
        """Return what became of a node's request once that is committed: see `ask_permits`.

        Raises:
            OperatorError: this node may not have this upgrade, and asking again will not change that.
            PeerError: the database does not answer now.
        """
        verdict = await self._do(system, (node, request))
        assert verdict is not None, f"the request of node {node} was taken for a return"
        return verdict

    async def give_back(self, system: SystemName, node: NodeId, permit: str, how: PermitReturnRequest) -> None:
        """Take note that a node is back, once that is committed; a second return changes nothing.

        Raises:
            NotThereError: the node has no such permit.
            PeerError: the database does not answer now.
        """
        await self._do(system, Returning(node, permit, how))

    async def _do(self, system: SystemName, item: _Item) -> _Became:
        together = self._systems.get(system)
        if together is None:
            together = Together(partial(self._done, system), threads=self._threads, limit=BATCH_LIMIT)
            self._systems[system] = together
        try:
            return await together.do(item)
        finally:
            if together.is_idle and self._systems.get(system) is together:
                del self._systems[system]

    def _done(self, system: SystemName, items: Sequence[_Item]) -> Sequence[_Became | Exception]:
        """Take back what is returned, and then decide, so that whoever asks may have the places."""
        returning = {place: item for place, item in enumerate(items) if isinstance(item, Returning)}
        asking = {place: Asking(*item, uuid4().hex) for place, item in enumerate(items) if isinstance(item, tuple)}
        became: dict[int, _Became | Exception] = {}
        if returning:
            returned = return_permits(self._store, system, list(returning.values()))
            became.update(zip(returning, returned, strict=True))
        if asking:
            verdicts = ask_permits(self._store, system, list(asking.values()), answers=self._answers(system))
            became.update(zip(asking, verdicts, strict=True))
        return [became[place] for place in range(len(items))]

    def __repr__(self) -> str:
        return f"Permits({self._systems})"
