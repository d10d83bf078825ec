"""Simulations come and go while calls are inside, and no call notices."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest

from segue import RefusalReason, refusal_of
from segue.author import FutureSimulation, PastSimulation, observes
from segue.layer.chain import Link
from segue.layer.grpc_live_chain import LiveChain, Maker
from segue.layer.grpc_server import Dispatch
from segue.model.ids import Version

Serve = Callable[[Dispatch], Awaitable[str]]
Connect = Callable[..., grpc.aio.Channel]


class Echo:
    """Answers with its tag; a request of "wait" waits until it is let go."""

    def __init__(self, tag: str, log: list[str]) -> None:
        self.tag = tag
        self.log = log
        self.go_on = asyncio.Event()

    def register(self, server: Any) -> None:
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            "Say": grpc.unary_unary_rpc_method_handler(self.Say)
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("toy.Echo", handlers),))

    async def Say(self, request: bytes, context: Any) -> bytes:  # noqa: N802
        if request == b"wait":
            await self.go_on.wait()
        return f"{self.tag}:".encode() + request


class Older(Echo, PastSimulation):
    """A past simulation that answers by itself, and says when it starts and stops."""

    def __init__(self, tag: str, log: list[str], delegate: Any) -> None:
        Echo.__init__(self, tag, log)
        self.delegate = delegate

    async def start(self) -> None:
        self.log.append(f"start {self.tag}")

    async def stop(self) -> None:
        self.log.append(f"stop {self.tag}")


class Newer(Echo, FutureSimulation):
    """The same of a newer version."""

    __init__ = Older.__init__
    start = Older.start
    stop = Older.stop


class Watching(Newer):
    """Observes."""

    @observes("Say")
    async def seen(self, request: bytes, reply: bytes, context: Any) -> None:
        self.log.append(f"seen {request.decode()}")


@pytest.fixture
def log() -> list[str]:
    return []


@pytest.fixture
def live(dispatch: Dispatch) -> LiveChain:
    return LiveChain(dispatch)


def maker(version: int, kind: Any, log: list[str], since: int | None = None) -> Maker:
    def make(delegate: Any) -> Any:
        return kind(f"v{version}", log, delegate)

    return Maker(make=make, version=Version(version), since=Version(since or version))


def current(version: int, log: list[str]) -> Link:
    return Link(version=Version(version), role="current", instance=Echo(f"v{version}", log))


async def say(channel: Any, text: str = "a") -> str:
    call: Any = channel.unary_unary("/toy.Echo/Say")(text.encode())
    return (await call).decode()  # type: ignore[no-any-return]


async def test_started_from_the_object_outwards_and_stopped_inwards(
    live: LiveChain, log: list[str], dispatch: Dispatch, serve: Serve, connect: Connect
) -> None:
    """Nobody delegates to what has not started, or has been stopped."""
    await live.start(current(3, log), [maker(2, Older, log), maker(1, Older, log)])
    await live.install(maker(4, Newer, log))
    await live.install(maker(5, Newer, log))
    assert live.versions == [1, 2, 3, 4, 5]
    address = await serve(dispatch)
    assert [await say(connect(address, version)) for version in live.versions] == [f"v{n}:a" for n in range(1, 6)]
    assert log == ["start v2", "start v1", "start v4", "start v5"]
    log.clear()
    await live.stop()
    assert log in (["stop v1", "stop v5", "stop v2", "stop v4"], ["stop v5", "stop v1", "stop v4", "stop v2"])


async def test_a_past_simulation_that_does_not_start_takes_the_others_with_it(live: LiveChain, log: list[str]) -> None:
    """Nothing is shown, and what had started is stopped."""

    class Faulty(Older):
        async def start(self) -> None:
            raise OSError("its disk is full")

    with pytest.raises(OSError, match="disk is full"):
        await live.start(current(3, log), [maker(2, Older, log), maker(1, Faulty, log)])
    assert log == ["start v2", "stop v1", "stop v2"]
    assert live.versions == []


async def test_a_test_that_fails_stops_the_simulations(live: LiveChain, log: list[str]) -> None:
    """The object's test of itself comes when all have started, and before the first call."""

    async def fail() -> None:
        log.append("test")
        raise ValueError("not fit")

    with pytest.raises(ValueError, match="not fit"):
        await live.start(current(2, log), [maker(1, Older, log)], fail)
    assert log == ["start v1", "test", "stop v1"]


async def test_a_simulation_comes_while_calls_are_inside(
    live: LiveChain, log: list[str], dispatch: Dispatch, serve: Serve, connect: Connect, until: Any
) -> None:
    """One that observes starts when they have ended and it has been told of them; they notice nothing."""
    object_ = current(1, log)
    await live.start(object_, [])
    channel = connect(await serve(dispatch), 1)
    async with asyncio.TaskGroup() as group:
        inside = group.create_task(say(channel, "wait"))
        await until(lambda: dispatch.in_flight.clients == 1)
        installing = group.create_task(live.install(maker(2, Watching, log)))
        await asyncio.sleep(0)
        assert await say(channel, "b") == "v1:b"
        assert log == ["seen b"]
        assert not installing.done()
        object_.instance.go_on.set()  # type: ignore[attr-defined]
    assert inside.result() == "v1:wait"
    assert log == ["seen b", "seen wait", "start v2"]


