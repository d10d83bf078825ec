# ruff: noqa: N802 - gRPC names its methods in CamelCase
"""The layer alone: an ordinary `grpc.aio` server answers other versions than its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

import segue
from segue.errors import OperatorError, ReleaseError

Serve = Callable[..., Awaitable[tuple[str, segue.Versions]]]
Connect = Callable[..., grpc.aio.Channel]

#: A service that is the server's own.
HEALTH = "toy.Health"


class Health:
    async def Check(self, request: bytes, context: Any) -> bytes:
        return b"healthy"

    def register(self, server: Any) -> None:
        handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self.Check)
        server.add_registered_method_handlers(HEALTH, {"Check": handler})


@pytest.fixture
def pair(generated: tuple[Any, Any]) -> Any:
    """A servicer, and simulations over it: each puts its version in front of what its delegate says."""
    messages, services = generated

    class Talk(services.TalkServicer):  # type: ignore[misc, name-defined]
        async def Say(self, request: Any, context: Any) -> Any:
            if request.text == "abort":
                await context.abort(grpc.StatusCode.NOT_FOUND, "nobody said that", (("why", "silence"),))
            if request.text == "fail":
                raise ValueError("secret")
            return messages.Text(text=f"o:{request.text}")

        async def Hear(self, request: Any, context: Any) -> Any:
            for letter in request.text:
                yield messages.Text(text=f"o:{letter}")

        async def Tell(self, requests: Any, context: Any) -> Any:
            return messages.Text(text="o:" + "".join([request.text async for request in requests]))

        async def Chat(self, requests: Any, context: Any) -> Any:
            async for request in requests:
                yield messages.Text(text=f"o:{request.text}")

    class Plain(services.TalkServicer):  # type: ignore[misc, name-defined]
        def Say(self, request: Any, context: Any) -> Any:
            return messages.Text(text=f"p:{request.text}")

        def Hear(self, request: Any, context: Any) -> Any:
            for letter in request.text:
                yield messages.Text(text=f"p:{letter}")

        def Tell(self, requests: Any, context: Any) -> Any:
            return messages.Text(text="p:" + "".join(request.text for request in requests))

        def Chat(self, requests: Any, context: Any) -> Any:
            for request in requests:
                yield messages.Text(text=f"p:{request.text}")

    class Simulated(services.TalkServicer):  # type: ignore[misc, name-defined]
        node: segue.Node
        delegate: Any

        def register(self, server: Any) -> None:
            services.add_TalkServicer_to_server(self, server)

        async def Say(self, request: Any, context: Any) -> Any:
            if request.text == "disallowed":
                raise segue.Disallowed("that cannot be said")
            reply = await self.delegate.Say(request, context)
            return messages.Text(text=f"{self.node.version}:{reply.text}")

        async def Hear(self, request: Any, context: Any) -> Any:
            async for reply in self.delegate.Hear(request, context):
                yield messages.Text(text=f"{self.node.version}:{reply.text}")

        async def Tell(self, requests: Any, context: Any) -> Any:
            reply = await self.delegate.Tell(requests, context)
            return messages.Text(text=f"{self.node.version}:{reply.text}")

        async def Chat(self, requests: Any, context: Any) -> Any:
            async for reply in self.delegate.Chat(requests, context):
                yield messages.Text(text=f"{self.node.version}:{reply.text}")

    class Past(segue.PastSimulation, Simulated):
        pass

    class Future(segue.FutureSimulation, Simulated):
        pass

    Talk.plain, Talk.past, Talk.future = Plain, Past, Future
    return Talk


@pytest.fixture
async def serve(generated: tuple[Any, Any]) -> AsyncIterator[Serve]:
    """Start versions with a servicer on a server of their own, and return its address."""
    _, services = generated
    stops: list[Callable[[], Awaitable[None]]] = []

    async def start(servicer: Any, beside: Any = None, **given: Any) -> tuple[str, segue.Versions]:
        server = grpc.aio.server()
        versions = segue.Versions(server, **given)
        services.add_TalkServicer_to_server(servicer, versions)
        if beside is not None:
            beside(server)
        await versions.start()
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()

        async def stop() -> None:
            await server.stop(None)
            await versions.stop()

        stops.append(stop)
        return f"127.0.0.1:{port}", versions

    yield start
    for stop in stops:
        await stop()


@pytest.fixture
def talk_to(generated: tuple[Any, Any], connect: Connect) -> Callable[..., Awaitable[list[str]]]:
    """Make a call of each kind, and return what was heard."""
    messages, services = generated

    async def call(address: str, version: int | None) -> list[str]:
        stub = services.TalkStub(connect(address, version))
        texts = [messages.Text(text=letter) for letter in "ab"]
        said = await stub.Say(messages.Text(text="a"))
        heard = [reply async for reply in stub.Hear(messages.Text(text="a"))]
        told = await stub.Tell(iter(texts))
        chatted = [reply async for reply in stub.Chat(iter(texts))]
        return [reply.text for reply in (said, *heard, told, *chatted)]

    return call


@pytest.mark.parametrize("plain", [False, True])
async def test_each_version_is_answered(serve: Any, pair: Any, talk_to: Any, plain: bool) -> None:
    """Two past simulations and two future ones, each over its neighbour; unlabelled calls are the server's own."""
    servicer, tag = (pair.plain(), "p") if plain else (pair(), "o")
    address, versions = await serve(servicer, version=3, past=[pair.past] * 2, future=[pair.future] * 2)
    assert versions.answered == [1, 2, 3, 4, 5]
    for version, before in ((1, "1:2:"), (2, "2:"), (3, ""), (None, ""), (4, "4:"), (5, "5:4:")):
        expected = [f"{before}{tag}:{text}" for text in ("a", "a", "ab", "a", "b")]
        assert await talk_to(address, version) == expected


