"""The first call between two processes of a node, made before calls wait.

A channel's first call costs several times what the next one does, even where the connection is there: both ends do much
for the first time. A process that will be replaced makes it to its successor while the state is transformed.
"""

import logging

import grpc
import grpc.aio

logger = logging.getLogger(__name__)

_SERVICE, _METHOD = "segue.Relay", "Ready"
_LIMIT_S = 10.0


async def _ready(request: bytes, _context: object) -> bytes:
    return request


#: What answers it: for servers that take relayed calls, before the handler of these.
READY: grpc.GenericRpcHandler = grpc.method_handlers_generic_handler(
    _SERVICE, {_METHOD: grpc.unary_unary_rpc_method_handler(_ready)}
)


async def make_ready(channel: grpc.aio.Channel) -> None:
    """Make the first call through `channel`; if it fails, others will be slower, or meet what it met."""
    try:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{_SERVICE}/{_METHOD}")
        await call(b"", timeout=_LIMIT_S)
    except grpc.aio.AioRpcError as error:
        logger.warning("the process that is to answer calls does not answer yet: %s", error.details())
