"""A client whose every call is counted, and what it gets compared, inside a worker's process."""

import time
from collections import Counter
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, TypeVar, runtime_checkable

import grpc.aio

from segue.layer.grpc_refusal import refusal_of

_FAILURES_TOLD = 5

#: Who owns private blocks, who else may read them, and who may not.
OWNER, READER, STRANGER = "ann", "ben", "eve"

Answer = TypeVar("Answer")


class Client(Protocol):
    """A client of the block store, of one version.

    Attributes:
        private_ends: what a call for a private block of others ends with: a reason of Segue's refusals, else a status.
    """

    private_ends: str

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


@runtime_checkable
class PrivateClient(Client, Protocol):
    """One that also knows private blocks."""

    def as_user(self, user: str) -> Self:
        """Return a client of that user, over the same channels."""
        ...

    async def put_private(self, data: bytes, readers: Sequence[str]) -> str:
        """Store a block for the user and `readers` alone, and return its key."""
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
    put_private: list[int] = field(default_factory=list)
    admitted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    leaked: int = 0

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
            "put_private": self.put_private,
            "admitted": self.admitted,
            "refused": dict(self.refused),
            "leaked": self.leaked,
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
        if not await self._put("put", self._client.put(block), block):
            return False
        if number is not None:
            self._counts.put.append(number)
        return True

    @property
    def knows_private_blocks(self) -> bool:
        """Whether it can put them; then it reads them as their owner and reader, else as nobody in particular."""
        return isinstance(self._client, PrivateClient)

    async def put_private(self, block: bytes, number: int) -> bool:
        """Store a private block, and say whether that went well."""
        assert isinstance(self._client, PrivateClient)
        put = self._client.as_user(OWNER).put_private(block, [READER])
        if not await self._put("put private", put, block):
            return False
        self._counts.put_private.append(number)
        return True

    async def compare_private(self, block: bytes, user: str) -> str | None:
        """Get a private block as one who may read it, and say what is wrong; None if nothing is."""
        assert isinstance(self._client, PrivateClient)
        fault = await self._compare(self._client.as_user(user), block)
        self._counts.admitted += fault is None
        return fault

    async def try_private(self, block: bytes) -> bool:
        """Try to get a private block as one who may not, and say whether that was refused as it must be.

        Such a refusal is a call that went well.
        """
        client = self._client.as_user(STRANGER) if isinstance(self._client, PrivateClient) else self._client
        self._counts.calls += 1
        self._counts.size_bytes += len(block)
        try:
            data = await client.get(client.key_of(block))
        except grpc.aio.AioRpcError as error:
            status = _status(error)
            if status == client.private_ends:
                self._counts.refused[status] += 1
                return True
            self._fail("get private", status, error.details() or "")
        except Exception as error:  # as below
            self._fail("get private", type(error).__name__, str(error))
        else:
            self._counts.leaked += 1
            self._fail("get private", "LEAKED", f"{len(data)} bytes came back to one who may not read them")
        return False

    async def compare(self, block: bytes) -> str | None:
        """Get a block that was stored, and say what is wrong with what comes back; None if nothing is."""
        return await self._compare(self._client, block)

    async def _put(self, name: str, call: Awaitable[str], block: bytes) -> bool:
        key = await self._call(name, call, len(block))
        if key is None:
            return False
        if key != self._client.key_of(block):
            self._fail(name, "WRONG_CONTENT", f"the key {key} is not that of what was put")
            return False
        return True

    async def _compare(self, client: Client, block: bytes) -> str | None:
        data = await self._call("get", client.get(client.key_of(block)), len(block))
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
            self._fail(name, _status(error), error.details() or "")
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


def _status(error: grpc.aio.AioRpcError) -> str:
    """Return how a call ended: the reason of Segue's refusal if it is one, else the gRPC status."""
    refusal = refusal_of(error)
    return str(refusal.reason) if refusal else str(error.code().name)
