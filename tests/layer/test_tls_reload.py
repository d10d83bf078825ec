"""Certificates that are replaced on disk are used for new connections, without a restart; broken ones are not used."""

import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from segue.layer.chain import Chain
from segue.layer.grpc_listener import listen_on
from segue.layer.grpc_server import Dispatch
from segue.layer.tls import TlsFiles
from segue.local import free_ports
from segue.testing.certificates import Authority, Signed


class World:
    """A server with certificates of `authority`, and what clients of it get."""

    def __init__(self, port: int, files: Signed, client_ca: Path, authority: Authority, folder: Path) -> None:
        self._port = port
        self._folder = folder
        self.files = files
        self.client_ca = client_ca
        self.authority = authority

    def another(self) -> Authority:
        """Return another authority, of the same name."""
        folder = self._folder / "another"
        folder.mkdir()
        return Authority(folder)

    async def answers(self, trusts: Authority, shows: Authority) -> bool:
        """Say whether a new connection of a client is answered, by whom it trusts and who signed its certificate."""
        client = shows.sign("client", "DNS:client")
        credentials = grpc.ssl_channel_credentials(
            trusts.cert.read_bytes(), client.key.read_bytes(), client.cert.read_bytes()
        )
        options = [("grpc.use_local_subchannel_pool", 1)]
        channel: Any = grpc.aio.secure_channel(f"127.0.0.1:{self._port}", credentials, options=options)
        async with channel:
            try:
                await channel.unary_unary("/toy.Kinds/Unary")(b"x")
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                return False
        return True


@pytest.fixture
async def world(
    dispatch: Dispatch, chain: Callable[..., Chain], kinds: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[World]:
    authority = Authority(tmp_path)
    files = authority.sign("n1")
    client_ca = tmp_path / "client-ca.pem"
    client_ca.write_bytes(authority.cert.read_bytes())
    dispatch.show(chain(kinds("v1"), current=1))
    (port,) = free_ports(1)
    caplog.set_level(logging.INFO)
    tls = TlsFiles(cert=str(files.cert), key=str(files.key), client_ca=str(client_ca))
    listener = await listen_on(dispatch, [f"127.0.0.1:{port}"], 60, tls=tls)
    yield World(port, files, client_ca, authority, tmp_path)
    await listener.stop(0)


async def test_only_clients_with_a_certificate_are_answered(world: World) -> None:
    other = world.another()
    assert await world.answers(trusts=world.authority, shows=world.authority)
    assert not await world.answers(trusts=world.authority, shows=other)
    assert not await world.answers(trusts=other, shows=world.authority)


async def test_a_replaced_certificate_is_used(world: World) -> None:
    """Of the server's own; then the authority of its clients."""
    other = world.another()
    assert await world.answers(trusts=world.authority, shows=world.authority)
    made = other.sign("n1")
    made.key.replace(world.files.key)
    made.cert.replace(world.files.cert)
    assert await world.answers(trusts=other, shows=world.authority)
    assert not await world.answers(trusts=world.authority, shows=world.authority)
    world.client_ca.write_bytes(other.cert.read_bytes())
    assert await world.answers(trusts=other, shows=other)
    assert not await world.answers(trusts=other, shows=world.authority)


@pytest.mark.parametrize("broken", ["no key", "another key", "half a certificate"])
async def test_files_that_cannot_be_used_are_not(world: World, broken: str, caplog: pytest.LogCaptureFixture) -> None:
    """Those before stay in use, until the files are whole again; the log says it once."""
    kept = {path: path.read_bytes() for path in world.files}
    match broken:
        case "no key":
            world.files.key.unlink()
        case "another key":
            world.another().sign("n1").key.replace(world.files.key)
        case _:
            world.files.cert.write_bytes(kept[world.files.cert][:100])
    for _ in range(3):
        assert await world.answers(trusts=world.authority, shows=world.authority)
    assert caplog.text.count("those before stay in use") == 1
    for path, content in kept.items():
        path.write_bytes(content)
    assert await world.answers(trusts=world.authority, shows=world.authority)
    assert "new connections use them" in caplog.text
