"""The channels of a node's objects and simulations: labelled, and noted as a step's waiting for another node."""

from collections.abc import Callable, Sequence
from typing import Any

import grpc.aio

from segue.layer.grpc_channel import LabelledChannel
from segue.layer.label import LabelMetadata
from segue.layer.steps import note_call


def node_channel(
    target: str, label: Callable[[], LabelMetadata], options: Sequence[tuple[str, Any]] = ()
) -> grpc.aio.Channel:
    """Open the channel of a node's object or simulation to `target`, each call with its label.

    Args:
        target: a gRPC target, such as `host:port`.
        label: asked at each call.
        options: gRPC's channel options.
    """
    return NodeChannel(grpc.aio.insecure_channel(target, options=options), label, intercepted=False)


class NodeChannel(LabelledChannel):
    """A labelled channel that takes note of each call.

    While a step has a call open here, calls from nodes do not wait for it: what it waits for may wait for them.
    """

    def unary_unary(self, *given: Any, **named: Any) -> Any:
        """Return what calls a method of one request and one reply."""
        return _noting(super().unary_unary(*given, **named))

    def unary_stream(self, *given: Any, **named: Any) -> Any:
        """Return what calls a method of one request and many replies."""
        return _noting(super().unary_stream(*given, **named))

    def stream_unary(self, *given: Any, **named: Any) -> Any:
        """Return what calls a method of many requests and one reply."""
        return _noting(super().stream_unary(*given, **named))

    def stream_stream(self, *given: Any, **named: Any) -> Any:
        """Return what calls a method of many requests and many replies."""
        return _noting(super().stream_stream(*given, **named))


def _noting(below: Callable[..., Any]) -> Callable[..., Any]:
    def begin(*given: Any, **named: Any) -> Any:
        call = below(*given, **named)
        note_call(call)
        return call

    return begin
