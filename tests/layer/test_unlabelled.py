"""Calls without a label are of the one version that has their method, else of the configured default."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
import pytest

from segue.errors import OperatorError
from segue.layer.chain import Chain
from segue.layer.grpc_refusal import Refusal, RefusalReason, refusal_of
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest, unlabelled_default
from segue.layer.parked import ParkLimits
from segue.layer.usage import Usage
from segue.model.ids import Version

Serve = Callable[[Dispatch], Awaitable[str]]
Connect = Callable[..., grpc.aio.Channel]
MakeChain = Callable[..., Chain]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


class One:
    """An object that has `Unary`, and a method that no other version has."""

    def __init__(self, *methods: str) -> None:
        self.methods = methods

    def register(self, server: grpc.aio.Server) -> None:
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            name: grpc.unary_unary_rpc_method_handler(self.echo) for name in self.methods
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("toy.Kinds", handlers),))

    async def echo(self, request: bytes, context: Any) -> bytes:
        return request


def with_default(default: Any, heard: list[Version]) -> Dispatch:
    return Dispatch(
        usage=Usage(),
        newest=Newest(Version(1)),
        on_newer=heard.append,
        default=default,
        parking=ParkLimits(wait_s=0.02),
    )


async def unary(channel: Any, method: str = "Unary") -> str:
    reply: bytes = await channel.unary_unary(f"/toy.Kinds/{method}")(b"x")
    return reply.decode()


async def refused(channel: Any, method: str = "Unary") -> Refusal:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await unary(channel, method)
    refusal = refusal_of(caught.value)
    assert refusal is not None
    return refusal


async def test_a_fixed_default_outlives_upgrades(
    heard: list[Version], serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """Callers without a label keep their version while the node goes from version 1 to 2, and `current` does not."""
    answers: dict[Any, list[str]] = {1: [], "current": []}
    for default, got in answers.items():
        dispatch = with_default(default, heard)
        channel = connect(await serve(dispatch))
        for current in (1, 2):
            dispatch.show(chain(kinds("v1"), kinds("v2"), current=current))
            got.append(await unary(channel))
    assert answers == {1: ["v1:x", "v1:x"], "current": ["v1:x", "v2:x"]}
    assert heard == []


async def test_a_default_that_is_retired(
    heard: list[Version], serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """The caller is told that it is taken for that version, though it did not say so."""
    dispatch = with_default(1, heard)
    dispatch.show(chain(kinds("v2"), kinds("v3"), oldest=2, current=3))
    refusal = await refused(connect(await serve(dispatch)))
    assert (refusal.reason, refusal.caller_version) == (RefusalReason.RETIRED_VERSION, 1)
    assert "version 1, which calls without a label are taken for, is no longer answered here" in refusal.message


async def test_a_default_that_the_node_has_not_yet(
    heard: list[Version], serve: Serve, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """It counts as claimed, as if a caller had said so; calls wait for it."""
    dispatch = Dispatch(usage=Usage(), newest=Newest(Version(1)), on_newer=heard.append, default=Version(3))
    dispatch.show(chain(kinds("v1"), kinds("v2"), current=1))
    assert heard == [3]
    channel: Any = connect(await serve(dispatch))
    waiting = channel.unary_unary("/toy.Kinds/Unary")(b"x")
    await until(lambda: dispatch.in_flight.parked == 1)
    dispatch.show(chain(kinds("v1"), kinds("v2"), kinds("v3"), current=1))
    assert await waiting == b"v3:x"
    assert heard == [3]


async def test_a_default_that_does_not_come_in_time(
    heard: list[Version], serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """The refusal names it."""
    dispatch = with_default(3, heard)
    dispatch.show(chain(kinds("v1"), kinds("v2"), current=1))
    refusal = await refused(connect(await serve(dispatch)))
    assert (refusal.reason, refusal.caller_version) == (RefusalReason.UNKNOWN_VERSION, 3)


async def test_a_default_that_has_not_the_method(
    heard: list[Version], serve: Serve, connect: Connect, chain: MakeChain
) -> None:
    """If several others have it, nobody guesses which: they are named. If one has, it is that one's."""
    dispatch = with_default("current", heard)
    dispatch.show(chain(One("Old", "Oldest"), One("Old"), One("New"), current=3))
    channel = connect(await serve(dispatch))
    refusal = await refused(channel, "Old")
    assert (refusal.reason, refusal.caller_version) == (RefusalReason.NO_SUCH_METHOD, 3)
    assert "call with a version that has it: 1, 2" in refusal.message
    assert await unary(channel, "Oldest") == "x"
    assert (await refused(channel, "Nowhere")).caller_version is None


@pytest.mark.parametrize(
    ("given", "meant"), [("current", "current"), ("1", 1), (7, 7), (Version(2), 2), ("999999999", 999999999)]
)
def test_what_an_operator_may_say(given: str | int, meant: Any) -> None:
    """The word or a version, as a number or as text."""
    assert unlabelled_default(given) == meant


@pytest.mark.parametrize("given", ["", "newest", "0", 0, -1, "01", "1.0", 1.0, True, None, 10**9, "٣", "1\n"])
def test_what_an_operator_may_not_say(given: Any) -> None:
    """It is refused before any call is, and by the dispatch too."""
    with pytest.raises(OperatorError, match="use current, or one version from 1 to"):
        unlabelled_default(given)
    with pytest.raises(OperatorError, match="calls without a label"):
        with_default(given, [])
