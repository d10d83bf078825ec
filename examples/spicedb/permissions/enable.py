"""How permissions of both versions are added to a server, with Segue's layer alone: no agent, no upgrade server."""

import grpc.aio

from segue.layer.chain import Chain, Link
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest
from segue.layer.usage import Usage
from segue.model.ids import Version

from .node import Permissions
from .upgrade import Version1


def enable_permissions(server: grpc.aio.Server) -> Usage:
    """Have `server` answer callers of authzed.api.v1 and of v0, beside what else it answers.

    Args:
        server: not started yet.

    Returns:
        Counts of the calls by version: they tell when nobody speaks v0 any more.
    """
    current = Permissions()
    chain = Chain(
        (
            Link(version=Version(1), role="past", instance=Version1(current)),
            Link(version=Version(2), role="current", instance=current),
        )
    )
    usage = Usage()
    dispatch = Dispatch(usage=usage, newest=Newest(Version(2)), on_newer=lambda version: None)  # noqa: ARG005
    dispatch.show(chain)
    server.add_generic_rpc_handlers((dispatch,))
    return usage
