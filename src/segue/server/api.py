"""The HTTP interface: which request leads to what, and what is answered.

Handlers are plain functions, which FastAPI runs in a pool of threads: the store they wait for is not async. Those for
heartbeats and permits are async: see `together`.
"""

import json
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Depends, Header, HTTPException, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.concurrency import run_in_threadpool

from segue.model.clock import Clock
from segue.model.ids import CONTENT_HASH_PATTERN, NAME_PATTERN, ClassName, ContentHash, NodeId, SystemName, Version
from segue.server.bundles import Bundles
from segue.server.facts import Granted, Held, NotYet, Report
from segue.server.hearing import check_report
from segue.server.heartbeats import Heartbeats
from segue.server.node_orders import OrdersForNodes
from segue.server.permits import Permits
from segue.server.publication import notice_of, publish
from segue.server.quick import QuickRoute
from segue.server.refusals import NotThereError
from segue.server.status import fleet_row, status_of
from segue.server.store import Store
from segue.server.webhooks import Webhooks
from segue.wire.messages import (
    Alive,
    Heartbeat,
    HeartbeatReply,
    PermitAnswer,
    PermitRequest,
    PermitReturnRequest,
    Refusal,
    ReleaseNotice,
    SystemStatus,
)

_NAME = f"^{NAME_PATTERN}$"
_HASH = f"^{CONTENT_HASH_PATTERN}$"
System = Annotated[SystemName, Path(pattern=_NAME, description="The system's name.")]
NodeName = Annotated[NodeId, Path(pattern=_NAME, description="The node's id, unique in its system.")]
PermitId = Annotated[str, Path(pattern=_NAME, description="The permit's id, as it was granted.")]
BundleHash = Annotated[ContentHash, Path(pattern=_HASH, description="The SHA-256 of the bundle's bytes.")]
SentHash = Annotated[ContentHash, Query(pattern=_HASH, description="The SHA-256 of the body.")]
SeenTag = Annotated[str | None, Header(alias="If-None-Match", description="The ETag of a copy that is there already.")]

_PREFIX = "/v1"
_NODE = "/systems/{system}/nodes/{node}"
_Responses: TypeAlias = dict[int | str, dict[str, Any]]
_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_BUNDLE_BODY = {"requestBody": {"required": True, "content": _BYTES, "description": "What `segue build` made."}}

_REFUSED = {
    404: "It is not in the upgrade database.",
    409: "It does not fit what the upgrade database says.",
    413: "The body is too large.",
    422: "A field is wrong: the message names it, its value, and what was expected.",
    500: "A fault of the upgrade server itself: its log says more.",
    503: "The upgrade database does not answer now: try again.",
}


class LimitedRequest(Request):
    """A request whose body has a limit, and whose JSON is text that can be stored and sent on."""

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Yield the body, as long as it keeps within the limit."""
        limit_bytes: int = self.app.state.limit_bytes
        told, seen = self.headers.get("content-length", ""), 0
        if told.isdecimal() and int(told) > limit_bytes:
            raise _too_large(limit_bytes)
        async for chunk in super().stream():
            seen += len(chunk)
            if seen > limit_bytes:
                raise _too_large(limit_bytes)
            yield chunk

    async def json(self) -> Any:
        """Return the body as JSON; unlike the standard library's, it has no NaN and no half characters."""
        body = await self.body()
        try:
            return from_json(body, allow_inf_nan=False)
        except ValueError as error:
            raise json.JSONDecodeError(str(error), "", 0) from error


class LimitedRoute(APIRoute):
    """A route whose handlers get a `LimitedRequest`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler."""
        handle = super().get_route_handler()

        async def handle_limited(request: Request) -> Response:
            return await handle(LimitedRequest(request.scope, request.receive))

        return handle_limited


async def _body(request: Request) -> bytes:
    return await request.body()


