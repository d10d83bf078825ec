"""How permissions of both versions are added to a server, with Segue's layer alone: no agent, no upgrade server."""

import grpc.aio

import segue

from .node import Permissions
from .upgrade import Version1


async def enable_permissions(server: grpc.aio.Server) -> segue.Versions:
    """Have `server` answer callers of authzed.api.v1 and of v0, beside what else it answers.

    Args:
        server: not started yet.

    Returns:
        The versions: their `counts()` tell when nobody speaks v0 any more.
    """
    versions = segue.Versions(server, version=2, past=[Version1])
    Permissions().register(versions)
    await versions.start()
    return versions