async def test_counts_tell_who_still_calls(serve: Any, pair: Any, talk_to: Any) -> None:
    """By version, method, and kind of object."""
    address, versions = await serve(pair(), version=2, past=[pair.past])
    await talk_to(address, 1)
    await talk_to(address, 2)
    assert {
        (key.caller_version, key.method.rpartition("/")[2], key.answered_by, key.outcome, count)
        for key, count in versions.counts().items()
    } == {(v, m, by, "OK", 1) for v, by in ((1, "past"), (2, "current")) for m in ("Say", "Hear", "Tell", "Chat")}


async def test_a_default_for_calls_without_a_label(serve: Any, pair: Any, talk_to: Any) -> None:
    """They are of the version that the team says."""
    address, _ = await serve(pair(), version=2, past=[pair.past], default=1)
    assert (await talk_to(address, None))[0] == "1:o:a"


@pytest.mark.parametrize("version", [None, 1, 2, 3])
async def test_other_services_are_the_servers_own(serve: Any, pair: Any, connect: Connect, version: int | None) -> None:
    """Whatever their callers' label says, even if it makes no sense, and whether or not `start` came."""

    def beside(server: Any) -> None:
        Health().register(server)
        reflection.enable_server_reflection(["toy.Health"], server)

    address, _ = await serve(pair(), beside, version=2, past=[pair.past])
    channel = connect(address, version)
    assert await asyncio.wait_for(_check(channel), 2) == b"healthy"
    asked = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    )
    assert [one.name for reply in [one async for one in asked] for one in reply.list_services_response.service] == [
        "toy.Health"
    ]
    bare = connect(address)
    call: Any = bare.unary_unary(f"/{HEALTH}/Check")
    assert await call(b"", metadata=(("segue-label", "nonsense"),)) == b"healthy"


async def _check(channel: Any) -> Any:
    return await channel.unary_unary(f"/{HEALTH}/Check")(b"")


async def test_a_version_that_nobody_knows_is_refused_at_once(
    serve: Any, pair: Any, generated: tuple[Any, Any], connect: Connect
) -> None:
    """Nobody installs anything here, so nothing is waited for; the refusal says which versions there are."""
    messages, services = generated
    address, _ = await serve(pair(), version=2, past=[pair.past])
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(services.TalkStub(connect(address, 3)).Say(messages.Text(text="a"), timeout=60), 2)
    refusal = segue.refusal_of(caught.value)
    assert refusal is not None
    assert (refusal.reason, refusal.oldest_version, refusal.newest_version) == ("UNKNOWN_VERSION", 1, 2)
    assert "version 3 is not known here: call with version 1, up to 2" in refusal.message


