"""Calls that are ended, by a deadline, by their callers or by their node: nothing of them stays at the node."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from segue.layer.grpc_refusal import RefusalReason, refusal_of

MakeWorld = Callable[..., Awaitable[Any]]
Hear = Callable[[str, Any], Awaitable[tuple[list[str], Any]]]


async def test_a_deadline(way: Any, kind: str, world: MakeWorld, scripted: Any, hear: Hear) -> None:
    """The object and each simulation know it; when it passes, their clean-up runs before the call has left."""
    node = await world(way, scripted(hangs=True))
    replies, error = await hear(kind, await node.begin(kind, timeout=0.15))
    assert replies == (node.replies(kind) if kind in ("Down", "Both") else [])
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await node.over()
    assert [(actor.entered, actor.cleaned) for actor in node.actors] == [(1, 1)] * (way.depth + 1)
    # gRPC rounds a deadline up on the way, each time that it is sent.
    assert all(0 < actor.remaining_s <= 0.2 for actor in node.actors)


async def test_no_deadline(main_way: Any, kind: str, world: MakeWorld, hear: Hear) -> None:
    """Where the caller has none, nobody sees one."""
    node = await world(main_way)
    await hear(kind, await node.begin(kind))
    assert [actor.remaining_s for actor in node.actors] == [None] * (main_way.depth + 1)


async def test_a_caller_that_gives_up(way: Any, kind: str, world: MakeWorld, scripted: Any, hear: Hear) -> None:
    """The object and each simulation are ended, and their clean-up has run when the call has left."""
    node = await world(way, scripted(hangs=True))
    call = await node.begin(kind)
    await node.until(lambda: node.actors[0].hanging)
    call.cancel()
    assert await call.code() is grpc.StatusCode.CANCELLED
    await node.over()
    assert [(actor.entered, actor.cleaned) for actor in node.actors] == [(1, 1)] * (way.depth + 1)


async def test_a_caller_that_gives_up_while_it_is_heard(
    way: Any, asking_by_stream: str, world: MakeWorld, scripted: Any
) -> None:
    """The same where the object waits for the caller's next request."""
    node = await world(way)
    call = await node.begin(asking_by_stream, requests=())
    await call.write("a")
    if asking_by_stream == "Both":
        assert [await call.read()] == node.replies("Both", "a")
    await node.until(lambda: node.actors[0].entered == 1)
    call.cancel()
    await node.over()
    assert [(actor.entered, actor.cleaned) for actor in node.actors] == [(1, 1)] * (way.depth + 1)


async def test_a_node_that_does_not_wait_longer(
    own_way: Any, stream: str, world: MakeWorld, scripted: Any, hear: Hear
) -> None:
    """Also methods in threads, and through simulations; the clean-up of each has run when the node is quiet."""
    node = await world(own_way, scripted(hangs=True))
    call = await node.begin(stream)
    await node.until(lambda: node.actors[0].hanging)
    await node.front.quiesce(10, streams_s=0)
    assert [(actor.entered, actor.cleaned) for actor in node.actors] == [(1, 1)] * (own_way.depth + 1)
    replies, error = await hear(stream, call)
    # What was not read when the status comes, gRPC's client drops.
    assert replies == node.replies(stream)[: len(replies)]
    refusal = refusal_of(error)
    assert refusal is not None
    assert (error.code(), refusal.reason) == (grpc.StatusCode.UNAVAILABLE, RefusalReason.NODE_UPGRADING)
