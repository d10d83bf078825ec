"""How a process that was replaced forwards the calls that still come to it, and ends when nobody needs it any more."""

import asyncio
import logging
from contextlib import suppress
from pathlib import Path

import grpc.aio

from segue.errors import PeerError
from segue.layer.grpc_listener import successor_channel
from segue.layer.grpc_ready import make_ready
from segue.layer.grpc_server import Dispatch
from segue.node.listening import Listening
from segue.node.plan import HostPlan

logger = logging.getLogger(__name__)

#: How often it looks whether its last connection has gone.
_LOOK_S = 0.1
#: A connection that is accepted at the moment of a look is in neither of the places where it looks: so twice in a row.
_LOOKS = 2
#: gRPC spreads the age of connections by a tenth each way, so that they are not renewed all at once.
_AGE_SPREAD = 1.1
#: For connections to close once the last call on them was ended.
_LAST_LOOK_S = 5.0
#: For the successor to be reached before calls go there: it listens already.
_REACH_S = 1.0


class Leaving:
    """The leaving of one process.

    Args:
        dispatch: whose calls are forwarded.
        listening: what the process listens on.
        plan: of the process.
        tasks: where its waiting lives.
        gone: is set when nobody needs the process any more.
    """

    def __init__(
        self,
        *,
        dispatch: Dispatch,
        listening: Listening,
        plan: HostPlan,
        tasks: asyncio.TaskGroup,
        gone: asyncio.Event,
    ) -> None:
        self._dispatch = dispatch
        self._listening = listening
        self._plan = plan
        self._tasks = tasks
        self._gone = gone
        #: The successor that calls go to, or will.
        self._successor: Path | None = None
        self._channel: grpc.aio.Channel | None = None
        self._draining: asyncio.Task[None] | None = None
        #: What closes the channels to earlier successors, when their last calls have ended.
        self._closing: set[asyncio.Task[None]] = set()

    def prepare(self, successor: Path) -> None:
        """Connect to the process that will take over, while there is time for it.

        Args:
            successor: the socket on which it takes relayed calls.
        """
        self._let_go()  # of one that never took over, by the same socket, there may be a channel
        self._successor, self._channel = successor, successor_channel(successor)
        self._tasks.create_task(make_ready(self._channel))

    async def to(self, successor: Path, *, at_once: bool) -> None:
        """Forward every call to `successor`, and have the process end when the last connection has.

        Asked again with another successor, because the one before was itself replaced, calls go to that one from
        then on; those that the one before has end there.

        Args:
            successor: the socket on which it takes relayed calls.
            at_once: whether it waits for the ports; they are free then when this returns.
        """
        before, channel = self._channel, self._channel
        if channel is None or successor != self._successor:
            channel = successor_channel(successor)
        with suppress(TimeoutError):  # then calls wait until it can be reached
            async with asyncio.timeout(_REACH_S):
                await channel.channel_ready()
        self._dispatch.forward(channel)
        if channel is not before:
            self._let_go()
        self._successor, self._channel = successor, channel
        try:
            if at_once:
                await self._listening.leave(at_once=True)
        finally:
            if self._draining is None:
                self._draining = self._tasks.create_task(self._drain())

    def come_back(self) -> None:
        """Forward no more: calls wait here, and the process does not end with its last connection.

        Raises:
            PeerError: it is too late, the process is ending.
        """
        if self._gone.is_set():
            raise PeerError("the application's process is ending, as its last connection has")
        if self._draining is not None:
            self._draining.cancel()
            self._draining = None
        self._dispatch.forward(None)
        self._let_go()

    async def stop(self) -> None:
        """Forward no more, and wait for nothing; to be awaited once no calls come any more."""
        for task in (self._draining, *self._closing):
            if task is not None:
                task.cancel()
        if self._channel is not None:
            await self._channel.close()

    def _let_go(self) -> None:
        """Close the channel to the successor that was, once the calls that it has have ended."""
        if self._channel is not None:
            task = self._tasks.create_task(self._close(self._channel))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        self._successor = self._channel = None

    async def _close(self, channel: grpc.aio.Channel) -> None:
        await self._dispatch.relayed(channel)
        await channel.close()

    async def _drain(self) -> None:
        """Have the process end when nobody needs it any more, or has needed it for too long."""
        await self._listening.leave()
        renewed_s = self._plan.max_connection_age_s * _AGE_SPREAD
        limit_s = max(self._plan.drain_limit_s - renewed_s, 0)
        if not await self._left(renewed_s):
            # All connections are on their way out, but those on which a call does not end. Of these, none is
            # needed by who watches the node's health: whoever watches again gets the process that answers.
            self._dispatch.end_relayed_beside()
            if not await self._left(limit_s):
                logger.warning("forwarded calls do not end: they have %s s", self._plan.stream_grace_s)
                await self._dispatch.end_relayed(self._plan.stream_grace_s)
                await self._left(_LAST_LOOK_S)
        self._gone.set()

    async def _left(self, within_s: float) -> bool:
        """Wait until nobody is connected and nothing is forwarded any more; say whether that came in time."""
        looks = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while looks < _LOOKS:
                    await asyncio.sleep(_LOOK_S)
                    looks = 0 if self._is_needed else looks + 1
        return looks >= _LOOKS

    @property
    def _is_needed(self) -> bool:
        calls = self._dispatch.in_flight
        return bool(self._listening.connections() or calls.parked or calls.forwarded)
