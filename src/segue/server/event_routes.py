"""The HTTP side of the stream of events: what a watcher asks, how the stream begins and ends, and what rings."""

from collections.abc import AsyncGenerator, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segue.model.ids import NAME_PATTERN, SystemName
from segue.server.events import Events
from segue.wire.messages import Refusal

_System = Annotated[SystemName, Path(pattern=f"^{NAME_PATTERN}$", description="The system's name.")]
_NUMBER_LIMIT = 2**63 - 1
_After = Annotated[
    int | None,
    Query(
        ge=0,
        le=_NUMBER_LIMIT,
        description="The number of the last event that is known, 0 for all; without it, those from now on.",
    ),
]
_LastEventId = Annotated[
    int | None,
    Header(
        alias="Last-Event-ID",
        ge=0,
        le=_NUMBER_LIMIT,
        description="The same, as browsers send it when they come back; it counts before `after`.",
    ),
]
_REFUSED = {
    404: "It is not in the upgrade database.",
    422: "A field is wrong: the message names it, its value, and what was expected.",
    500: "A fault of the upgrade server itself: its log says more.",
    503: "The upgrade database does not answer now, or too many watch: try again.",
}
#: Not kept by anybody, and sent on by nginx as it comes.
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def events_router(events: Events, check_known: Callable[[SystemName], object]) -> APIRouter:
    """Return the route of the stream.

    Args:
        events: the streams.
        check_known: raises `NotThereError` for a system that nothing is known of; called in a thread.
    """

    async def watch_events(
        system: _System, after: _After = None, last_event_id: _LastEventId = None
    ) -> StreamingResponse:
        """Stream what happens to a system, as server-sent events: see docs/events.md.

        The stream ends when the server stops, and never else. A watcher that comes back with the id of the last event
        that it has misses none, at whichever server of the database.
        """
        await run_in_threadpool(check_known, system)
        return _EventStream(await events.watch(system, after if last_event_id is None else last_event_id))

    responses: dict[int | str, dict[str, Any]] = {
        status: {"model": Refusal, "description": words} for status, words in _REFUSED.items()
    }
    responses[200] = {
        "description": "The events, without end.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
    router = APIRouter(prefix="/v1")
    router.add_api_route(
        "/systems/{system}/events", watch_events, methods=["GET"], operation_id="watch_events",
        summary="Watch a system", responses=responses, response_class=StreamingResponse, response_model=None,
    )  # fmt: skip
    return router


class _EventStream(StreamingResponse):
    """Sends a stream, and closes it however the connection ends."""

    def __init__(self, stream: AsyncGenerator[bytes, None]) -> None:
        super().__init__(stream, media_type="text/event-stream", headers=_HEADERS)
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all of it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._stream.aclose()


class Ringing:
    """Has watchers look as soon as a request that may have changed something is answered; a part of an application.

    Args:
        app: the application.
        events: its streams.
    """

    def __init__(self, app: ASGIApp, events: Events) -> None:
        self._app = app
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or scope["method"] == "GET":
            await self._app(scope, receive, send)
            return

        async def ring(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._events.ring()
            await send(message)

        await self._app(scope, receive, ring)
