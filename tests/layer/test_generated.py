"""Generated code registers with the collector and calls through the labelled channel, unchanged."""

from collections.abc import Awaitable, Callable
from threading import get_ident
from typing import Any

import grpc.aio
import pytest

from segue.errors import ReleaseError
from segue.layer.chain import Chain, Link
from segue.layer.grpc_channel import LabelledChannel, labelled_channel
from segue.layer.grpc_collector import Collector, methods_of
from segue.layer.grpc_refusal import RefusalReason, refusal_of
from segue.layer.grpc_server import Dispatch
from segue.layer.label import MalformedLabelError
from segue.layer.usage import Usage
from segue.model.ids import Version

Serve = Callable[[Dispatch], Awaitable[str]]
MakeChain = Callable[..., Chain]


@pytest.fixture
def talk(generated: tuple[Any, Any]) -> Any:
    """An object that answers all but `Forgotten`."""
    messages, services = generated

    class Talk(services.TalkServicer):  # type: ignore[misc, name-defined]
        def register(self, server: grpc.aio.Server) -> None:
            services.add_TalkServicer_to_server(self, server)

        async def Say(self, request: Any, context: Any) -> Any:  # noqa: N802
            return messages.Text(text=f"said {request.text}")

        async def Hear(self, request: Any, context: Any) -> Any:  # noqa: N802
            for letter in request.text:
                yield messages.Text(text=letter)

        async def Tell(self, requests: Any, context: Any) -> Any:  # noqa: N802
            return messages.Text(text="".join([request.text async for request in requests]))

        async def Chat(self, requests: Any, context: Any) -> Any:  # noqa: N802
            async for request in requests:
                yield messages.Text(text=request.text.upper())

    return Talk()


async def test_generated_stubs_and_servicers(
    talk: Any, generated: tuple[Any, Any], dispatch: Dispatch, usage: Usage, serve: Serve, chain: MakeChain
) -> None:
    """Each kind of call passes from a generated stub to a generated servicer, labelled and counted."""
    messages, services = generated
    texts = [messages.Text(text=letter) for letter in "ab"]
    dispatch.show(chain(talk, current=1))
    async with labelled_channel(await serve(dispatch), version=1) as channel:
        stub = services.TalkStub(channel)
        assert (await stub.Say(texts[0])).text == "said a"
        assert [reply.text async for reply in stub.Hear(messages.Text(text="xy"))] == ["x", "y"]
        assert (await stub.Tell(iter(texts))).text == "ab"
        assert [reply.text async for reply in stub.Chat(iter(texts))] == ["A", "B"]
    assert {key.method.rpartition("/")[2]: (key.caller_version, count) for key, count in usage.counts().items()} == {
        "Say": (1, 1),
        "Hear": (1, 1),
        "Tell": (1, 1),
        "Chat": (1, 1),
    }


async def test_a_method_that_the_author_left_out(
    talk: Any, generated: tuple[Any, Any], dispatch: Dispatch, serve: Serve, chain: MakeChain
) -> None:
    """It is unimplemented, and no reason to refuse the release."""
    messages, services = generated
    dispatch.show(chain(talk, current=1))
    async with labelled_channel(await serve(dispatch), version=1) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await services.TalkStub(channel).Forgotten(messages.Text())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    refusal = refusal_of(caught.value)
    assert refusal is not None
    assert (refusal.reason, refusal.caller_version) == (RefusalReason.NO_SUCH_METHOD, 1)


async def test_a_method_that_is_a_plain_function(
    talk: Any, generated: tuple[Any, Any], dispatch: Dispatch, serve: Serve, chain: MakeChain
) -> None:
    """It runs in a thread of its own."""
    messages, services = generated
    threads: list[int] = []

    class Blocking(type(talk)):  # type: ignore[misc]
        def Say(self, request: Any, context: Any) -> Any:  # noqa: N802
            threads.append(get_ident())
            return request

    dispatch.show(chain(Blocking(), current=1))
    async with labelled_channel(await serve(dispatch), version=1) as channel:
        said = await services.TalkStub(channel).Say(messages.Text(text="hello"))
    assert said.text == "hello"
    assert threads
    assert threads[0] != get_ident()


