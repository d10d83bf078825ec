"""Channels whose calls carry a label: each call of each kind gets metadata; nothing else differs."""

from collections.abc import AsyncIterable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, TypeAlias

import grpc
import grpc.aio

from segue.layer.label import CALLER_KEY, IDENTITY_KEY, LABEL_KEY, NODE_KEY, PEER_KEY, Label, LabelMetadata
from segue.model.ids import Version

#: What gRPC takes as metadata of a call.
CallMetadata: TypeAlias = grpc.aio.Metadata | Sequence[tuple[str, str | bytes]]
Serializer: TypeAlias = Callable[[Any], bytes]
Deserializer: TypeAlias = Callable[[bytes], Any]

#: Says a call's label, as gRPC takes it.
_Label: TypeAlias = Callable[[], CallMetadata]

_OURS = frozenset({LABEL_KEY, NODE_KEY, CALLER_KEY, PEER_KEY, IDENTITY_KEY})


def labelled_channel(
    target: str,
    *,
    version: Version | int,
    options: Sequence[tuple[str, Any]] = (),
    credentials: grpc.ChannelCredentials | None = None,
    caller: str | None = None,
) -> grpc.aio.Channel:
    """Open a channel for a client of the system: every call on it says that the caller speaks `version`.

    Args:
        target: a gRPC target, such as `host:port`.
        version: the version whose generated code the client uses.
        options: gRPC's channel options.
        credentials: for a secure channel; None for an insecure one.
        caller: what the client's calls are counted by, such as its program's name: 1 to 63 letters, digits, dots,
            dashes and underscores. None for the host that they come from.

    Returns:
        A channel for generated stubs. Whoever opens it closes it.

    Raises:
        MalformedLabelError: `version` is not 1 or later, or `caller` no such name.
    """
    metadata = Label(caller=Version(version), newest=Version(version), name=caller).to_metadata()
    channel = (
        grpc.aio.insecure_channel(target, options=options)
        if credentials is None
        else grpc.aio.secure_channel(target, credentials, options=options)
    )
    return LabelledChannel(channel, lambda: metadata, intercepted=False)


class LabelledChannel(grpc.aio.Channel):
    """The channel below, with a label on each call.

    Args:
        channel: what carries the calls; it is closed when this is.
        metadata: asked at each call for its label, as what the process knows may have grown.
        intercepted: whether `channel` has interceptors. If it has none, calls are a little faster.
    """

    def __init__(
        self, channel: grpc.aio.Channel, metadata: Callable[[], LabelMetadata], *, intercepted: bool = True
    ) -> None:
        # Any: generated stubs pass `_registered_method`, which gRPC takes and its published types leave out.
        self._channel: Any = channel
        self._label: _Label = metadata if intercepted else _Shared(metadata)

    async def __aenter__(self) -> Self:
        await self._channel.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> bool | None:
        ended: bool | None = await self._channel.__aexit__(exc_type, exc_val, exc_tb)
        return ended

    async def close(self, grace: float | None = None) -> None:
        """Close the channel; calls still active end within `grace` seconds, or at once if it is None."""
        await self._channel.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return how the connection stands, and connect if `try_to_connect`."""
        state: grpc.ChannelConnectivity = self._channel.get_state(try_to_connect)
        return state

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return once the connection does not stand as it did."""
        await self._channel.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Return once calls can go out."""
        await self._channel.channel_ready()

    def unary_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryUnaryMultiCallable[Any, Any]:
        """Return what calls a method of one request and one reply."""
        below = self._channel.unary_unary(method, request_serializer, response_deserializer, _registered_method)
        return _UnaryUnary(below, self._label)

    def unary_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryStreamMultiCallable[Any, Any]:
        """Return what calls a method of one request and many replies."""
        below = self._channel.unary_stream(method, request_serializer, response_deserializer, _registered_method)
        return _UnaryStream(below, self._label)

    def stream_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamUnaryMultiCallable[Any, Any]:
        """Return what calls a method of many requests and one reply."""
        below = self._channel.stream_unary(method, request_serializer, response_deserializer, _registered_method)
        return _StreamUnary(below, self._label)

    def stream_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.StreamStreamMultiCallable[Any, Any]:
        """Return what calls a method of many requests and many replies."""
        below = self._channel.stream_stream(method, request_serializer, response_deserializer, _registered_method)
        return _StreamStream(below, self._label)


class _Shared:
    """One `grpc.aio.Metadata` for all calls of a label.

    gRPC makes one of each call's tuple, which costs more than one per cent of a null call. Interceptors
    may write to it, so on a channel that has any, calls do not share it.
    """

    def __init__(self, label: Callable[[], LabelMetadata]) -> None:
        self._label = label
        self._made_of: LabelMetadata = ()
        self._metadata = grpc.aio.Metadata()

    def __call__(self) -> grpc.aio.Metadata:
        label = self._label()
        if label is not self._made_of:
            self._made_of, self._metadata = label, grpc.aio.Metadata(*label)
        return self._metadata


def with_label(metadata: CallMetadata | None, label: CallMetadata) -> CallMetadata:
    """Return the caller's metadata and the label; a label that the caller passes on from elsewhere is dropped."""
    if not metadata:
        return label
    return (*(pair for pair in metadata if pair[0] not in _OURS), *label)


