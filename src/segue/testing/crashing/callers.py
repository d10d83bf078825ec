"""Callers of the store, which know what it has acknowledged, and do not mind that it was killed."""

import asyncio
import random
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

import grpc.aio

from segue.layer.grpc_channel import labelled_channel
from segue.model.ids import Version


class StoreCaller:
    """A client of one version, on a channel of its own, inside `async with`.

    Args:
        version: the version that it speaks.
        address: where the node is.
        timeout_s: seconds that a call may take.
    """

    def __init__(self, version: Version, address: str, *, timeout_s: float = 5.0) -> None:
        self._version = version
        self._timeout_s = timeout_s
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            # A node whose process was killed is soon back.
            ("grpc.initial_reconnect_backoff_ms", 100),
            ("grpc.min_reconnect_backoff_ms", 100),
            ("grpc.max_reconnect_backoff_ms", 300),
        ]
        self._channel = labelled_channel(address, version=version, options=options)
        self._opened = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._opened.enter_async_context(self._channel)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        await self._opened.aclose()

    async def put(self, key: str, value: bytes) -> None:
        """Put a value; when this returns, it was acknowledged."""
        request = b"%d=%s=" % (self._version, key.encode())
        assert await self._call("Put", request + value) == b"put"

    async def get(self, key: str) -> bytes:
        """Return the value of a key."""
        return await self._call("Get", key.encode())

    async def _call(self, method: str, request: bytes) -> bytes:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(f"/store.Store/{method}")
        return await call(request, timeout=self._timeout_s)


async def patiently(
    caller: StoreCaller, key: str, value: bytes | None = None, *, met: list[str] | None = None
) -> bytes:
    """Put a value, or get one if none is given, as often as that must be tried: the application was killed.

    Args:
        caller: makes the calls.
        key: of the value.
        value: what is put; None to get it.
        met: gets the failures of the calls that had to be made again.
    """
    while True:
        try:
            if value is None:
                return await caller.get(key)
            await caller.put(key, value)
        except grpc.aio.AioRpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                raise
            if met is not None:
                met.append(f"{key}: {error.code().name}: {error.details()}")
            await asyncio.sleep(0.05)
        else:
            return value


class Writer:
    """Puts values of its own, one after the other, each until it is acknowledged, until it is told to stop.

    Args:
        caller: makes the calls.
        name: what its keys begin with.
        rng: draws the values and the pauses.
        think_s: the mean of the pauses, in seconds.
    """

    def __init__(self, caller: StoreCaller, name: str, rng: random.Random, *, think_s: float = 0.03) -> None:
        self.acknowledged: dict[str, bytes] = {}
        #: Failures that it met, of Puts that it then made again.
        self.met: list[str] = []
        self._caller = caller
        self._name = name
        self._rng = rng
        self._think_s = think_s
        self._stopped = False

    def stop(self) -> None:
        """Put nothing more after the value that is under way."""
        self._stopped = True

    async def run(self) -> None:
        """Put values until told to stop."""
        while not self._stopped:
            key, value = f"{self._name}{len(self.acknowledged)}", self._rng.randbytes(self._rng.randrange(300))
            self.acknowledged[key] = await patiently(self._caller, key, value, met=self.met)
            await asyncio.sleep(self._rng.expovariate(1 / self._think_s))
