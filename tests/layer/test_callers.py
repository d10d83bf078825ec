"""Calls are counted by who made them: the caller's own name, else the node's id, else the host; however they came."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from segue.layer.chain import Chain
from segue.layer.grpc_channel import labelled_channel
from segue.layer.grpc_listener import Listener, listen_for_relays, successor_channel
from segue.layer.grpc_server import Dispatch
from segue.layer.label import MalformedLabelError, Newest
from segue.layer.usage import Usage, host_of
from segue.model.ids import Version
from segue.model.usage import OTHERS

Serve = Callable[[Dispatch], Awaitable[str]]
Connect = Callable[..., grpc.aio.Channel]
MakeChain = Callable[..., Chain]
Until = Callable[[Callable[[], bool]], Awaitable[None]]
#: Has all calls of the first answered by the second, over a Unix socket as between two processes of a node.
Forward = Callable[[Dispatch, Dispatch], Awaitable[None]]
#: Awaited with an address, metadata and a method: makes one call.
Call = Callable[..., Awaitable[None]]

LABEL = ("segue-label", "1/1")
WHO: list[tuple[tuple[tuple[str, str], ...], str]] = [
    ((), "127.0.0.1"),
    ((LABEL,), "127.0.0.1"),
    ((LABEL, ("segue-caller", "billing")), "billing"),
    ((("segue-caller", "billing"),), "billing"),
    ((LABEL, ("segue-caller", "ipv4")), "ipv4"),
    ((LABEL, ("segue-node", "ipv6")), "ipv6"),
    ((LABEL, ("segue-node", "n7")), "n7"),
    ((("segue-node", "n7"),), "n7"),
    ((LABEL, ("segue-node", "n7"), ("segue-caller", "billing")), "billing"),
    ((LABEL, ("segue-peer", "ipv4:10.9.9.9:1")), "127.0.0.1"),
]


def callers(usage: Usage) -> dict[str, int]:
    """Return {caller: calls}."""
    return {key.caller: count for key, count in usage.counts().items()}


def another() -> Dispatch:
    return Dispatch(usage=Usage(), newest=Newest(Version(1)), on_newer=lambda _: None)


@pytest.fixture
def call(connect: Connect) -> Call:
    async def make(address: str, *metadata: tuple[str, str], method: str = "Unary") -> None:
        channel: Any = connect(address)
        if method == "Unary":
            await channel.unary_unary("/toy.Kinds/Unary")(b"abc", metadata=metadata)
        else:
            async for _ in channel.unary_stream(f"/toy.Kinds/{method}")(b"abc", metadata=metadata):
                pass

    return make


@pytest.fixture
async def forward(tmp_path: Path) -> AsyncIterator[Forward]:
    listeners: list[Listener] = []
    channels: list[grpc.aio.Channel] = []

    async def connected(front: Dispatch, back: Dispatch) -> None:
        socket = tmp_path / f"{len(channels)}.peer"
        listeners.append(await listen_for_relays(back, socket))
        channels.append(successor_channel(socket))
        front.forward(channels[-1])

    yield connected
    for channel in channels:
        await channel.close()
    for listener in listeners:
        await listener.stop(0)


@pytest.mark.parametrize(("metadata", "caller"), WHO)
@pytest.mark.parametrize("method", ["Unary", "Down"])
@pytest.mark.parametrize("hops", [0, 1, 2])
async def test_a_call_that_goes_in_at_once(
    metadata: tuple[tuple[str, str], ...],
    caller: str,
    method: str,
    hops: int,
    dispatch: Dispatch,
    usage: Usage,
    serve: Serve,
    call: Call,
    chain: MakeChain,
    kinds: Any,
    until: Until,
    forward: Forward,
) -> None:
    """Directly, or through processes that were replaced. What a client writes into `segue-peer` is nothing."""
    dispatch.show(chain(kinds("v1"), current=1))
    front = dispatch
    for _ in range(hops):
        back, front = front, another()
        await forward(front, back)
    await call(await serve(front), *metadata, method=method)
    await until(lambda: dispatch.in_flight.clients + dispatch.in_flight.nodes == 0)
    assert callers(usage) == {caller: 1}


@pytest.mark.parametrize(("metadata", "caller"), WHO)
@pytest.mark.parametrize("method", ["Unary", "Down"])
@pytest.mark.parametrize("forwarded", [False, True])
async def test_a_call_that_waited(
    metadata: tuple[tuple[str, str], ...],
    caller: str,
    method: str,
    forwarded: bool,
    dispatch: Dispatch,
    usage: Usage,
    serve: Serve,
    call: Call,
    chain: MakeChain,
    kinds: Any,
    until: Until,
    forward: Forward,
) -> None:
    """And is then answered here, or by the process that came instead."""
    front = another() if forwarded else dispatch
    address = await serve(front)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(call(address, *metadata, method=method))  # type: ignore[arg-type]
        await until(lambda: front.in_flight.parked == 1)
        dispatch.show(chain(kinds("v1"), current=1))
        if forwarded:
            await forward(front, dispatch)
    await until(lambda: dispatch.in_flight.clients + dispatch.in_flight.nodes == 0)
    assert callers(usage) == {caller: 1}


async def test_a_channel_says_its_caller(
    dispatch: Dispatch, usage: Usage, serve: Serve, chain: MakeChain, kinds: Any, until: Until
) -> None:
    """Also if the caller passes on metadata of another's call."""
    dispatch.show(chain(kinds("v1"), current=1))
    async with labelled_channel(await serve(dispatch), version=1, caller="billing") as channel:
        unary: Any = channel.unary_unary("/toy.Kinds/Unary")
        await unary(b"abc")
        await unary(b"abc", metadata=(("segue-caller", "stock"), ("segue-peer", "ipv4:10.9.9.9:1"), ("own", "1")))
    await until(lambda: dispatch.in_flight.clients == 0)
    assert callers(usage) == {"billing": 2}


