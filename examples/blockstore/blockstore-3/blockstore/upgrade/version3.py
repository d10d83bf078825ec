"""The future simulation: version 3's calls on a node that runs version 2."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from previous.blockstore import blockstore_pb2 as v2

import segue

from .. import blockstore_pb2 as v3
from ..replicas import Context
from ..service import Service
from .keys import disallowed, key_in_v2, key_in_v3


class DelegatesBlocks:
    """The public blocks of a node that runs version 2: the blocks that its object has.

    Args:
        delegate: answers version 2's calls.
    """

    def __init__(self, delegate: Any) -> None:
        self._delegate = delegate

    async def fetch(self, key: v3.Key, context: Context) -> bytes | None:
        """Return a block, compressed; None if it is not here."""
        reply = await self._delegate.Fetch(v2.FetchRequest(key=key_in_v2(key)), context)
        return bytes(reply.compressed) if reply.HasField("compressed") else None

    async def store(self, key: v3.Key, compressed: bytes, context: Context) -> None:
        """Keep a block."""
        await self._delegate.Store(v2.StoreRequest(key=key_in_v2(key), compressed=compressed), context)

    async def stat(self, key: v3.Key, context: Context) -> v3.StatReply | None:
        """Return the sizes and the age of a block that is here."""
        stat = await self._delegate.Stat(v2.StatRequest(key=key_in_v2(key)), context)
        return segue.convert(stat, v3.StatReply)

    async def keys(self, context: Context) -> AsyncIterator[v3.Key]:
        """Yield the key of each block."""
        async for listed in self._delegate.Scan(v2.ScanRequest(), context):
            yield key_in_v3(listed.key)


class Version3(segue.FutureSimulation, Service):
    """Version 3's calls on a node that runs version 2.

    It answers as version 3's object does; only the public blocks are the delegate's. Private ones are in its own
    state, where version 2's callers do not get at them, and lie on the same nodes as they will after the upgrade:
    nodes speak version 3 to each other about them, whatever they run.
    """

    def __init__(self, node: segue.Node, delegate: Any) -> None:
        segue.FutureSimulation.__init__(self, node, delegate)
        Service.__init__(self, node)
        self.public = DelegatesBlocks(delegate)

    # What version 2's callers ask for here: the delegate would say that a private block is not there.

    @segue.intercepts("Get", changes=False)
    async def refuse_get(
        self, request: v2.GetRequest, context: Context, proceed: Callable[[v2.GetRequest], Awaitable[v2.GetReply]]
    ) -> v2.GetReply:
        """Let version 2's callers get public blocks alone."""
        await self._refuse_private(request.key, context)
        return await proceed(request)

    @segue.intercepts("Exists", changes=False)
    async def refuse_exists(
        self,
        request: v2.ExistsRequest,
        context: Context,
        proceed: Callable[[v2.ExistsRequest], Awaitable[v2.ExistsReply]],
    ) -> v2.ExistsReply:
        """Let version 2's callers ask about public blocks alone."""
        await self._refuse_private(request.key, context)
        return await proceed(request)

    async def _refuse_private(self, asked: v2.Key, context: Context) -> None:
        """Do nothing if version 2 may answer.

        Raises:
            Disallowed: there is a private block with this key, and no public one.
        """
        key = key_in_v3(asked)
        if len(key.digest) != 32:
            return  # the delegate refuses it
        if self.replicas.include_me(key) and not self.private.grants(key):
            return  # the lists of a block are on all its nodes
        if (await self._found(key, "", context, without_content=True)).kind == v3.PRIVATE:
            raise disallowed(key)

    async def start(self) -> None:
        """Get ready to answer."""
        await Service.start(self)

    async def stop(self) -> None:
        """Close what is open."""
        await Service.stop(self)
