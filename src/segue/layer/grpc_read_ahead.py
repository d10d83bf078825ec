"""A call whose first request is read before it is known who answers it."""

import asyncio
from typing import Any

import grpc.aio

from segue.layer.grpc_context import Context, PassingContext
from segue.layer.parked import Waiting


class ReadAhead(PassingContext):
    """A context over gRPC's own that gives a request again which was looked at.

    `begin` and `end` are awaited by the task that serves the call.

    Args:
        below: gRPC's own, of which nothing was read.
        waiting: is told what a request holds that is looked at.
    """

    def __init__(self, below: Context, waiting: Waiting) -> None:
        super().__init__(below)
        self._waiting = waiting
        self._group: asyncio.TaskGroup | None = None
        #: What reads the next request, until that was asked for.
        self._reading: asyncio.Task[None] | None = None
        #: The next request, or what came instead of it, until that was asked for.
        self._next: tuple[Any, Exception | None] | None = None

    async def begin(self) -> None:
        """Begin to read while others are waited for."""
        # Entered and left by hand: its task never raises, and the call's own errors must not come out in a group.
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        self._reading = self._group.create_task(self._read_next())

    async def end(self) -> None:
        """Read no more; to be awaited once the call is over."""
        if self._group is None:
            return
        if self._reading is not None:
            self._reading.cancel()
        await self._group.__aexit__(None, None, None)

    async def peek(self) -> Any:
        """Return the next message, or `grpc.aio.EOF`, which `read` will return all the same."""
        if self._reading is not None:
            await asyncio.shield(self._reading)
        elif self._next is None:
            await self._read_next()
        assert self._next is not None, "it was read"
        message, error = self._next
        if error is not None:
            raise error
        return message

    async def read(self) -> Any:
        """Return the caller's next message, or `grpc.aio.EOF`."""
        if self._reading is None and self._next is None:
            return await self._below.read()
        message = await self.peek()
        self._reading = self._next = None
        return message

    async def _read_next(self) -> None:
        try:
            message = await self._below.read()
        except Exception as error:
            self._next = (None, error)
            return
        self._next = (message, None)
        if message is not grpc.aio.EOF:
            self._waiting.hold(len(message))
