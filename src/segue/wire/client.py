"""The upgrade server as its callers see it; the one place that knows httpx, and maps each failure once."""

import asyncio
import hashlib
import ssl
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from segue.errors import OperatorError, PeerError, ReleaseError, SegueError, TrustError
from segue.model.ids import ContentHash, NodeId, SystemName, Version
from segue.wire.hand import ActionAnswer, ActionRequest, HistoryPage, NodeDetail
from segue.wire.messages import (
    Alive,
    Heartbeat,
    HeartbeatReply,
    Message,
    PermitAnswer,
    PermitRequest,
    PermitReturnRequest,
    Refusal,
    ReleaseNotice,
    SystemStatus,
)
from segue.wire.summary import SystemSummary

Answer = TypeVar("Answer")

#: A small question; longer than the server waits for its database, so that its own words reach the caller.
TIMEOUT_S = 10.0
#: Nobody is believed who says that it takes longer.
_RETRY_LIMIT_S = 300.0
#: A bundle, up or down, from first byte to last.
BUNDLE_TIMEOUT_S = 300.0

_FAMILIES: Mapping[str, type[SegueError]] = {
    "release": ReleaseError,
    "trust": TrustError,
    "operator": OperatorError,
    "peer": PeerError,
}
_NOTICE = TypeAdapter(ReleaseNotice)
_NOTICES = TypeAdapter(tuple[ReleaseNotice, ...])
_REPLY = TypeAdapter(HeartbeatReply)
_ANSWER = TypeAdapter(PermitAnswer)
_STATUS = TypeAdapter(SystemStatus)
_DETAIL = TypeAdapter(NodeDetail)
_PAGE = TypeAdapter(HistoryPage)
_SUMMARY = TypeAdapter(SystemSummary)
_ACTED = TypeAdapter(ActionAnswer)


