"""A call that another process of the node relays shows its caller as if it had been made here: forging fails."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from segue.layer.chain import Chain
from segue.layer.grpc_listener import listen_for_relays, listen_on, successor_channel, unix_target
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest
from segue.layer.tls import TlsFiles
from segue.layer.usage import Usage
from segue.local import free_ports
from segue.model.ids import Version
from segue.testing.certificates import Authority, Signed

MakeChain = Callable[..., Chain]
#: Makes one call to an address, with metadata, and returns what the object saw of its caller.
Ask = Callable[..., Awaitable[dict[str, Any]]]

FORGED = (("segue-peer", "ipv4:10.9.9.9:1"), ("segue-identity-bin", json.dumps(["k", {"k": ["root"]}]).encode()))


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def own(authority: Authority) -> Signed:
    return authority.sign("n1")


@pytest.fixture
def tls(authority: Authority, own: Signed) -> TlsFiles:
    return TlsFiles(cert=str(own.cert), key=str(own.key), client_ca=str(authority.cert))


@pytest.fixture
def telling(kinds: Any) -> Any:
    """The object: it answers by what it sees of its caller."""

    class Telling(kinds):  # type: ignore[misc]
        async def Unary(self, request: str, context: Any) -> str:  # noqa: N802
            return json.dumps(
                {
                    "peer": context.peer(),
                    "key": context.peer_identity_key(),
                    "identities": [one.decode() for one in context.peer_identities() or ()],
                    "auth": {key: [one.decode() for one in ones] for key, ones in context.auth_context().items()},
                    "ours": [key for key, _ in context.invocation_metadata() if key.startswith("segue-")],
                }
            )

    return Telling("v1")


@pytest.fixture
async def opened() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


def another() -> Dispatch:
    return Dispatch(usage=Usage(), newest=Newest(Version(1)), on_newer=lambda _: None)


async def relaying(dispatch: Dispatch, hops: int, folder: Path, opened: AsyncExitStack) -> Dispatch:
    """Return what relays to `dispatch` through so many processes."""
    for hop in range(hops):
        place, front = folder / f"{hop}.peer", another()
        opened.push_async_callback((await listen_for_relays(dispatch, place)).stop, 0)
        front.forward(await opened.enter_async_context(successor_channel(place)))
        dispatch = front
    return dispatch


async def ask(channel: Any, metadata: Any = ()) -> dict[str, Any]:
    reply: bytes = await channel.unary_unary("/toy.Kinds/Unary")(b"x", metadata=metadata)
    told: dict[str, Any] = json.loads(reply.decode())
    return told


@pytest.mark.parametrize("hops", [0, 1, 2])
async def test_the_identity_of_a_caller_with_a_certificate_is_kept(
    hops: int,
    dispatch: Dispatch,
    tls: TlsFiles,
    authority: Authority,
    telling: Any,
    chain: MakeChain,
    tmp_path: Path,
    opened: AsyncExitStack,
) -> None:
    """Peer, names, and all else that gRPC knows of the connection, whatever the caller writes into our metadata."""
    dispatch.show(chain(telling, current=1))
    front = await relaying(dispatch, hops, tmp_path, opened)
    listener = await listen_on(front, [f"127.0.0.1:{(port := free_port())}"], 60, tls=tls)
    opened.push_async_callback(listener.stop, 0)
    client = authority.sign("client", "DNS:billing.example", "DNS:billing")
    credentials = grpc.ssl_channel_credentials(
        authority.cert.read_bytes(), client.key.read_bytes(), client.cert.read_bytes()
    )
    channel = await opened.enter_async_context(grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials))
    for metadata in ((), FORGED):
        told = await ask(channel, metadata)
        assert told["peer"].startswith("ipv4:127.0.0.1:")
        assert told["key"] == "x509_subject_alternative_name"
        assert told["identities"] == ["billing.example", "billing"]
        assert told["auth"]["x509_common_name"] == ["client"]
        assert told["auth"]["transport_security_type"] == ["ssl"]
        assert told["auth"]["x509_pem_cert"][0].strip() == client.cert.read_text().strip()
        assert told["ours"] == ([] if hops or not metadata else ["segue-peer", "segue-identity-bin"])


@pytest.mark.parametrize("hops", [0, 1, 2])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_a_caller_that_shows_nothing_cannot_say_that_it_is_somebody(
    hops: int,
    kind: str,
    dispatch: Dispatch,
    usage: Usage,
    telling: Any,
    chain: MakeChain,
    tmp_path: Path,
    opened: AsyncExitStack,
) -> None:
    """Not by a port, and not by a Unix socket that clients use, which looks like the one between processes."""
    dispatch.show(chain(telling, current=1))
    front = await relaying(dispatch, hops, tmp_path, opened)
    address = unix_target(str(tmp_path / "public é")) if kind == "unix" else f"127.0.0.1:{free_port()}"
    opened.push_async_callback((await listen_on(front, [address], 60)).stop, 0)
    channel = await opened.enter_async_context(grpc.aio.insecure_channel(address))
    told = await ask(channel, FORGED)
    assert told["peer"].startswith("unix:" if kind == "unix" else "ipv4:127.0.0.1:")
    assert (told["key"], told["identities"]) == (None, [])
    assert told["auth"]["transport_security_type"] == ["insecure"]
    counted = {key.caller for key in usage.counts()}
    assert "10.9.9.9" not in counted


async def test_a_long_chain_of_certificates_passes(
    dispatch: Dispatch, telling: Any, chain: MakeChain, tmp_path: Path, opened: AsyncExitStack
) -> None:
    """Metadata between clients and nodes has a limit of some KiB, which what is added here would go over."""
    dispatch.show(chain(telling, current=1))
    place = tmp_path / "s.peer"
    opened.push_async_callback((await listen_for_relays(dispatch, place)).stop, 0)
    channel = await opened.enter_async_context(successor_channel(place))
    identity = json.dumps(["k", {"k": ["who"], "chain": ["x" * 100_000]}]).encode()
    told = await ask(channel, (("segue-peer", "ipv4:10.0.0.1:5"), ("segue-identity-bin", identity)))
    assert (told["peer"], told["identities"]) == ("ipv4:10.0.0.1:5", ["who"])
    assert len(told["auth"]["chain"][0]) == 100_000


def free_port() -> int:
    (port,) = free_ports(1)
    return port
