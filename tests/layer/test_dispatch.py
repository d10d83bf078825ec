"""Each call goes to the object of its version, and each that cannot is told why."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
import pytest

from segue.layer.chain import Chain
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest
from segue.layer.parked import ParkLimits
from segue.layer.usage import Usage
from segue.model.ids import Version

Serve = Callable[[Dispatch], Awaitable[str]]
Connect = Callable[..., grpc.aio.Channel]
MakeChain = Callable[..., Chain]
Until = Callable[[Callable[[], bool]], Awaitable[None]]


class Counter:
    """Version 2's object: the same method path as version 1's, with numbers for messages, and one method more."""

    def register(self, server: grpc.aio.Server) -> None:
        numbers: dict[str, Any] = {
            "request_deserializer": int,
            "response_serializer": lambda number: str(number).encode(),
        }
        handlers: dict[str, grpc.RpcMethodHandler[int, int]] = {
            "Unary": grpc.unary_unary_rpc_method_handler(self.twice, **numbers),
            "Twice": grpc.unary_unary_rpc_method_handler(self.twice, **numbers),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("toy.Kinds", handlers),))

    async def twice(self, request: int, context: Any) -> int:
        return 2 * request


async def unary(channel: Any, request: bytes = b"21", method: str = "Unary", **options: Any) -> str:
    reply: bytes = await channel.unary_unary(f"/toy.Kinds/{method}")(request, **options)
    return reply.decode()


async def status(channel: Any, request: bytes = b"21", method: str = "Unary", **options: Any) -> tuple[str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await unary(channel, request, method, **options)
    return caught.value.code().name, caught.value.details() or ""


async def test_one_path_is_two_methods_in_two_versions(
    dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """The label decides whose types the bytes are read as."""
    dispatch.show(chain(kinds("v1"), Counter(), current=2))
    address = await serve(dispatch)
    assert await unary(connect(address, 1)) == "v1:21"
    assert await unary(connect(address, 2)) == "42"


@pytest.mark.parametrize(("default", "answer"), [("current", "42"), (1, "v1:21"), (2, "42")])
async def test_a_call_without_a_label(
    default: Any,
    answer: str,
    usage: Usage,
    newest: Newest,
    serve: Serve,
    connect: Connect,
    chain: MakeChain,
    kinds: Any,
) -> None:
    """It is of the one version that has its method; else of the default; else of the current object's."""
    dispatch = Dispatch(usage=usage, newest=newest, on_newer=lambda _: None, default=default)
    dispatch.show(chain(kinds("v1"), Counter(), current=2))
    channel = connect(await serve(dispatch))
    assert await unary(channel) == answer
    assert await unary(channel, method="Twice") == "42"
    assert await unary(channel, b"2", method="Down") == "v1:2"
    assert {(key.caller_version, key.method.rpartition("/")[2]) for key in usage.counts()} == {
        (2 if default == "current" else default, "Unary"),
        (2, "Twice"),
        (1, "Down"),
    }


