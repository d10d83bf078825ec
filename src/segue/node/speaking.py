"""What the agent sends the upgrade server: all that is new, and else only that nothing changed."""

from segue.errors import OperatorError
from segue.model.ids import NodeId, SystemName
from segue.wire.client import UpgradeServer
from segue.wire.messages import Alive, Heartbeat, HeartbeatReply


class Speaking:
    """Sends heartbeats, each as short as it can be.

    Args:
        server: the upgrade server.
        system: the node's.
        node: who speaks.
    """

    def __init__(self, server: UpgradeServer, system: SystemName, node: NodeId) -> None:
        self._server = server
        self._system = system
        self._node = node
        self._said: Heartbeat | None = None
        #: What the server calls that which was said; None if it must be told all.
        self._tag: str | None = None

    async def send(self, message: Heartbeat) -> HeartbeatReply:
        """Report the node; `message` has arrived when this returns, its counts of calls as well.

        Raises:
            SegueError: the server refused it, or does not answer.
        """
        said = message.model_copy(update={"usage": ()})
        # A node that has yet to begin says all each time: only so is it told with what.
        if self._tag is not None and said == self._said and said.version:
            try:
                reply = await self._server.alive(self._system, self._node, Alive(tag=self._tag, usage=message.usage))
            except OperatorError:  # a server from before there was a short way
                reply = HeartbeatReply(newest=0, full=True)
            if not reply.full:
                return reply
        self._tag = None
        reply = await self._server.heartbeat(self._system, self._node, message)
        self._said, self._tag = said, reply.tag
        return reply

    def __repr__(self) -> str:
        return f"Speaking({self._node!r}, {self._tag!r})"
