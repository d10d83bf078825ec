"""The channels of a node's objects and simulations: labelled, and noted as a step's waiting for another node."""

from collections.abc import Callable, Sequence
from typing import Any

import grpc.aio

from segue.layer.grpc_channel import LabelledChannel
from segue.layer.grpc_tls import client_credentials
from segue.layer.label import LabelMetadata
from segue.layer.steps import note_call
from segue.layer.tls import TlsFiles

#: Of targets that never leave the machine.
_LOCAL = ("unix:", "unix-abstract:")
#: A node without TLS.
_PLAIN = TlsFiles()


def node_channel(
    target: str,
    label: Callable[[], LabelMetadata],
    options: Sequence[tuple[str, Any]] = (),
    tls: TlsFiles = _PLAIN,
) -> grpc.aio.Channel:
    """Open the channel of a node's object or simulation to `target`, each call with its label.

    Args:
        target: a gRPC target, such as `host:port`.
        label: asked at each call.
        options: gRPC's channel options.
        tls: with the authorities of servers, if the channel is to be TLS. To a Unix socket it never is.

    Raises:
        OperatorError: a TLS file is not what it should be.
    """
    if tls.ca is None or target.startswith(_LOCAL):
        below = grpc.aio.insecure_channel(target, options=options)
    else:
        below = grpc.aio.secure_channel(target, client_credentials(tls), options=options)
    return NodeChannel(below, label, intercepted=False)


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