@pytest.mark.parametrize("version", [None, 1, 2])
async def test_a_method_that_no_object_of_the_version_has(
    version: int | None, dispatch: Dispatch, usage: Usage, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """It is unimplemented, as without the layer."""
    dispatch.show(chain(kinds("v1"), Counter(), current=2))
    channel = connect(await serve(dispatch), version)
    method = {None: "Nowhere", 1: "Twice", 2: "Down"}[version]
    assert (await status(channel, method=method))[0] == "UNIMPLEMENTED"
    assert usage.counts() == {}


@pytest.mark.parametrize(
    "metadata", [(("segue-label", "2"),), (("segue-label", "2/1"),), (("segue-label", "1/1"), ("segue-node", "a b"))]
)
async def test_a_malformed_label_is_refused(
    metadata: Any, dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """The caller is told what to send instead."""
    dispatch.show(chain(kinds("v1"), current=1))
    code, details = await status(connect(await serve(dispatch)), metadata=metadata)
    assert code == "INVALID_ARGUMENT"
    assert "use" in details


async def test_a_version_older_than_the_chain_is_refused(
    dispatch: Dispatch, usage: Usage, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """The caller is told which versions are answered."""
    dispatch.show(chain(kinds("v2"), kinds("v3"), oldest=2, current=3))
    code, details = await status(connect(await serve(dispatch), 1))
    assert code == "FAILED_PRECONDITION"
    assert "version 1 is no longer answered here: call with version 2 or later, up to 3" in details
    assert usage.counts() == {}


async def test_a_newer_label_is_told_once(
    dispatch: Dispatch,
    newest: Newest,
    heard: list[Version],
    serve: Serve,
    connect: Connect,
    chain: MakeChain,
    kinds: Any,
) -> None:
    """Each version that a label is the first to name is told once; the call goes on if its own version is known."""
    dispatch.show(chain(kinds("v1"), current=1))
    address = await serve(dispatch)
    for known in (3, 3, 2, 5):
        assert await unary(connect(address, 1, newest=known)) == "v1:21"
    assert heard == [3, 2, 5]
    assert newest.version == 1  # anybody can write a label


def test_a_chain_tells_its_versions(dispatch: Dispatch, newest: Newest, chain: MakeChain, kinds: Any) -> None:
    """A version that is installed here is known here, and so on the labels of this process's channels."""
    dispatch.show(chain(kinds("v1"), kinds("v2"), current=1))
    assert newest.version == 2


async def test_a_version_that_does_not_come_in_time(
    usage: Usage, newest: Newest, heard: list[Version], serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """A parked call ends after the limit, told to try again; the node has heard of the version at once."""
    dispatch = Dispatch(usage=usage, newest=newest, on_newer=heard.append, parking=ParkLimits(wait_s=0.05))
    dispatch.show(chain(kinds("v1"), current=1))
    code, details = await status(connect(await serve(dispatch), 2))
    assert code == "UNAVAILABLE"
    assert "version 2" in details
    assert heard == [2]
    assert usage.counts() == {}
    assert dispatch.in_flight.parked == 0


async def test_a_simulation_that_is_not_ready_keeps_its_calls_waiting(
    dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """Its version's calls go in when it is ready; the current object's are not held up."""
    current, future = kinds("v1"), Counter()
    dispatch.show(chain(current, future, current=1, ready=False))
    address = await serve(dispatch)
    call: Any = connect(address, 2).unary_unary("/toy.Kinds/Twice")
    waiting = call(b"21")
    await until(lambda: dispatch.in_flight.parked == 1)
    assert await unary(connect(address, 1)) == "v1:21"
    dispatch.show(chain(current, future, current=1))
    assert await waiting == b"42"


async def test_calls_before_the_first_chain_wait_for_it(
    dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """A server may listen before its object is there."""
    address = await serve(dispatch)
    calls: list[Any] = [
        connect(address, version).unary_unary("/toy.Kinds/Unary")(b"21")  # type: ignore[arg-type]
        for version in (None, 1)
    ]
    await until(lambda: dispatch.in_flight.parked == 2)
    dispatch.show(chain(kinds("v1"), current=1))
    assert [await call for call in calls] == [b"v1:21", b"v1:21"]


async def test_a_callers_own_metadata_reaches_the_object_with_the_label(
    dispatch: Dispatch, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """Of any form, and it is not changed; a label among it gives way to the channel's own."""

    class Showing(Counter):
        async def twice(self, request: int, context: Any) -> int:
            seen.append([tuple(pair) for pair in context.invocation_metadata() if pair[0] != "user-agent"])
            return request

    seen: list[list[tuple[str, Any]]] = []
    dispatch.show(chain(Showing(), current=1))
    channel = connect(await serve(dispatch), 1, newest=4, node="n1")
    own = grpc.aio.Metadata(("a", "1"), ("b-bin", b"\x00"), ("segue-label", "1/1"))
    before = list(own)
    label = [("segue-label", "1/4"), ("segue-node", "n1")]
    for metadata in (own, tuple(own), None, ()):
        await unary(channel, metadata=metadata)
    assert list(own) == before
    assert seen == [[("a", "1"), ("b-bin", b"\x00"), *label]] * 2 + [label] * 2
