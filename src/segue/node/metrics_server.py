"""Where Prometheus asks an agent for its metrics: a small server in a thread of its own, so that no upgrade waits."""

import errno
import logging
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from segue.errors import OperatorError
from segue.model.address import TcpAddress, split_address

logger = logging.getLogger(__name__)

PATH = "/metrics"
#: For a client to send its request, and to take the answer.
_CLIENT_S = 5.0
#: How soon the server sees that it is to end: so long the agent's own end may take longer.
_LOOK_S = 0.05


@contextmanager
def serving(address: str | None, registry: CollectorRegistry) -> Iterator[TcpAddress | None]:
    """Answer `GET /metrics` for the time of the block.

    Args:
        address: where, as HOST:PORT; None for nowhere.
        registry: what is told.

    Yields:
        Where it listens.

    Raises:
        OperatorError: the address is taken, or not to be had.
    """
    if address is None:
        yield None
        return
    server = _listening(address, registry)
    host, port = server.server_address[:2]
    where = TcpAddress(str(host), port)
    logger.info("tells its metrics at http://%s%s", where, PATH)
    thread = threading.Thread(target=server.serve_forever, args=(_LOOK_S,), name="metrics", daemon=True)
    thread.start()
    try:
        yield where
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(socketserver.ThreadingTCPServer):
    """Answers each client in a thread of its own, which nobody waits for."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def __init__(self, family: int, where: Any, registry: CollectorRegistry) -> None:
        self.address_family = family
        self.registry = registry
        super().__init__(where, _Client)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the base class's signature
        """Log what went wrong with one client, most often that it went away."""
        logger.debug("a client of the metrics at %s was not answered", client_address, exc_info=True)


class _Client(BaseHTTPRequestHandler):
    server: _Server
    timeout = _CLIENT_S

    def do_GET(self) -> None:
        """Answer with the metrics."""
        if self.path.partition("?")[0] != PATH:
            self.send_error(HTTPStatus.NOT_FOUND, f"only {PATH} is here")
            return
        body = generate_latest(self.server.registry)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Log at a level that nobody sees by default."""
        logger.debug(format, *args)


def _listening(address: str, registry: CollectorRegistry) -> _Server:
    host, port = split_address(address)
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, where = infos[0]
        return _Server(family, where, registry)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "no host has such a name"
        taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        now = "stop what listens there, or choose another port" if taken else "choose another address"
        raise OperatorError(f"metrics cannot be told at {address}: {why}: {now} with --metrics") from error