@pytest.mark.parametrize("name", ["", "no name", "-x", "a" * 64, "(others)", "::1", "é"])
def test_a_channel_takes_no_malformed_name(name: str) -> None:
    with pytest.raises(MalformedLabelError, match=r"segue-caller .*: use 1 to 63 letters"):
        labelled_channel("127.0.0.1:1", version=1, caller=name)


@pytest.mark.parametrize("key", ["segue-caller", "segue-node"])
@pytest.mark.parametrize("label", [(), (LABEL,)])
async def test_a_malformed_name_is_refused(
    key: str,
    label: tuple[tuple[str, str], ...],
    dispatch: Dispatch,
    usage: Usage,
    serve: Serve,
    call: Call,
    chain: MakeChain,
    kinds: Any,
) -> None:
    """With a label and without: what is counted goes to the upgrade server."""
    dispatch.show(chain(kinds("v1"), current=1))
    with pytest.raises(grpc.aio.AioRpcError, match=f"{key} 'no name': use") as caught:
        await call(await serve(dispatch), *label, (key, "no name"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert usage.counts() == {}


@pytest.mark.parametrize(
    ("who", "host"),
    [
        ("ipv4:10.0.0.7:53412", "10.0.0.7"),
        ("ipv6:%5B::1%5D:53412", "::1"),
        ("ipv6:[::1]:53412", "::1"),
        ("ipv6:%5Bfe80::1%25eth0%5D:1", "fe80::1%eth0"),
        ("unix:", "unix"),
        ("unix:/run/x.sock", "unix"),
        ("billing", "billing"),
    ],
)
def test_the_host_of_a_peer(who: str, host: str) -> None:
    assert host_of(who) == host


def test_so_many_are_counted_by_name_and_the_others_together() -> None:
    """Those that were known stay known, and ports of one host are one caller."""
    usage = Usage(callers_limit=2)
    get, put = (usage.tally(Version(1), method, "current", False, Version(1)) for method in ("/s/Get", "/s/Put"))
    for port in range(10_000):
        get[f"ipv4:10.0.0.1:{port}"]["OK"] += 1
    for who in ("billing", "stock", "reports", "billing", "ipv4:10.0.0.2:1"):
        get[who]["OK"] += 1
    for who in ("reports", "billing", "ipv4:10.0.0.1:9"):
        put[who]["OK"] += 1
    counts = {(key.method, key.caller): count for key, count in usage.counts().items()}
    assert counts == {
        ("/s/Get", "10.0.0.1"): 10_000,
        ("/s/Get", "billing"): 2,
        ("/s/Get", OTHERS): 3,
        ("/s/Put", OTHERS): 1,
        ("/s/Put", "billing"): 1,
        ("/s/Put", "10.0.0.1"): 1,
    }
    assert len(get) < 5000


def test_the_nodes_version_is_the_one_at_the_time() -> None:
    """A process may go to the next version as it is: what it answered before stays the version's before."""
    usage = Usage()
    for node_version in (1, 2):
        usage.tally(Version(1), "/s/Get", "past", False, Version(node_version))["billing"]["OK"] += 1
    assert sorted(key.node_version for key in usage.counts()) == [1, 2]