class Endpoints:
    """What the server does with each request.

    Args:
        store: the upgrade database.
        bundles: where bundles are kept.
        orders: what operators ordered the nodes to do.
        webhooks: are asked what schedules' gates need.
    """

    def __init__(self, store: Store, bundles: Bundles, orders: OrdersForNodes, webhooks: Webhooks) -> None:
        self._webhooks = webhooks
        self._store = store
        self._bundles = bundles
        self._orders = orders
        self._heartbeats = Heartbeats(store, check_report)
        self._permits = Permits(store, webhooks.of)
        #: There is one time, the database's: another server's may differ from this one's.
        self._clock: Clock = store

    def publish_release(
        self, bundle: Annotated[bytes, Depends(_body)], sha256: SentHash, response: Response
    ) -> ReleaseNotice:
        """Make a bundle the next release of the system that its manifest names.

        Publishing the same bytes again is answered with 200; it restores the bundle if it was lost.
        """
        release, is_new = publish(self._store, self._bundles, bundle, sha256=sha256, now=self._clock.now())
        response.status_code = 201 if is_new else 200
        return notice_of(release)

    def list_releases(self, system: System) -> list[ReleaseNotice]:
        """List what was published for a system, oldest first."""
        history = self._store.history_of(system)
        if not history and not self._store.glance_at(system).is_known:
            raise _unknown_system(system)
        return [notice_of(release) for release in history]

    def fetch_bundle(self, sha256: BundleHash, seen: SeenTag = None) -> Response:
        """Return the bundle with this hash; it never changes, so a copy may be kept for ever."""
        size_bytes = self._bundles.size_of(sha256)
        if size_bytes is None:
            raise NotThereError(f"there is no bundle with SHA-256 {sha256}: publish it, or list the system's releases")
        tag = f'"{sha256}"'
        headers = {"ETag": tag, "Cache-Control": "public, max-age=31536000, immutable"}
        if seen is not None and (tag in seen or seen.strip() == "*"):
            return Response(status_code=304, headers=headers)
        headers["Content-Length"] = str(size_bytes)
        return StreamingResponse(self._bundles.read(sha256), media_type="application/octet-stream", headers=headers)

    async def report_heartbeat(self, system: System, node: NodeName, said: Heartbeat) -> HeartbeatReply:
        """Take what a node says of itself, and tell it the newest version there is.

        Counts of calls replace the earlier ones of the same process. May be repeated. Refused if the node runs what was
        never published here, was of another class, or if another agent speaks for it.
        """
        return await self._hear(Report.of(system, node, said))

    async def report_alive(self, system: System, node: NodeName, alive: Alive) -> HeartbeatReply:
        """Take it that a node says what it said before, by the tag that the last answer gave to that.

        With `full` in the answer the upgrade server asks for the whole of it; then it has taken nothing, and counts of
        calls must be sent again. May be repeated.
        """
        return await self._hear(Report(system=system, node=node, tag=alive.tag, usage=alive.usage))

    async def _hear(self, report: Report) -> HeartbeatReply:
        heard, orders = await self._heartbeats.hear(report), await self._orders.of(report.system)
        first, retry = await self._first_for(report), orders.retries.get(report.node)
        return HeartbeatReply(
            newest=heard.newest, first=first, oldest=orders.oldest, retry=retry, tag=heard.tag, full=heard.tag is None
        )

    async def _first_for(self, report: Report) -> Version:
        """Return what a node that joins begins with; 0 to all others, whom it does not concern."""
        if report.said is None or report.said.version:
            return Version(0)
        answers = self._webhooks.of(report.system)
        return await self._orders.first_of(report.system, ClassName(report.said.class_name), answers)

    async def ask_for_permit(self, system: System, node: NodeName, request: PermitRequest) -> PermitAnswer:
        """Ask whether a node may go away for its upgrade now, and how far.

        It may ask to go through several releases at once: the answer says how far the schedules let it go now.
        Answered with 200 both when it is granted and when it is not yet. Asking again gets the same permit.
        """
        verdict = await self._permits.ask(system, node, request)
        match verdict:
            case Granted(permit):
                reason = "granted"
            case Held(permit):
                reason = f"granted before, at {permit.granted_at:%H:%M:%S}"
            case NotYet(reason=reason, retry_after_s=retry_after_s, decides=None):
                return PermitAnswer(permit=None, reason=reason, retry_after_s=retry_after_s)
            case NotYet(reason=reason, retry_after_s=retry_after_s, decides=(version, picture)):
                view = await run_in_threadpool(fleet_row, picture, version, picture.at)
                return PermitAnswer(permit=None, reason=reason, retry_after_s=retry_after_s, decides=view)
        return PermitAnswer(permit=permit.id, reason=reason, retry_after_s=0, to_version=permit.to_version)

    async def return_a_permit(self, system: System, node: NodeName, permit: PermitId, how: PermitReturnRequest) -> None:
        """Tell that a node is back, upgraded or not. May be repeated: the first return counts.

        A canary's failure stops the other nodes only if it is final.
        """
        await self._permits.give_back(system, node, permit, how)

    def show_status(self, system: System) -> SystemStatus:
        """Show a system at this moment: releases, nodes, permits, calls."""
        picture = self._store.picture_of(system)
        if not picture.is_known:
            raise _unknown_system(system)
        return status_of(picture, self._store.usage_of(system), picture.at, self._webhooks.of(system))


