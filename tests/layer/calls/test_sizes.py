"""Large messages pass where both ends allow them, and are refused as gRPC refuses them where one does not."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

MakeWorld = Callable[..., Awaitable[Any]]
Hear = Callable[[str, Any], Awaitable[tuple[list[str], Any]]]

LARGE = "x" * (8 << 20)


async def test_8_mib_each_way(one_way: Any, kind: str, world: MakeWorld, scripted: Any, hear: Hear) -> None:
    """One message of that size goes to the object, and one comes back."""
    node = await world(one_way, scripted(whole=True), limit_bytes=9 << 20)
    requests = [LARGE] if kind in ("Up", "Both") else None
    replies, error = await hear(kind, await node.begin(kind, LARGE, requests))
    assert error is None
    assert [len(reply) for reply in replies] == [len(LARGE) + 2 * one_way.depth + 2]


async def test_a_request_that_is_too_large(one_way: Any, kind: str, world: MakeWorld, hear: Hear) -> None:
    """The caller is told so, and the object is not called with it."""
    node = await world(one_way)
    requests = [LARGE] if kind in ("Up", "Both") else None
    replies, error = await hear(kind, await node.begin(kind, LARGE, requests))
    assert (replies, error.code()) == ([], grpc.StatusCode.RESOURCE_EXHAUSTED)
    await node.over()