async def test_before_the_start_calls_are_refused(pair: Any, generated: tuple[Any, Any], connect: Connect) -> None:
    """Those of the versions' services, with a status that says to try again; others are answered."""
    messages, services = generated
    server = grpc.aio.server()
    versions = segue.Versions(server, version=2, past=[pair.past])
    services.add_TalkServicer_to_server(pair(), versions)
    Health().register(server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        channel = connect(address, 1)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await services.TalkStub(channel).Say(messages.Text(text="a"))
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        refusal = segue.refusal_of(caught.value)
        assert refusal is not None
        assert refusal.reason == "NODE_NOT_READY"
        assert await _check(channel) == b"healthy"
        await versions.start()
        assert (await services.TalkStub(channel).Say(messages.Text(text="a"))).text == "1:o:a"
    finally:
        await server.stop(None)
        await versions.stop()


async def test_several_services_on_one_server(pair: Any, generated: tuple[Any, Any], connect: Connect) -> None:
    """A simulation's delegate has the methods and attributes of all servicers that were added."""
    messages, services = generated

    class Past(pair.past):  # type: ignore[misc]
        async def Say(self, request: Any, context: Any) -> Any:
            healthy = await self.delegate.Check(b"", context)
            return messages.Text(text=f"{healthy.decode()}, says the {self.delegate.shop}")

    servicer = pair()
    servicer.shop = "corner shop"
    server = grpc.aio.server()
    versions = segue.Versions(server, version=2, past=[Past])
    services.add_TalkServicer_to_server(servicer, versions)
    Health().register(versions)
    await versions.start()
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        channel = connect(address, 1)
        said = await services.TalkStub(channel).Say(messages.Text())
        assert said.text == "healthy, says the corner shop"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await _check(channel)  # the past simulation does not have it
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert await _check(connect(address, 2)) == b"healthy"
    finally:
        await server.stop(None)
        await versions.stop()


async def test_services_with_versions_of_their_own(pair: Any, generated: tuple[Any, Any], connect: Connect) -> None:
    """Each `Versions` of a server answers its own services, and leaves the others' alone."""
    messages, services = generated

    class OlderHealth(segue.PastSimulation, Health):
        async def Check(self, request: bytes, context: Any) -> bytes:
            checked: bytes = await self.delegate.Check(request, context)
            return b"was " + checked

    server = grpc.aio.server()
    talks = segue.Versions(server, version=2, past=[pair.past])
    services.add_TalkServicer_to_server(pair(), talks)
    healths = segue.Versions(server, version=4, past=[OlderHealth])
    Health().register(healths)
    await talks.start()
    await healths.start()
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        assert (await services.TalkStub(connect(address, 1)).Say(messages.Text(text="a"))).text == "1:o:a"
        assert await _check(connect(address, 3)) == b"was healthy"
        assert await _check(connect(address, 4)) == b"healthy"
    finally:
        await server.stop(None)
        await talks.stop()
        await healths.stop()


async def test_an_attribute_that_two_servicers_have(pair: Any, generated: tuple[Any, Any]) -> None:
    """Which one a simulation means cannot be told."""
    versions = segue.Versions(grpc.aio.server(), version=1)
    talk, health = pair(), Health()
    talk.store = health.store = "both have one"  # type: ignore[attr-defined]
    generated[1].add_TalkServicer_to_server(talk, versions)
    health.register(versions)
    services = versions._alone.services
    with pytest.raises(AttributeError, match="no servicer of this server has there"):
        _ = services.there
    with pytest.raises(AttributeError, match="__doc_of_both__"):
        _ = services.__doc_of_both__
    with pytest.raises(AttributeError, match=r"store is of Health and .*Talk: give each of these services versions"):
        _ = services.store


async def test_observers_and_interceptors(serve: Any, pair: Any, generated: tuple[Any, Any], connect: Connect) -> None:
    """They see the server's own calls, and those of other simulations."""
    messages, services = generated
    log: list[str] = []

    class Watching(pair.future):  # type: ignore[misc]
        @segue.observes("Say")
        async def seen(self, request: Any, reply: Any, context: Any) -> None:
            log.append(reply.text)

        @segue.intercepts("Say")
        async def changed(self, request: Any, context: Any, proceed: Any) -> Any:
            reply = await proceed(messages.Text(text=request.text.upper()))
            return messages.Text(text=f"{reply.text}!")

    address, _ = await serve(pair(), version=2, past=[pair.past], future=[Watching])
    for version, expected in ((1, "1:o:A!"), (2, "o:B!"), (3, "3:o:c")):
        text = messages.Text(text="_abc"[version])
        assert (await services.TalkStub(connect(address, version)).Say(text)).text == expected
    assert log == ["o:A", "o:B"]


async def test_statuses(serve: Any, pair: Any, generated: tuple[Any, Any], connect: Connect) -> None:
    """What an object aborts with, what is disallowed and what failed come as they do on a node."""
    messages, services = generated
    address, _ = await serve(pair(), version=2, past=[pair.past])
    stub = services.TalkStub(connect(address, 1))

    async def error(text: str) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Say(messages.Text(text=text))
        return caught.value

    aborted = await error("abort")
    assert (aborted.code(), aborted.details()) == (grpc.StatusCode.NOT_FOUND, "nobody said that")
    assert ("why", "silence") in tuple(aborted.trailing_metadata())
    for text, reason in (("disallowed", "DISALLOWED"), ("fail", "SIMULATION_FAILED")):
        refusal = segue.refusal_of(await error(text))
        assert refusal is not None
        assert refusal.reason == reason
        assert refusal.node is None
        assert "secret" not in refusal.message


async def test_what_simulations_keep(pair: Any, serve: Any, tmp_path: Path) -> None:
    """Each has a folder of its own, by its version and what it is, which outlives it if the team says where."""
    seen: list[segue.Node] = []

    class Keeping:
        async def start(self: Any) -> None:
            seen.append(self.node)
            (self.state / "kept").write_text(str(self.node.version))

    class Past(Keeping, pair.past):  # type: ignore[misc]
        pass

    class Future(Keeping, pair.future):  # type: ignore[misc]
        pass

    _, versions = await serve(pair(), version=2, past=[Past], future=[Future], state=tmp_path)
    await versions.stop()
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("kept")} == {
        "past/1/kept",
        "future/3/kept",
    }
    assert {(node.system, node.class_name, node.id, node.address) for node in seen} == {("", "", "", "")}
    assert [dict(node.attributes) for node in seen] == [{}, {}]
    seen[0].report(free_bytes=1.0)  # goes nowhere