def router_of(endpoints: Endpoints) -> APIRouter:
    """Return the routes, each with all that it can answer."""
    router = APIRouter(prefix=_PREFIX, route_class=LimitedRoute)

    def add(method: str, path: str, handler: Callable[..., Any], summary: str, *refused: int, **more: Any) -> None:
        responses = responses_of(*refused) | more.pop("responses", {})
        name = handler.__name__
        router.add_api_route(
            path, handler, methods=[method], operation_id=name, summary=summary, responses=responses, **more
        )

    again = {200: {"model": ReleaseNotice, "description": "These very bytes were published before."}}
    bytes_or_kept: _Responses = {
        200: {"description": "The bundle.", "content": _BYTES},
        304: {"description": "The copy that is there already is the bundle."},
    }
    add("POST", "/releases", endpoints.publish_release, "Publish a release", 409, 413, status_code=201,
        responses=again, openapi_extra=_BUNDLE_BODY)  # fmt: skip
    add("GET", "/systems/{system}/releases", endpoints.list_releases, "List a system's releases", 404)
    add("GET", "/bundles/{sha256}", endpoints.fetch_bundle, "Fetch a bundle", 404,
        response_class=StreamingResponse, response_model=None, responses=bytes_or_kept)  # fmt: skip
    node = _NODE
    add("POST", f"{node}/heartbeat", endpoints.report_heartbeat, "Report a node", 409, 413)
    add("POST", f"{node}/alive", endpoints.report_alive, "Report that nothing changed", 409, 413)
    add("POST", f"{node}/permits", endpoints.ask_for_permit, "Ask for a permit", 404, 409, 413)
    add("POST", f"{node}/permits/{{permit}}/return", endpoints.return_a_permit, "Return a permit", 404, 413,
        status_code=204, response_class=Response)  # fmt: skip
    add("GET", "/systems/{system}/status", endpoints.show_status, "Show a system", 404)
    return router


def quick_routes_of(endpoints: Endpoints, changed: Callable[[], None]) -> tuple[QuickRoute[Any], ...]:
    """Return the routes that every node asks all the time, for `Quick`.

    Args:
        endpoints: as the ordinary routes have them.
        changed: is called when something may have changed that watchers see.
    """
    node = f"{_PREFIX}{_NODE}"
    return (
        QuickRoute(path=f"{node}/heartbeat", message=Heartbeat, answer=endpoints.report_heartbeat, then=changed),
        QuickRoute(path=f"{node}/alive", message=Alive, answer=endpoints.report_alive),
    )


def responses_of(*refused: int) -> dict[int | str, dict[str, Any]]:
    """Return what a route may refuse with, as OpenAPI has it: `refused`, and what any route may."""
    return {status: {"model": Refusal, "description": _REFUSED[status]} for status in sorted({*refused, 422, 500, 503})}


def _unknown_system(system: SystemName) -> NotThereError:
    return NotThereError(f"no system {system} is known here: publish its first release, or check the name")


def _too_large(limit_bytes: int) -> HTTPException:
    return HTTPException(
        413, f"the body is larger than {limit_bytes} bytes: make it smaller, or raise the server's limit"
    )
