"""A client whose every call is counted, and what it gets compared, inside a worker's process."""

import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import grpc.aio

_FAILURES_TOLD = 5

Answer = TypeVar("Answer")


class Client(Protocol):
    """A client of the block store, of one version."""

    async def put(self, data: bytes) -> str:
        """Store a block and return its key."""
        ...

    async def get(self, key: str) -> bytes:
        """Return the block of that key."""
        ...

    def key_of(self, data: bytes) -> str:
        """Return the key that `put` would."""
        ...

    async def close(self) -> None:
        """Close the channels."""
        ...


@dataclass(slots=True)
class Counts:
    """What was done since the last tally."""

    since_s: float
    calls: int = 0
    failed: int = 0
    size_bytes: int = 0
    failures: list[dict[str, Any]] = field(default_factory=list)
    put: list[int] = field(default_factory=list)

    def told(self, now_s: float) -> dict[str, Any]:
        """Return the tally as it is said."""
        return {
            "from_s": self.since_s,
            "to_s": now_s,
            "calls": self.calls,
            "failed": self.failed,
            "size_bytes": self.size_bytes,
            "failures": self.failures,
            "put": self.put,
        }


class CountedClient:
    """Calls through `client`, counts each call, and lets no failure pass as an exception."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._counts = Counts(time.time())

    def take_counts(self) -> dict[str, Any]:
        """Return what was done since the last time, and begin anew."""
        now_s = time.time()
        told = self._counts.told(now_s)
        self._counts = Counts(now_s)
        return told

    async def put(self, block: bytes, *, number: int | None = None) -> bool:
        """Store a block, and say whether that went well.

        Args:
            block: the bytes.
            number: if it is a random block, its number, which others are to hear of.
        """
        key = await self._call("put", self._client.put(block), len(block))
        if key is None:
            return False
        if key != self._client.key_of(block):
            self._fail("put", "WRONG_CONTENT", f"the key {key} is not that of what was put")
            return False
        if number is not None:
            self._counts.put.append(number)
        return True

    async def compare(self, block: bytes) -> str | None:
        """Get a block that was stored, and say what is wrong with what comes back; None if nothing is."""
        data = await self._call("get", self._client.get(self._client.key_of(block)), len(block))
        if data is None:
            return "the call failed"
        if data != block:
            fault = f"{len(data)} bytes came back that are not the {len(block)} stored"
            self._fail("get", "WRONG_CONTENT", fault)
            return fault
        return None

    async def _call(self, name: str, call: Awaitable[Answer], size_bytes: int) -> Answer | None:
        try:
            answer = await call
        except grpc.aio.AioRpcError as error:
            self._fail(name, error.code().name, error.details() or "")
            answer = None
        except Exception as error:  # whatever else a client raises is a call that failed, too
            self._fail(name, type(error).__name__, str(error))
            answer = None
        self._counts.calls += 1
        self._counts.size_bytes += size_bytes
        return answer

    def _fail(self, call: str, status: str, text: str) -> None:
        self._counts.failed += 1
        if len(self._counts.failures) < _FAILURES_TOLD:
            self._counts.failures.append({"at_s": time.time(), "call": call, "status": status, "text": text})