class _UnaryUnary(grpc.aio.UnaryUnaryMultiCallable[Any, Any]):
    def __init__(self, below: grpc.aio.UnaryUnaryMultiCallable[Any, Any], label: _Label) -> None:
        self._below = below
        self._label = label

    def __call__(
        self, request: Any, *, metadata: CallMetadata | None = None, **options: Any
    ) -> grpc.aio.UnaryUnaryCall[Any, Any]:
        return self._below(request, metadata=with_label(metadata, self._label()), **options)


class _UnaryStream(grpc.aio.UnaryStreamMultiCallable[Any, Any]):
    def __init__(self, below: grpc.aio.UnaryStreamMultiCallable[Any, Any], label: _Label) -> None:
        self._below = below
        self._label = label

    def __call__(
        self, request: Any, *, metadata: CallMetadata | None = None, **options: Any
    ) -> grpc.aio.UnaryStreamCall[Any, Any]:
        return self._below(request, metadata=with_label(metadata, self._label()), **options)


#: What gRPC takes as the requests of a streaming call.
_Requests: TypeAlias = AsyncIterable[Any] | Iterable[Any]


class _StreamUnary(grpc.aio.StreamUnaryMultiCallable[Any, Any]):
    def __init__(self, below: grpc.aio.StreamUnaryMultiCallable[Any, Any], label: _Label) -> None:
        self._below: Any = below
        self._label = label

    def __call__(
        self,
        request_iterator: _Requests | None = None,
        timeout: float | None = None,
        metadata: CallMetadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.aio.StreamUnaryCall[Any, Any]:
        labelled = with_label(metadata, self._label())
        call: grpc.aio.StreamUnaryCall[Any, Any] = self._below(
            request_iterator, timeout, labelled, credentials, wait_for_ready, compression
        )
        return call


class _StreamStream(grpc.aio.StreamStreamMultiCallable[Any, Any]):
    def __init__(self, below: grpc.aio.StreamStreamMultiCallable[Any, Any], label: _Label) -> None:
        self._below: Any = below
        self._label = label

    def __call__(
        self,
        request_iterator: _Requests | None = None,
        timeout: float | None = None,
        metadata: CallMetadata | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.aio.StreamStreamCall[Any, Any]:
        labelled = with_label(metadata, self._label())
        call: grpc.aio.StreamStreamCall[Any, Any] = self._below(
            request_iterator, timeout, labelled, credentials, wait_for_ready, compression
        )
        return call
