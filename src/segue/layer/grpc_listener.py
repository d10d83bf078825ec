"""Where calls come in, and where a process that was replaced sends them on: the servers of one node."""

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import grpc.aio

from segue.errors import OperatorError
from segue.layer.grpc_ready import READY
from segue.layer.grpc_server import Dispatch
from segue.layer.grpc_tls import server_credentials
from segue.layer.message_size import DEFAULT_MESSAGE_BYTES, receiving
from segue.layer.tls import TlsFiles

#: What is added to a call's metadata on the way between two processes, a chain of certificates at most, must not make
#: it too large, and what its ends allow each other is theirs to know.
_ANY_METADATA = (("grpc.max_metadata_size", 16 << 20), ("grpc.absolute_max_metadata_size", 16 << 20))
#: A process that is being replaced relays whatever its successor takes, however large.
_ANY_SIZE = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1), *_ANY_METADATA)

#: If the other process cannot be reached, it is tried again soon: calls wait for it.
_SOON_AGAIN = (("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000))
#: gRPC ends calls with CANCELLED, the more the more there are, if so many wait until Python takes them: by itself from
#: 1,000 on, which a burst on a busy node reaches. What may wait after that is limited by `ParkLimits`.
_PENDING = (("grpc.server.max_pending_requests", 20_000), ("grpc.server.max_pending_requests_hard_limit", 30_000))


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
    tls: TlsFiles | None = None,
) -> Listener:
    """Have the calls that clients and nodes make to `addresses` answered by `dispatch`.

    Args:
        dispatch: what answers.
        addresses: gRPC's way of writing them, such as `127.0.0.1:9001` and what `unix_target` returns. Ports are
            shared with a process that listens there already.
        max_connection_age_s: seconds after which gRPC renews a connection, without loss of a call.
        max_message_bytes: the largest request; of a larger one, the caller gets RESOURCE_EXHAUSTED. Replies may
            be of any size, as far as this end is concerned.
        tls: with a certificate, if the connections are to be TLS.

    Raises:
        OSError: an address is not to be had, or a TLS file is not what it should be; nothing listens then.
    """
    options = (
        ("grpc.so_reuseport", 1),
        ("grpc.max_connection_age_ms", int(max_connection_age_s * 1000)),
        *_PENDING,
        *receiving(max_message_bytes),
    )
    return await _listen((dispatch,), addresses, options, tls if tls is not None and tls.is_serving else None)


async def listen_for_relays(
    dispatch: Dispatch, socket: Path, max_message_bytes: int = DEFAULT_MESSAGE_BYTES
) -> Listener:
    """Have the calls that another process of the node relays answered by `dispatch`, as if made by their callers.

    Args:
        dispatch: what answers.
        socket: the path of a Unix socket that nobody but this user can open: what is said there about who the
            callers are is believed.
        max_message_bytes: the largest request.

    Raises:
        OSError: the socket is not to be had.
    """
    options = (*_PENDING, *receiving(max_message_bytes), *_ANY_METADATA)
    return await _listen((READY, dispatch.for_relays), (unix_target(str(socket)),), options, None)


def successor_channel(socket: Path) -> grpc.aio.Channel:
    """Open a channel to the process that listens on the Unix socket `socket`; whoever opens it closes it."""
    return grpc.aio.insecure_channel(unix_target(str(socket)), options=(*_ANY_SIZE, *_SOON_AGAIN))


def unix_target(path: str) -> str:
    """Return how gRPC writes the Unix socket at the absolute `path`."""
    return f"unix:{quote(path, errors='surrogateescape')}"


async def _listen(
    handlers: tuple[grpc.GenericRpcHandler, ...],
    addresses: Sequence[str],
    options: Sequence[tuple[str, int]],
    tls: TlsFiles | None,
) -> Listener:
    server = grpc.aio.server(options=options)
    server.add_generic_rpc_handlers(handlers)
    address = ""
    try:
        for address in addresses:
            if tls is None:
                server.add_insecure_port(address)
            else:  # credentials of its own for each port: gRPC tells what they are to begin with only once
                server.add_secure_port(address, server_credentials(tls))
    except (RuntimeError, OperatorError) as error:
        await server.stop(0)
        raise OSError(f"cannot listen on {address}: {error}") from error
    await server.start()
    return Listener(server)