async def test_without_a_folder_nothing_is_left(pair: Any, serve: Any) -> None:
    """A simulation may write all the same."""
    folders: list[Path] = []

    class Past(pair.past):  # type: ignore[misc]
        async def start(self) -> None:
            (self.state / "kept").write_text("a")
            folders.append(self.state)

    _, versions = await serve(pair(), version=2, past=[Past])
    assert folders[0].is_dir()
    await versions.stop()
    assert not folders[0].exists()


async def test_a_simulations_channel_has_its_label_and_the_options(
    pair: Any, serve: Any, generated: tuple[Any, Any]
) -> None:
    """It calls other servers in its own version; the team's options hold for its channels."""
    messages, services = generated

    class Asking(pair.past):  # type: ignore[misc]
        async def ask(self, address: str, text: str) -> Any:
            async with self.node.channel(address) as channel:
                return await services.TalkStub(channel).Say(messages.Text(text=text))

    made: list[Any] = []

    def make(node: segue.Node, delegate: Any) -> Any:
        made.append(Asking(node, delegate))
        return made[0]

    there, _ = await serve(pair(), version=2, past=[pair.past])
    options = (("grpc.max_receive_message_length", 100),)
    await serve(pair(), version=2, past=[make], channel_options=options)
    assert (await made[0].ask(there, "a")).text == "1:o:a"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await made[0].ask(there, "a" * 200)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_version_is_retired(serve: Any, pair: Any, talk_to: Any) -> None:
    """Its simulation is stopped, its callers are told, and others notice nothing."""
    stopped: list[int] = []

    class Past(pair.past):  # type: ignore[misc]
        async def stop(self) -> None:
            stopped.append(self.node.version)

    address, versions = await serve(pair(), version=3, past=[Past, Past])
    assert (await talk_to(address, 1))[0] == "1:2:o:a"
    await versions.retire(2)
    assert stopped == [1]
    assert versions.answered == [2, 3]
    assert (await talk_to(address, 2))[0] == "2:o:a"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await talk_to(address, 1)
    refusal = segue.refusal_of(caught.value)
    assert refusal is not None
    assert refusal.reason == "RETIRED_VERSION"
    await versions.retire(2)
    await versions.stop()
    assert stopped == [1, 2]


