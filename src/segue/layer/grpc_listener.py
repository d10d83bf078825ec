"""Where calls come in, and where a process that was replaced sends them on: the servers of one node."""

from collections.abc import Sequence
from pathlib import Path

import grpc.aio

from segue.layer.grpc_server import Dispatch
from segue.layer.message_size import DEFAULT_MESSAGE_BYTES, receiving

#: A process that is being replaced relays whatever its successor takes, however large.
_ANY_SIZE = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class Listener:
    """A gRPC server that listens.

    Args:
        server: the server, started.
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    async def stop(self, grace_s: float) -> None:
        """Take no more calls, and end those that are inside after `grace_s` seconds at the latest."""
        await self._server.stop(grace_s)


async def listen_on(
    dispatch: Dispatch,
    addresses: Sequence[str],
    max_connection_age_s: float,
    max_message_bytes: int = DEFAULT_MESSAGE_BYTES,
) -> Listener:
    """Have the calls that come to `addresses` answered by `dispatch`.

    Args:
        dispatch: what answers.
        addresses: gRPC's way of writing them, such as `127.0.0.1:9001` and `unix:/run/socket`. Ports are
            shared with a process that listens there already.
        max_connection_age_s: seconds after which gRPC renews a connection, without loss of a call.
        max_message_bytes: the largest request; of a larger one, the caller gets RESOURCE_EXHAUSTED. Replies may
            be of any size, as far as this end is concerned.

    Raises:
        OSError: an address is not to be had; nothing listens then.
    """
    options = (
        ("grpc.so_reuseport", 1),
        ("grpc.max_connection_age_ms", int(max_connection_age_s * 1000)),
        *receiving(max_message_bytes),
    )
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers((dispatch,))
    try:
        for address in addresses:
            server.add_insecure_port(address)
    except RuntimeError as error:
        await server.stop(0)
        raise OSError(f"cannot listen on {address}: {error}") from error
    await server.start()
    return Listener(server)


def successor_channel(socket: Path) -> grpc.aio.Channel:
    """Open a channel to the process that listens on the Unix socket `socket`; whoever opens it closes it."""
    return grpc.aio.insecure_channel(f"unix:{socket}", options=_ANY_SIZE)