async def test_one_without_hooks_waits_for_nobody(
    live: LiveChain, log: list[str], dispatch: Dispatch, serve: Serve, connect: Connect, until: Any
) -> None:
    """It has nothing to be told, so it answers at once."""
    object_ = current(1, log)
    await live.start(object_, [])
    address = await serve(dispatch)
    async with asyncio.TaskGroup() as group:
        group.create_task(say(connect(address, 1), "wait"))
        await until(lambda: dispatch.in_flight.clients == 1)
        await live.install(maker(2, Newer, log))
        assert await say(connect(address, 2)) == "v2:a"
        object_.instance.go_on.set()  # type: ignore[attr-defined]


async def test_a_simulation_that_does_not_start_leaves_the_chain_as_it_was(
    live: LiveChain, log: list[str], dispatch: Dispatch, serve: Serve, connect: Connect
) -> None:
    """The node goes on serving what it served."""

    class Faulty(Newer):
        async def start(self) -> None:
            raise ValueError("cannot")

    await live.start(current(1, log), [])
    await live.install(maker(2, Newer, log))
    with pytest.raises(ValueError, match="cannot"):
        await live.install(maker(3, Faulty, log))
    assert live.versions == [1, 2]
    assert log == ["start v2", "stop v3"]
    address = await serve(dispatch)
    assert [await say(connect(address, version)) for version in (1, 2)] == ["v1:a", "v2:a"]


async def test_carrying_a_version_is_answering_it(
    live: LiveChain, log: list[str], dispatch: Dispatch, serve: Serve, connect: Connect
) -> None:
    """The newest object answers the next version, and what comes after stands on it."""
    await live.start(current(1, log), [])
    live.carry(Version(2))
    await live.install(maker(3, Newer, log))
    live.carry(Version(4))
    assert live.versions == [1, 2, 3, 4]
    address = await serve(dispatch)
    assert [await say(connect(address, version)) for version in live.versions] == ["v1:a", "v1:a", "v3:a", "v3:a"]


async def test_a_retired_version_ends_without_harm(
    live: LiveChain, log: list[str], dispatch: Dispatch, serve: Serve, connect: Connect, until: Any
) -> None:
    """Calls that are inside its simulation end first; those that come are told that it has been retired."""
    made: list[Any] = []

    class Kept(Older):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

    await live.start(current(4, log), [maker(3, Kept, log, since=2), maker(1, Kept, log)])
    address = await serve(dispatch)
    channel = connect(address, 1)
    async with asyncio.TaskGroup() as group:
        inside = group.create_task(say(channel, "wait"))
        await until(lambda: dispatch.in_flight.clients == 1)
        with pytest.raises(TimeoutError, match="calls that came before version 3 was the oldest are still inside"):
            await live.retire(Version(3), 0.01)
        retiring = group.create_task(live.retire(Version(3), 10))
        await until(lambda: live.versions == [3, 4])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await say(connect(address, 2))
        refusal = refusal_of(caught.value)
        assert refusal is not None
        assert refusal.reason is RefusalReason.RETIRED_VERSION
        assert not retiring.done()
        assert "stop v1" not in log
        made[1].go_on.set()
    assert inside.result() == "v1:wait"
    assert log[-1] == "stop v1"
    assert await say(connect(address, 3)) == "v3:a"


async def test_numbers_that_the_object_carries_are_retired(
    live: LiveChain, log: list[str], dispatch: Dispatch, serve: Serve, connect: Connect
) -> None:
    """All but the newest, and the object goes on with those that are left."""
    await live.start(replace(current(3, log), since=Version(1)), [])
    address = await serve(dispatch)
    await live.retire(Version(2), 10)
    assert live.versions == [2, 3]
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await say(connect(address, Version(1)))
    refusal = refusal_of(caught.value)
    assert refusal is not None
    assert refusal.reason is RefusalReason.RETIRED_VERSION
    await live.retire(Version(9), 10)
    assert live.versions == [3]
    assert await say(connect(address, Version(3))) == "v3:a"


async def test_a_stream_of_the_objects_own_version_keeps_no_older_one(
    live: LiveChain, log: list[str], dispatch: Dispatch, serve: Serve, connect: Connect, kinds: Any
) -> None:
    """Clients that watch something do so for days; to quiesce, the node ends them nevertheless."""
    object_ = Link(version=Version(2), role="current", instance=kinds("v2"))
    await live.start(object_, [maker(1, Older, log)])
    channel: Any = connect(await serve(dispatch), 2)
    watching = channel.unary_stream("/toy.Kinds/Down")(b"hang")
    assert await watching.read() == b"v2:h"
    await live.retire(Version(2), 10)
    assert log[-1] == "stop v1"
    await dispatch.quiesce(10)
    assert object_.instance.closed.is_set()  # type: ignore[attr-defined]
