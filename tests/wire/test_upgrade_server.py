"""Rule: whatever goes wrong between a caller and the upgrade server is one error of the right family, in words."""

import asyncio
import socket

import httpx
import pytest

from segue.errors import OperatorError, PeerError, ReleaseError, SegueError, TrustError
from segue.model.ids import ContentHash, NodeId, SystemName
from segue.wire import client
from segue.wire.client import UpgradeServer

SYSTEM = SystemName("blockstore")
URL = "http://segue:7000"


def server(answer: httpx.Response | Exception) -> UpgradeServer:
    """A server that gives this answer to everything."""

    def handle(request: httpx.Request) -> httpx.Response:
        if isinstance(answer, Exception):
            raise answer
        return answer

    return UpgradeServer(URL, transport=httpx.MockTransport(handle))


@pytest.mark.parametrize(
    ("family", "kind"),
    [("release", ReleaseError), ("trust", TrustError), ("operator", OperatorError), ("peer", PeerError)],
)
async def test_a_refusal_is_raised_as_its_family(family: str, kind: type[SegueError]) -> None:
    async with server(httpx.Response(409, json={"family": family, "message": "what and why"})) as upgrades:
        with pytest.raises(kind, match=r"^what and why$"):
            await upgrades.publish(b"bundle")


STRANGER = "what answers at http://segue:7000 is no upgrade server that this version understands: "


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (httpx.ConnectError("refused"), "no upgrade server answers at http://segue:7000: is it running?"),
        (httpx.ReadTimeout("slow"), "the upgrade server at http://segue:7000 did not answer within 10 s"),
        (httpx.ReadError("reset"), "the upgrade server at http://segue:7000 broke off: reset"),
        (httpx.Response(502, text="Bad"), "the upgrade server at http://segue:7000 failed with 502: see its log"),
        (httpx.Response(404, text="Not Found"), STRANGER + "it answers /v1/systems/blockstore/status with 404"),
        (httpx.Response(302), STRANGER + "it answers /v1/systems/blockstore/status with 302"),
        (httpx.Response(200, text="<html>"), None),
        (httpx.Response(200, json=[]), None),
        (httpx.Response(200, json={"system": "blockstore"}), STRANGER + "the at of its answer to "
         "/v1/systems/blockstore/status: Field required"),
    ],
)  # fmt: skip
async def test_anything_else_is_for_later(answer: httpx.Response | Exception, message: str | None) -> None:
    async with server(answer) as upgrades:
        with pytest.raises(PeerError) as raised:
            await upgrades.status(SYSTEM)
    assert str(raised.value) == message or (message is None and str(raised.value).startswith(STRANGER))
    assert "\n" not in str(raised.value)
    assert raised.value.retry_after_s > 0


async def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    async with UpgradeServer(url) as upgrades:
        with pytest.raises(PeerError, match=f"no upgrade server answers at {url}: is it running"):
            await upgrades.releases(SYSTEM)


async def test_a_server_that_never_ends_its_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece comes in time, the whole never does."""
    monkeypatch.setattr(client, "BUNDLE_TIMEOUT_S", 0.05)

    class Drips(httpx.AsyncByteStream):
        async def __aiter__(self):  # type: ignore[no-untyped-def]
            while True:
                await asyncio.sleep(0.001)
                yield b"x"

    async def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Drips())

    async with UpgradeServer(URL, transport=httpx.MockTransport(handle)) as upgrades:
        with pytest.raises(PeerError, match=r"did not answer within 0\.05 s"):
            await upgrades.fetch(ContentHash("0" * 64))


@pytest.mark.parametrize(
    "url", ["127.0.0.1:7000", "localhost", "", "ftp://h", "http://", "http://h:port", "http://h:99999999"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(OperatorError, match=r"is no URL: .*as http://HOST:PORT"):
        UpgradeServer(url)


async def test_proxies_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with UpgradeServer(URL) as upgrades:
        assert upgrades._client._mounts == {}


async def test_requests_are_as_the_server_documents_them() -> None:
    seen: list[tuple[str, str, bytes]] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append((request.method, str(request.url), request.content))
        return httpx.Response(204)

    async with UpgradeServer(URL + "/", transport=httpx.MockTransport(handle)) as upgrades:
        await upgrades.return_permit(SYSTEM, NodeId("n1"), "p1", "why", final=True)
    path = f"{URL}/v1/systems/blockstore/nodes/n1/permits/p1/return"
    assert seen == [("POST", path, b'{"failure":"why","final":true,"failed_version":null}')]
