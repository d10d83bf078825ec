"""How reflection of both versions is added to a server, with Segue's layer alone: no agent, no upgrade server."""

from collections.abc import Iterable

import grpc.aio
from google.protobuf.descriptor_pool import DescriptorPool

from segue.layer.chain import Chain, Link
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest
from segue.layer.usage import Usage
from segue.model.ids import Version

from .node import Reflection
from .upgrade import V1_SERVICE, Version1


def enable_reflection(server: grpc.aio.Server, services: Iterable[str], pool: DescriptorPool | None = None) -> Usage:
    """Have `server` answer callers of reflection v1 and of v1alpha, beside what else it answers.

    Args:
        server: not started yet.
        services: full names of the server's other services.
        pool: where descriptors are looked up; by default that of all generated code in this process.

    Returns:
        Counts of the calls by version: they tell when nobody speaks v1alpha any more.
    """
    current = Reflection([V1_SERVICE, *services], pool)
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
