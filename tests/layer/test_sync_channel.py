# ruff: noqa: N802 - gRPC names its methods in CamelCase
"""A labelled channel for threaded clients differs from gRPC's own by the label, and by nothing else."""

import threading
import time
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest

import segue
from segue.layer.label import MalformedLabelError


@pytest.fixture
def heard() -> list[tuple[tuple[str, str], ...]]:
    """The metadata of each call, ours and the test's."""
    return []


@pytest.fixture
def address(heard: list[Any], generated: tuple[Any, Any]) -> Iterator[str]:
    """A bare server, which says what it was called with."""
    messages, services = generated

    def note(context: Any) -> None:
        wanted = ("segue-", "mine")
        heard.append(tuple(tuple(pair) for pair in context.invocation_metadata() if pair[0].startswith(wanted)))

    class Talk(services.TalkServicer):  # type: ignore[misc, name-defined]
        def Say(self, request: Any, context: Any) -> Any:
            note(context)
            return request

        def Hear(self, request: Any, context: Any) -> Any:
            note(context)
            yield request

        def Tell(self, requests: Any, context: Any) -> Any:
            note(context)
            return messages.Text(text="".join(request.text for request in requests))

        def Chat(self, requests: Any, context: Any) -> Any:
            note(context)
            yield from requests

    pool = futures.ThreadPoolExecutor(2)
    server = grpc.server(pool)
    services.add_TalkServicer_to_server(Talk(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)
    pool.shutdown()


def test_each_way_of_calling_each_kind(address: str, heard: list[Any], generated: tuple[Any, Any]) -> None:
    """Generated stubs call through it, and each call has the label and the caller's own metadata."""
    messages, services = generated
    text = messages.Text(text="a")
    mine = (("mine", "1"), ("segue-label", "9/9"))
    with segue.labelled_sync_channel(address, version=2, caller="till") as channel:
        stub = services.TalkStub(channel)
        for method, given in ((stub.Say, lambda: text), (stub.Tell, lambda: iter([text]))):
            assert method(given(), 5, mine).text == "a"
            reply, call = method.with_call(given(), timeout=5, metadata=mine)
            assert (reply.text, call.code()) == ("a", grpc.StatusCode.OK)
            assert method.future(given(), metadata=mine).result(5).text == "a"
        assert [reply.text for reply in stub.Hear(text, metadata=mine)] == ["a"]
        assert [reply.text for reply in stub.Chat(iter([text]), None, mine, None, True)] == ["a"]
        assert stub.Say(request=text).text == "a"
    label = (("segue-label", "2/2"), ("segue-caller", "till"))
    assert heard == [(("mine", "1"), *label)] * 8 + [label]


def test_it_is_a_channel(address: str, generated: tuple[Any, Any]) -> None:
    """What gRPC's own channel tells and does, it tells and does."""
    messages, services = generated
    ready = threading.Event()
    threads = set(threading.enumerate())
    channel = segue.labelled_sync_channel(address, version=1, options=(("grpc.max_send_message_length", 100),))
    assert isinstance(channel, grpc.Channel)

    def changed(state: grpc.ChannelConnectivity) -> None:
        if state is grpc.ChannelConnectivity.READY:
            ready.set()

    channel.subscribe(changed, try_to_connect=True)
    assert ready.wait(10)
    channel.unsubscribe(changed)
    grpc.channel_ready_future(channel).result(timeout=10)
    stub = services.TalkStub(channel)
    assert isinstance(stub.Say, grpc.UnaryUnaryMultiCallable)
    assert isinstance(stub.Chat, grpc.StreamStreamMultiCallable)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Say(messages.Text(text="a" * 200))
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    while set(threading.enumerate()) - threads:  # gRPC's own that look after a subscription fail if it is closed
        time.sleep(0.01)
    channel.close()
    with pytest.raises(ValueError, match="closed"):
        stub.Say(messages.Text())


def test_with_credentials(address: str) -> None:
    """It is a secure channel then; this server has none, so nothing comes of it."""
    with segue.labelled_sync_channel(address, version=1, credentials=grpc.ssl_channel_credentials()) as channel:
        call: Any = channel.unary_unary("/a.B/C")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=10)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.UNAVAILABLE


def test_a_version_that_is_none_is_refused() -> None:
    """Before a channel is opened."""
    with pytest.raises(MalformedLabelError, match="0/0"):
        segue.labelled_sync_channel("127.0.0.1:1", version=0)