def test_both_ways_of_registering_name_the_same_methods(talk: Any) -> None:
    """Older generated code hands over generic handlers only."""

    class GenericOnly:
        def __init__(self) -> None:
            self.collector = Collector()

        def add_generic_rpc_handlers(self, handlers: Any) -> None:
            self.collector.add_generic_rpc_handlers(handlers)

        def add_registered_method_handlers(self, service: str, handlers: Any) -> None:
            """Is what older code does not call."""

    older = GenericOnly()
    talk.register(older)
    assert older.collector.methods.keys() == methods_of(_current(talk)).keys()


class _Opaque(grpc.GenericRpcHandler):
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> None:
        return None


class _RegistersOpaque:
    def register(self, server: grpc.aio.Server) -> None:
        server.add_generic_rpc_handlers((_Opaque(),))


class _RegistersPort:
    def register(self, server: grpc.aio.Server) -> None:
        server.add_insecure_port("127.0.0.1:0")


class _RegistersNothing:
    def register(self, server: grpc.aio.Server) -> None:
        """Forget to call the generated function."""


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        (object(), "object of version 1 has no register"),
        (_RegistersOpaque(), "whose methods cannot be listed"),
        (_RegistersPort(), "of _RegistersPort of version 1 failed with AttributeError.*add_insecure_port"),
        (_RegistersNothing(), "registers no method"),
    ],
)
def test_an_object_that_cannot_be_registered(instance: object, message: str) -> None:
    """The author is told what to change."""
    with pytest.raises(ReleaseError, match=message):
        methods_of(_current(instance))


def _current(instance: object) -> Link:
    return Link(version=Version(1), role="current", instance=instance)


async def test_a_labelled_channel_is_a_channel(dispatch: Dispatch, serve: Serve, chain: MakeChain, talk: Any) -> None:
    """What gRPC's own channel tells and does, it tells and does."""
    dispatch.show(chain(talk, current=1))
    channel = labelled_channel(await serve(dispatch), version=1, options=(("grpc.max_send_message_length", 1000),))
    assert isinstance(channel, grpc.aio.Channel)
    state = channel.get_state(try_to_connect=True)
    if state is not grpc.ChannelConnectivity.READY:
        await channel.wait_for_state_change(state)
    await channel.channel_ready()
    assert channel.get_state() is grpc.ChannelConnectivity.READY
    await channel.close(grace=1)
    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


@pytest.mark.parametrize("intercepted", [False, True])
async def test_a_channel_tells_what_the_process_has_learnt(
    intercepted: bool, talk: Any, generated: tuple[Any, Any], dispatch: Dispatch, serve: Serve, chain: MakeChain
) -> None:
    """Each call carries the label as it is then."""
    messages, services = generated
    labels = [(("segue-label", f"1/{newest}"),) for newest in (1, 2, 2, 3)]
    heard: list[str] = []

    class Hearing(type(talk)):  # type: ignore[misc]
        async def Say(self, request: Any, context: Any) -> Any:  # noqa: N802
            heard.extend(value for key, value in context.invocation_metadata() if key == "segue-label")
            return request

    dispatch.show(chain(Hearing(), current=1))
    below = grpc.aio.insecure_channel(await serve(dispatch))
    async with LabelledChannel(below, iter(labels).__next__, intercepted=intercepted) as channel:
        for _ in labels:
            await services.TalkStub(channel).Say(messages.Text())
    assert heard == ["1/1", "1/2", "1/2", "1/3"]


async def test_a_version_that_is_none_is_refused() -> None:
    """Before a channel is opened."""
    with pytest.raises(MalformedLabelError, match="0/0"):
        labelled_channel("127.0.0.1:1", version=0)
