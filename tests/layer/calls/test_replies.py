"""What callers get, and in which order, whichever way a call goes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from segue import RefusalReason, refusal_of

MakeWorld = Callable[..., Awaitable[Any]]
Hear = Callable[[str, Any], Awaitable[tuple[list[str], Any]]]


async def test_all_replies_arrive(way: Any, kind: str, world: MakeWorld, hear: Hear) -> None:
    """Each reply once, in order, through each simulation once; afterwards nobody is inside."""
    node = await world(way)
    assert await hear(kind, await node.begin(kind)) == (node.replies(kind), None)
    await node.over()
    assert [(actor.entered, actor.cleaned) for actor in node.actors] == [(1, 1)] * (way.depth + 1)


async def test_nothing_is_a_stream_too(main_way: Any, kind: str, world: MakeWorld, hear: Hear) -> None:
    """No requests, no replies, an empty message: each arrives as that, with OK."""
    node = await world(main_way)
    nothing = node.replies(kind, "")
    assert await hear(kind, await node.begin(kind, "")) == (nothing, None)
    await node.over()
    assert nothing == ([] if kind in ("Down", "Both") else ["s:" * main_way.depth + "o:"])


async def test_a_conversation(way: Any, world: MakeWorld, scripted: Any) -> None:
    """Each reply arrives before the next request is sent; the object hears when that was all, and goes on."""
    node = await world(way, scripted(farewell="xy"))
    call = await node.begin("Both", requests=())
    for letter in "ab":
        await call.write(letter)
        assert [await call.read()] == node.replies("Both", letter)
    await call.done_writing()
    assert [await call.read(), await call.read(), await call.read()] == [*node.replies("Both", "xy"), grpc.aio.EOF]
    assert await call.code() is grpc.StatusCode.OK
    await node.over()


async def test_an_object_that_has_heard_enough(
    main_way: Any, asking_by_stream: str, world: MakeWorld, scripted: Any
) -> None:
    """It may end the call while the caller could still send; the caller gets its replies and OK."""
    node = await world(main_way, scripted(reads=2))
    call = await node.begin(asking_by_stream, requests=())
    for letter in "ab":
        await call.write(letter)
    if asking_by_stream == "Up":
        assert [await call] == node.replies("Up", "ab")
    else:
        assert [await call.read(), await call.read(), await call.read()] == [
            *node.replies("Both", "ab"),
            grpc.aio.EOF,
        ]
    assert await call.code() is grpc.StatusCode.OK
    await node.over()
    assert [actor.cleaned for actor in node.actors] == [1] * (main_way.depth + 1)


async def test_an_object_that_wants_no_request(
    main_way: Any, asking_by_stream: str, world: MakeWorld, scripted: Any, hear: Hear
) -> None:
    """It may end the call without a look at what the caller sends."""
    node = await world(main_way, scripted(reads=0))
    call = await node.begin(asking_by_stream, requests=())
    assert await hear(asking_by_stream, call) == (node.replies(asking_by_stream, ""), None)
    await node.over()


async def abort(context: Any) -> None:
    await context.abort(grpc.StatusCode.ABORTED, "enough", (("why", "full"),))


def plainly_abort(context: Any) -> None:
    context.abort(grpc.StatusCode.ABORTED, "enough", (("why", "full"),))


async def test_an_object_that_aborts(way: Any, kind: str, world: MakeWorld, scripted: Any, hear: Hear) -> None:
    """The caller gets the replies that came before, then the status with its details and trailing metadata."""
    node = await world(way, scripted(end=abort, plain_end=plainly_abort))
    replies, error = await hear(kind, await node.begin(kind))
    assert replies == (node.replies(kind) if kind in ("Down", "Both") else [])
    assert (error.code(), error.details()) == (grpc.StatusCode.ABORTED, "enough")
    assert tuple(error.trailing_metadata()) == (("why", "full"),)
    await node.over()
    assert [actor.cleaned for actor in node.actors] == [1] * (way.depth + 1)


async def fail(context: Any) -> None:
    raise ValueError("secret of the object")


def plainly_fail(context: Any) -> None:
    raise ValueError("secret of the object")


async def test_an_object_that_fails(main_way: Any, kind: str, world: MakeWorld, scripted: Any, hear: Hear) -> None:
    """The caller gets the replies that came before, then that it failed, and nothing of how."""
    node = await world(main_way, scripted(end=fail, plain_end=plainly_fail))
    replies, error = await hear(kind, await node.begin(kind))
    assert replies == (node.replies(kind) if kind in ("Down", "Both") else [])
    refusal = refusal_of(error)
    assert refusal is not None
    assert refusal.reason is (RefusalReason.SIMULATION_FAILED if main_way.depth else RefusalReason.OBJECT_FAILED)
    assert "secret" not in refusal.message
    await node.over()
    assert [actor.cleaned for actor in node.actors] == [1] * (main_way.depth + 1)


async def set_code(context: Any) -> None:
    context.set_code(grpc.StatusCode.NOT_FOUND)
    context.set_details("gone")


def plainly_set_code(context: Any) -> None:
    context.set_code(grpc.StatusCode.NOT_FOUND)
    context.set_details("gone")


async def test_a_status_that_an_object_sets(
    main_way: Any, kind: str, world: MakeWorld, scripted: Any, hear: Hear
) -> None:
    """The other way to end a call with a status, by `set_code`, arrives as well."""
    node = await world(main_way, scripted(end=set_code, plain_end=plainly_set_code))
    replies, error = await hear(kind, await node.begin(kind))
    assert replies == (node.replies(kind) if kind in ("Down", "Both") else [])
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "gone")
    await node.over()


async def test_many_messages(main_way: Any, world: MakeWorld, hear: Hear) -> None:
    """A caller that sends faster than it reads, and the other way round, loses nothing."""
    node = await world(main_way)

    async def requests() -> AsyncIterator[str]:
        for number in range(200):
            if number % 50 == 0:
                await asyncio.sleep(0)
            yield f"{number};"

    replies, error = await hear("Both", await node.begin("Both", requests=requests()))
    assert error is None
    assert replies == ["s:" * main_way.depth + f"o:{number};" for number in range(200)]
