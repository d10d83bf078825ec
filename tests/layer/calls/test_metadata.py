"""What goes along with a call, before and after its messages."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

MakeWorld = Callable[..., Awaitable[Any]]
Hear = Callable[[str, Any], Awaitable[tuple[list[str], Any]]]

FIRST = (("first", "1"), ("first-bin", b"\x00\xff"))
LAST = (("last", "2"), ("last", "again"), ("last-bin", b"\x01"))


@pytest.mark.parametrize("at", [0, -1], ids=["object", "simulation"])
async def test_metadata_of_replies(
    main_way: Any, kind: str, at: int, world: MakeWorld, scripted: Any, hear: Hear
) -> None:
    """What the object sends before and after its replies arrives, and so does what a simulation sends."""
    scripts = [scripted() for _ in range(main_way.depth + 1)]
    scripts[at] = scripted(initial=FIRST, trailing=LAST)
    node = await world(main_way, *scripts)
    call = await node.begin(kind)
    assert tuple(await call.initial_metadata()) == FIRST
    assert await hear(kind, call) == (node.replies(kind), None)
    assert tuple(await call.trailing_metadata()) == LAST


async def test_metadata_of_requests(main_way: Any, kind: str, world: MakeWorld, hear: Hear) -> None:
    """The object and each simulation see what the caller sends, and its label."""
    node = await world(main_way)
    sent = (("own", "1"), ("own", "2"), ("own-bin", b"\x00"))
    await hear(kind, await node.begin(kind, metadata=sent))
    for actor in node.actors:
        assert [pair for pair in actor.metadata if pair[0].startswith("own")] == list(sent)
        assert ("segue-label", f"{main_way.version}/{main_way.version}") in actor.metadata


async def test_initial_metadata_before_the_first_reply(
    main_way: Any, answered_by_stream: str, world: MakeWorld, scripted: Any
) -> None:
    """A caller may wait for it while the object goes on; gRPC's callers of the other kinds wait for the reply."""
    node = await world(main_way, scripted(initial=FIRST, hangs=True))
    call = await node.begin(answered_by_stream)
    assert tuple(await call.initial_metadata()) == FIRST
    call.cancel()
    await node.over()


def with_details() -> Any:
    detail = AnyMessage()
    violation = BadRequest.FieldViolation(field="name", description="is empty")
    detail.Pack(BadRequest(field_violations=[violation]))
    code: int = grpc.StatusCode.INVALID_ARGUMENT.value[0]
    return rpc_status.to_status(Status(code=code, message="bad name", details=[detail]))


async def abort(context: Any) -> None:
    await context.abort_with_status(with_details())


def plainly_abort(context: Any) -> None:
    context.abort_with_status(with_details())


async def test_details_of_a_status(way: Any, kind: str, world: MakeWorld, scripted: Any, hear: Hear) -> None:
    """A `google.rpc.Status` with a detail of the object's own arrives through all simulations unchanged."""
    node = await world(way, scripted(end=abort, plain_end=plainly_abort))
    _, error = await hear(kind, await node.begin(kind))
    status = rpc_status.from_call(error)
    assert (error.code(), status.message) == (grpc.StatusCode.INVALID_ARGUMENT, "bad name")
    (detail,) = status.details
    found = BadRequest()
    assert detail.Unpack(found)
    assert [(one.field, one.description) for one in found.field_violations] == [("name", "is empty")]


async def test_trailing_metadata_of_a_call_that_fails(
    main_way: Any, kind: str, world: MakeWorld, scripted: Any, hear: Hear
) -> None:
    """What the object set before it set a status that is not OK goes along with that."""

    async def end(context: Any) -> None:
        context.set_code(grpc.StatusCode.NOT_FOUND)

    def plain_end(context: Any) -> None:
        context.set_code(grpc.StatusCode.NOT_FOUND)

    node = await world(main_way, scripted(trailing=LAST, end=end, plain_end=plain_end))
    _, error = await hear(kind, await node.begin(kind))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert tuple(error.trailing_metadata()) == LAST
