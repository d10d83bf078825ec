"""The example on loopback, and the official clients of both versions."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from permissions.enable import enable_permissions
from permissions.stubs import (
    acl_service_pb2_grpc,
    developer_pb2_grpc,
    namespace_service_pb2_grpc,
    v1,
    v1_watch_services,
    watch_service_pb2_grpc,
)

import segue

CREDENTIALS = grpc.composite_channel_credentials(
    grpc.local_channel_credentials(grpc.LocalConnectionType.LOCAL_TCP), grpc.access_token_call_credentials("token")
)


@dataclass(frozen=True, slots=True)
class Clients:
    """The official clients, on channels of their own; v0's in this release of `authzed` are its stubs."""

    address: str
    versions: segue.Versions
    acl: Any
    configs: Any
    watch: Any
    developer: Any
    v1: Any
    v1_watch: Any


@asynccontextmanager
async def serving() -> AsyncIterator[Clients]:
    server = grpc.aio.server()
    versions = await enable_permissions(server)
    address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', grpc.local_server_credentials())}"
    await server.start()
    try:
        async with (
            grpc.aio.secure_channel(address, CREDENTIALS) as v0_channel,
            grpc.aio.secure_channel(address, CREDENTIALS) as v1_channel,
        ):
            yield Clients(
                address=address,
                versions=versions,
                acl=acl_service_pb2_grpc.ACLServiceStub(v0_channel),
                configs=namespace_service_pb2_grpc.NamespaceServiceStub(v0_channel),
                watch=watch_service_pb2_grpc.WatchServiceStub(v0_channel),
                developer=developer_pb2_grpc.DeveloperServiceStub(v0_channel),
                v1=v1.Client(address, CREDENTIALS),
                v1_watch=v1_watch_services.WatchServiceStub(v1_channel),
            )
    finally:
        await server.stop(None)
        await versions.stop()


@pytest.fixture(scope="session")
def served() -> Callable[[], AbstractAsyncContextManager[Clients]]:
    """Serve the example on a port of its own in an `async with` block, and give its clients."""
    return serving


@pytest.fixture
async def clients() -> AsyncIterator[Clients]:
    """The clients of a server of this test's own."""
    async with serving() as clients:
        yield clients


@pytest.fixture
def example() -> Path:
    """The example's folder."""
    return Path(__file__).resolve().parents[2] / "examples" / "spicedb"