@pytest.mark.parametrize("kind", ["past", "future"])
@pytest.mark.parametrize("at", ["make", "start", "register", "observe"])
async def test_a_simulation_that_does_not_start(pair: Any, generated: tuple[Any, Any], kind: str, at: str) -> None:
    """The error says which one and why; the others are stopped, and `start` may be called again."""
    log: list[str] = []
    fails = [True]

    class Good(pair.past):  # type: ignore[misc]
        async def start(self) -> None:
            log.append("start")

        async def stop(self) -> None:
            log.append("stop")

    class Bad(getattr(pair, kind)):  # type: ignore[misc]
        def __init__(self, node: segue.Node, delegate: Any) -> None:
            super().__init__(node, delegate)
            if at == "make" and fails:
                raise OSError("its disk is full")

        def register(self, server: Any) -> None:
            if at == "register" and fails:
                raise OSError("its disk is full")
            super().register(server)

        async def start(self) -> None:
            if at == "start" and fails:
                raise OSError("its disk is full")

    if at == "observe":

        async def seen(self: Any, request: Any, reply: Any, context: Any) -> None:
            """Never called."""

        Bad.seen = segue.observes("Missing")(seen)

    past, future = ([Good, Bad], []) if kind == "past" else ([Good], [Bad])
    versions = segue.Versions(grpc.aio.server(), version=3, past=past, future=future)
    generated[1].add_TalkServicer_to_server(pair(), versions)
    message = (
        "no such method: use one of"
        if at == "observe"
        else f"Bad.*of version {1 if kind == 'past' else 4}.*disk is full"
    )
    with pytest.raises(ReleaseError, match=message):
        await versions.start()
    assert log == ["start", "stop"]
    assert versions.answered == []
    if at != "observe":
        fails.clear()
        await versions.start()
        assert len(versions.answered) == 3
        await versions.stop()


async def test_what_is_no_simulation(pair: Any, generated: tuple[Any, Any]) -> None:
    """It has no hooks and cannot be stopped, so it is not taken."""
    versions = segue.Versions(grpc.aio.server(), version=2, past=[lambda node, delegate: Health()])  # type: ignore[list-item, return-value]
    generated[1].add_TalkServicer_to_server(pair(), versions)
    with pytest.raises(ReleaseError, match=r"derive it from segue\.PastSimulation"):
        await versions.start()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"version": 0}, "begin with 1"),
        ({"version": 2, "past": [None, None]}, "version 2 with 2 past simulations.*give at most 1"),
        ({"version": 2, "default": 3}, "default 3 .*: the versions here are 2 to 2"),
        ({"version": 2, "default": 1}, "default 1 .*: the versions here are 2 to 2"),
        ({"version": 2, "default": "newest"}, "default 'newest'"),
    ],
)
async def test_a_setting_that_makes_no_sense(given: Any, message: str) -> None:
    """Is told at once."""
    server: Any = _Server()
    for make in (segue.Versions, segue.SyncVersions):
        with pytest.raises(OperatorError, match=message):
            make(server, **given)


class _Server:
    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        raise AssertionError("nothing is added to a server before all is well")


async def test_start_and_stop_in_the_wrong_order(serve: Any, pair: Any) -> None:
    """Is said; to stop what has not started or has stopped is no fault."""
    versions = segue.Versions(grpc.aio.server(), version=1)
    with pytest.raises(OperatorError, match="version 1 has no service: call the generated"):
        await versions.start()
    with pytest.raises(OperatorError, match="start\\(\\) first"):
        await versions.retire(1)
    await versions.stop()
    _, started = await serve(pair(), version=1)
    with pytest.raises(OperatorError, match="start them once"):
        await started.start()
    await started.stop()
    await started.stop()


async def test_two_versions_are_retired_at_once(connect: Connect) -> None:
    """A simulation that is inside a call is not stopped by whoever retired another version before."""
    log: list[str] = []
    inside, go_on = {1: asyncio.Event(), 2: asyncio.Event()}, asyncio.Event()

    class Echo:
        def register(self, server: Any) -> None:
            handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(self.Say)
            server.add_registered_method_handlers("toy.Echo", {"Say": handler})

        async def Say(self, request: bytes, context: Any) -> bytes:
            return b"o"

    class Past(segue.PastSimulation, Echo):
        async def Say(self, request: bytes, context: Any) -> bytes:
            inside[self.node.version].set()
            await go_on.wait()
            log.append(f"answered {self.node.version}")
            return b"p"

        async def stop(self) -> None:
            log.append(f"stop {self.node.version}")

    server = grpc.aio.server()
    versions = segue.Versions(server, version=3, past=[Past, Past])
    Echo().register(versions)
    await versions.start()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    say: dict[int, Any] = {
        version: connect(f"127.0.0.1:{port}", version).unary_unary("/toy.Echo/Say") for version in (1, 2)
    }
    async with asyncio.TaskGroup() as group:
        first: Any = say[1](b"")
        await inside[1].wait()
        group.create_task(versions.retire(2))
        await asyncio.sleep(0)
        second: Any = say[2](b"")
        await inside[2].wait()
        group.create_task(versions.retire(3))
        await asyncio.sleep(0.05)
        first.cancel()
        await asyncio.sleep(0.05)
        go_on.set()
        assert await second == b"p"
    await server.stop(None)
    await versions.stop()
    assert log == ["stop 1", "answered 2", "stop 2"]