class UpgradeServer:
    """Asks one upgrade server, inside `async with`.

    Every method raises the family of `segue.errors` that the server refused with, and `PeerError` if
    nobody answers, not in time, or not as an upgrade server does. All may be asked again after that.

    Args:
        url: where it is, `http://HOST:PORT`.
        transport: what carries the requests; by default the network, with no proxy in between.

    Raises:
        OperatorError: the URL is none.
    """

    def __init__(self, url: str, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._url = _checked(url)
        # Nodes and server are on one network: a proxy meant for the web must not be asked for them.
        # To load the authorities of TLS takes as long as a whole answer, and without TLS nobody asks for them.
        verify = self._url.startswith("https:") or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._client = httpx.AsyncClient(
            base_url=self._url, transport=transport, trust_env=False, timeout=TIMEOUT_S, verify=verify
        )

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, traceback)

    async def publish(self, bundle: bytes) -> ReleaseNotice:
        """Make a bundle the next release of the system that it names; publishing it again changes nothing.

        Raises:
            ReleaseError: it is no bundle, or does not fit its system's history.
        """
        sha256 = hashlib.sha256(bundle).hexdigest()
        headers = {"Content-Type": "application/octet-stream"}
        response = await self._ask(
            "POST",
            "/v1/releases",
            within_s=BUNDLE_TIMEOUT_S,
            params={"sha256": sha256},
            content=bundle,
            headers=headers,
        )
        return self._read(response, _NOTICE)

    async def releases(self, system: SystemName) -> tuple[ReleaseNotice, ...]:
        """Return what was published for `system`, oldest first.

        Raises:
            OperatorError: nothing was, and none of its nodes was heard of.
        """
        return self._read(await self._ask("GET", f"/v1/systems/{system}/releases"), _NOTICES)

    async def fetch(self, sha256: ContentHash) -> bytes:
        """Return what the server has under this hash. Whoever uses it checks the hash: the server may lie.

        Raises:
            OperatorError: it has nothing there.
        """
        return (await self._ask("GET", f"/v1/bundles/{sha256}", within_s=BUNDLE_TIMEOUT_S)).content

    async def heartbeat(self, system: SystemName, node: NodeId, heartbeat: Heartbeat) -> HeartbeatReply:
        """Report a node, and hear of the newest version."""
        return self._read(await self._send(f"{_node(system, node)}/heartbeat", heartbeat), _REPLY)

    async def alive(self, system: SystemName, node: NodeId, alive: Alive) -> HeartbeatReply:
        """Report that a node says what it said before; with `full` in the answer, it must say all of it.

        Raises:
            OperatorError: the server knows no such report.
        """
        return self._read(await self._send(f"{_node(system, node)}/alive", alive), _REPLY)

    async def ask_permit(self, system: SystemName, node: NodeId, request: PermitRequest) -> PermitAnswer:
        """Ask whether a node may go away now; asking again gets the same permit.

        Raises:
            OperatorError: this node may not have this upgrade at all.
        """
        return self._read(await self._send(f"{_node(system, node)}/permits", request), _ANSWER)

    async def return_permit(
        self,
        system: SystemName,
        node: NodeId,
        permit: str,
        failure: str | None = None,
        *,
        final: bool = False,
        failed_version: Version | None = None,
    ) -> None:
        """Tell that a node is back: upgraded, or not and why; telling it again changes nothing.

        Args:
            system: the node's.
            node: who is back.
            permit: the permit's id.
            failure: why the node is not upgraded; None if it is.
            final: True if the node will not try this release again after the failure.
            failed_version: the release that it failed by; None if it did not, or cannot tell.

        Raises:
            OperatorError: the node has no such permit.
        """
        how = PermitReturnRequest(failure=failure, final=final, failed_version=failed_version)
        await self._send(f"{_node(system, node)}/permits/{permit}/return", how)

    async def status(self, system: SystemName) -> SystemStatus:
        """Return all that is known of `system` at this moment.

        Raises:
            OperatorError: nothing is.
        """
        return self._read(await self._ask("GET", f"/v1/systems/{system}/status"), _STATUS)

    async def summary(self, system: SystemName) -> SystemSummary:
        """Return how `system` stands at this moment, at a glance.

        Raises:
            OperatorError: nothing is known of it.
        """
        return self._read(await self._ask("GET", f"/v1/systems/{system}/summary"), _SUMMARY)

    async def node(self, system: SystemName, node: NodeId) -> NodeDetail:
        """Return all that is known of one node of `system`.

        Raises:
            OperatorError: nothing is.
        """
        return self._read(await self._ask("GET", _node(system, node)), _DETAIL)

    async def history(
        self,
        system: SystemName,
        *,
        after: int = 0,
        last: int | None = None,
        before: int | None = None,
        node: str | None = None,
        kinds: tuple[str, ...] = (),
    ) -> HistoryPage:
        """Return the next part of what happened to `system`, the oldest first.

        Args:
            system: which.
            after: the number of the last entry that is known; 0 for none.
            last: only so many of the last, up to `HISTORY_LIMIT`; None for the first ones.
            before: of those with smaller numbers than this; None for all.
            node: only what is about this node.
            kinds: only these kinds; none for all.

        Raises:
            OperatorError: nothing is known of the system.
        """
        only: dict[str, Any] = {"after": after, "kind": list(kinds)}
        others = (("last", last), ("before", before), ("node", node))
        only |= {name: value for name, value in others if value is not None}
        return self._read(await self._ask("GET", f"/v1/systems/{system}/history", params=only), _PAGE)

    async def act(self, system: SystemName, request: ActionRequest) -> ActionAnswer:
        """Have an operator's hand do something to `system`; it is done once for each time that it is asked for.

        Raises:
            OperatorError: it makes no sense as things stand, or would do harm.
        """
        return self._read(await self._send(f"/v1/systems/{system}/actions", request), _ACTED)

    async def _send(self, path: str, message: Message) -> httpx.Response:
        headers = {"Content-Type": "application/json"}
        return await self._ask("POST", path, content=message.model_dump_json(), headers=headers)

    async def _ask(self, method: str, path: str, *, within_s: float = TIMEOUT_S, **request: Any) -> httpx.Response:
        try:
            # httpx bounds each read and write; this bounds them all together.
            async with asyncio.timeout(within_s):
                response = await self._client.request(method, path, timeout=within_s, **request)
        except httpx.ConnectError as error:
            raise PeerError(f"no upgrade server answers at {self._url}: is it running?") from error
        except (TimeoutError, httpx.TimeoutException) as error:
            raise PeerError(f"the upgrade server at {self._url} did not answer within {within_s:g} s") from error
        except httpx.HTTPError as error:
            raise PeerError(f"the upgrade server at {self._url} broke off: {error}") from error
        if response.is_success:
            return response
        raise self._refused(response)

    def _refused(self, response: httpx.Response) -> SegueError:
        later_s = _retry_after_s(response)
        try:
            refusal = Refusal.model_validate_json(response.content)
        except ValidationError:
            if response.is_server_error:
                told = f"the upgrade server at {self._url} failed with {response.status_code}: see its log"
                return PeerError(told, retry_after_s=later_s)
            return self._stranger(f"it answers {response.request.url.path} with {response.status_code}")
        if refusal.family == "peer":
            return PeerError(refusal.message, retry_after_s=later_s)
        return _FAMILIES[refusal.family](refusal.message)

    def _read(self, response: httpx.Response, kind: TypeAdapter[Answer]) -> Answer:
        try:
            return kind.validate_json(response.content)
        except ValidationError as error:
            wrong = error.errors()[0]
            where = ".".join(str(step) for step in wrong["loc"]) or "body"
            raise self._stranger(f"the {where} of its answer to {response.request.url.path}: {wrong['msg']}") from error

    def _stranger(self, how: str) -> PeerError:
        return PeerError(f"what answers at {self._url} is no upgrade server that this version understands: {how}")

    def __repr__(self) -> str:
        return f"UpgradeServer({self._url!r})"


def _retry_after_s(response: httpx.Response) -> float:
    """Return when the server wants to be asked again: what stands in front of it may say it, too, and as a date."""
    told = response.headers.get("Retry-After", "").strip()
    return min(float(told), _RETRY_LIMIT_S) if told.isdecimal() else 1.0


def _node(system: SystemName, node: NodeId) -> str:
    return f"/v1/systems/{system}/nodes/{node}"


def _checked(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise OperatorError(f"{url!r} is no URL: {error}; give the upgrade server's as http://HOST:PORT") from error
    if parsed.scheme not in ("http", "https") or not parsed.host or (parsed.port or 0) > 65535:
        raise OperatorError(f"{url!r} is no URL: give the upgrade server's as http://HOST:PORT")
    return url.rstrip("/")
