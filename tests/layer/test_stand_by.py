"""On stand-by no call is let in until somebody has heard that the first has come."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
import pytest

from segue.layer.chain import Chain
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest
from segue.layer.usage import Usage
from segue.model.ids import Version

Serve = Callable[[Dispatch], Awaitable[str]]
Connect = Callable[..., grpc.aio.Channel]
MakeChain = Callable[..., Chain]
Until = Callable[[Callable[[], bool]], Awaitable[None]]

UNARY = "/toy.Kinds/Unary"


@pytest.mark.parametrize("node", [None, "n2"])
async def test_the_first_call_is_told_of_before_it_is_let_in(
    node: str | None, dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """Once, whoever calls; it waits until calls are let in, and so do those after it."""
    told: list[int] = []
    dispatch.show(chain(kinds("v1"), current=1))
    dispatch.stand_by(lambda: told.append(dispatch.in_flight.clients + dispatch.in_flight.nodes))
    assert not told
    unary: Any = connect(await serve(dispatch), 1, node=node).unary_unary(UNARY)
    calls = [unary(b"a"), unary(b"b")]
    await until(lambda: dispatch.in_flight.parked == 2)
    assert told == [0]
    dispatch.resume()
    assert [await call for call in calls] == [b"v1:a", b"v1:b"]
    await dispatch.quiesce(1)
    late = unary(b"c")
    await until(lambda: dispatch.in_flight.parked == 1)
    dispatch.resume()
    assert await late == b"v1:c"
    assert told == [0]


async def test_whoever_is_told_may_let_calls_in(
    dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """At once: the call does not wait at all."""
    dispatch.show(chain(kinds("v1"), current=1))
    dispatch.stand_by(dispatch.resume)
    unary: Any = connect(await serve(dispatch), 1).unary_unary(UNARY)
    assert await unary(b"a") == b"v1:a"


async def test_a_call_that_waits_already_is_the_first(
    dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """It came too early, while the port was being taken."""
    dispatch.show(chain(kinds("v1"), current=1))
    await dispatch.quiesce(1)
    unary: Any = connect(await serve(dispatch), 1).unary_unary(UNARY)
    call = unary(b"a")
    await until(lambda: dispatch.in_flight.parked == 1)
    dispatch.stand_by(dispatch.resume)
    assert await call == b"v1:a"


async def test_a_relayed_call_is_the_first(
    dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """The process that was replaced has the connections yet."""
    told: list[bool] = []

    def on_first() -> None:
        told.append(True)
        dispatch.resume()

    dispatch.show(chain(kinds("new"), current=1))
    dispatch.stand_by(on_first)
    old = Dispatch(usage=Usage(), newest=Newest(Version(1)), on_newer=lambda _: None)
    old.forward(connect(await serve(dispatch)))
    unary: Any = connect(await serve(old), 1).unary_unary(UNARY)
    assert await unary(b"a") == b"new:a"
    assert await unary(b"b") == b"new:b"
    assert told == [True]


async def test_whoever_is_told_may_fail(
    dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any, until: Until,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """A full disk, say: no call is let in for that, and it is tried again."""
    tries: list[int] = []

    def on_first() -> None:
        tries.append(len(tries))
        if len(tries) == 1:
            raise OSError("no space left")
        dispatch.resume()

    dispatch.show(chain(kinds("v1"), current=1))
    dispatch.stand_by(on_first)
    channel: Any = connect(await serve(dispatch), 1)
    # The one call is looked at twice: when gRPC has it, and when it begins to wait.
    assert await channel.unary_unary(UNARY)(b"a") == b"v1:a"
    assert "no space left" in caplog.text
