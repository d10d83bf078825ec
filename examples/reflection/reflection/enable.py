"""How reflection of both versions is added to a server, with Segue's layer alone: no agent, no upgrade server."""

from collections.abc import Iterable

import grpc.aio
from google.protobuf.descriptor_pool import DescriptorPool

import segue

from .node import Reflection
from .upgrade import V1_SERVICE, Version1


async def enable_reflection(
    server: grpc.aio.Server, services: Iterable[str], pool: DescriptorPool | None = None
) -> segue.Versions:
    """Have `server` answer callers of reflection v1 and of v1alpha, beside what else it answers.

    Args:
        server: not started yet.
        services: full names of the server's other services.
        pool: where descriptors are looked up; by default that of all generated code in this process.

    Returns:
        The versions: their `counts()` tell when nobody speaks v1alpha any more.
    """
    versions = segue.Versions(server, version=2, past=[Version1])
    Reflection([V1_SERVICE, *services], pool).register(versions)
    await versions.start()
    return versions
