"""Channels of threaded clients whose calls carry a label, as those of `grpc_channel` do."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import grpc

from segue.layer.grpc_channel import Deserializer, Serializer, with_label
from segue.layer.label import Label, LabelMetadata
from segue.model.ids import Version


def labelled_sync_channel(
    target: str,
    *,
    version: Version | int,
    options: Sequence[tuple[str, Any]] = (),
    credentials: grpc.ChannelCredentials | None = None,
    caller: str | None = None,
) -> grpc.Channel:
    """Open a channel for a client without an event loop: every call on it says that the caller speaks `version`.

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
        grpc.insecure_channel(target, options=options)
        if credentials is None
        else grpc.secure_channel(target, credentials, options=options)
    )
    return LabelledSyncChannel(channel, lambda: metadata)


class LabelledSyncChannel(grpc.Channel):
    """The channel below, with a label on each call.

    Args:
        channel: what carries the calls; it is closed when this is.
        metadata: asked at each call for its label.
    """

    def __init__(self, channel: grpc.Channel, metadata: Callable[[], LabelMetadata]) -> None:
        # Any: generated stubs pass `_registered_method`, which gRPC takes and its published types leave out.
        self._channel: Any = channel
        self._label = metadata

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel; calls still active end."""
        self._channel.close()

    def subscribe(
        self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool | None = False
    ) -> None:
        """Have `callback` told how the connection stands, now and whenever that changes."""
        self._channel.subscribe(callback, try_to_connect)

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """Tell `callback` no more."""
        self._channel.unsubscribe(callback)

    def unary_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> "grpc.UnaryUnaryMultiCallable[Any, Any]":
        """Return what calls a method of one request and one reply."""
        below = self._channel.unary_unary(method, request_serializer, response_deserializer, _registered_method)
        return _UnaryUnary(below, self._label)

    def unary_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> "grpc.UnaryStreamMultiCallable[Any, Any]":
        """Return what calls a method of one request and many replies."""
        below = self._channel.unary_stream(method, request_serializer, response_deserializer, _registered_method)
        return _UnaryStream(below, self._label)

    def stream_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> "grpc.StreamUnaryMultiCallable[Any, Any]":
        """Return what calls a method of many requests and one reply."""
        below = self._channel.stream_unary(method, request_serializer, response_deserializer, _registered_method)
        return _StreamUnary(below, self._label)

    def stream_stream(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> "grpc.StreamStreamMultiCallable[Any, Any]":
        """Return what calls a method of many requests and many replies."""
        below = self._channel.stream_stream(method, request_serializer, response_deserializer, _registered_method)
        return _StreamStream(below, self._label)


class _Labelled:
    """What calls a method with a label; gRPC's own takes the rest of what it is called with."""

    def __init__(self, below: Any, label: Callable[[], LabelMetadata]) -> None:
        self._below = below
        self._label = label

    def __call__(self, *given: Any, **named: Any) -> Any:
        return self._labelled(self._below, given, named)

    def _labelled(self, call: Callable[..., Any], given: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Make the call; of what it is given, metadata has the third place or its name."""
        if len(given) > 2:
            request, timeout, metadata, *more = given
            return call(request, timeout, with_label(metadata, self._label()), *more, **named)
        return call(*given, **{**named, "metadata": with_label(named.get("metadata"), self._label())})


class _OneReply(_Labelled):
    """The same for methods of one reply, which are called in three ways."""

    def with_call(self, *given: Any, **named: Any) -> Any:
        return self._labelled(self._below.with_call, given, named)

    def future(self, *given: Any, **named: Any) -> Any:
        return self._labelled(self._below.future, given, named)


# Generic for type checkers only.
class _UnaryUnary(_OneReply, grpc.UnaryUnaryMultiCallable):  # type: ignore[type-arg]
    pass


class _UnaryStream(_Labelled, grpc.UnaryStreamMultiCallable):  # type: ignore[type-arg]
    pass


class _StreamUnary(_OneReply, grpc.StreamUnaryMultiCallable):  # type: ignore[type-arg]
    pass


class _StreamStream(_Labelled, grpc.StreamStreamMultiCallable):  # type: ignore[type-arg]
    pass
