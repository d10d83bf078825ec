"""The way of the requests that every node makes all the time: past FastAPI, which would cost more than what they do.

Only what is right is answered here. Whatever is odd, or seems so, goes on to the ordinary route with nothing taken from
it: so there is one place that says what is refused and how, and one description of the interface.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic_core import from_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from segue.errors import SegueError
from segue.model.ids import NAME_PATTERN, NodeId, SystemName
from segue.wire.messages import Message as WireMessage

Said = TypeVar("Said", bound=WireMessage)

_JSON = b"application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuickRoute(Generic[Said]):
    """A request that a node makes all the time.

    Attributes:
        path: the ordinary route's, such as `/v1/systems/{system}/nodes/{node}/alive`; the metrics have it.
        message: what is in the body.
        answer: answers it; the ordinary route has the same one.
        then: is called before a request is answered that may have changed something; None if none can.
    """

    path: str
    message: type[Said]
    answer: Callable[[SystemName, NodeId, Said], Awaitable[WireMessage]]
    then: Callable[[], None] | None = None


class Quick:
    """Answers requests of some routes at once, and passes on all others; a part of an application.

    Args:
        app: the rest of it, which has the ordinary routes.
        routes: which are answered here; they differ in the last part of their paths.
        limit_bytes: the largest body that is taken.
        refuse: says what an error of ours is answered with.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: Sequence[QuickRoute[Any]],
        limit_bytes: int,
        refuse: Callable[[Request, Exception], Response],
    ) -> None:
        self._app = app
        self._limit_bytes = limit_bytes
        self._refuse = refuse
        self._routes = {route.path.rpartition("/")[2]: route for route in routes}
        starts = {route.path.rpartition("/")[0] for route in routes}
        assert len(starts) == 1, starts
        named = re.escape(starts.pop())
        for name in ("system", "node"):
            named = named.replace(re.escape(f"{{{name}}}"), f"(?P<{name}>{NAME_PATTERN})")
        self._path = re.compile(f"{named}/(?P<route>{'|'.join(map(re.escape, self._routes))})")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        found = self._found(scope)
        if found is None:
            await self._app(scope, receive, send)
            return
        route, system, node = found
        came, body = await self._read(receive)
        said = _understood(route, body) if body is not None else None
        if said is None:
            await self._app(scope, _again(came, receive), send)
            return
        scope["route"] = route
        try:
            answer = await route.answer(system, node, said)
        except SegueError as error:
            await self._refuse(Request(scope), error)(scope, receive, send)
            return
        if route.then is not None:
            route.then()
        content = answer.model_dump_json().encode()
        headers = [(b"content-length", b"%d" % len(content)), (b"content-type", _JSON)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})

    def _found(self, scope: Scope) -> tuple[QuickRoute[Any], SystemName, NodeId] | None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope.get("root_path"):
            return None
        match = self._path.fullmatch(scope["path"])
        if match is None or _content_type(scope) != _JSON:
            return None
        return self._routes[match["route"]], SystemName(match["system"]), NodeId(match["node"])

    async def _read(self, receive: Receive) -> tuple[list[Message], bytes | None]:
        """Return what came, and the body if that is all of it."""
        came: list[Message] = []
        size_bytes = 0
        while True:
            message = await receive()
            came.append(message)
            if message["type"] != "http.request":
                return came, None
            size_bytes += len(message.get("body", b""))
            if size_bytes > self._limit_bytes:
                return came, None
            if not message.get("more_body", False):
                return came, b"".join(one.get("body", b"") for one in came)


def _content_type(scope: Scope) -> bytes | None:
    for name, value in scope["headers"]:
        if name == b"content-type":
            told: bytes = value
            return told
    return None


def _understood(route: QuickRoute[Said], body: bytes) -> Said | None:
    """Return what the body says, by the rules of the ordinary route; None if that is to refuse it."""
    try:
        return route.message.model_validate(from_json(body, allow_inf_nan=False))
    except ValueError:  # that of pydantic is one, too
        return None


def _again(came: Sequence[Message], receive: Receive) -> Receive:
    """Return what receives again what came, and then what else comes."""
    left = iter(came)

    async def receive_again() -> Message:
        for message in left:
            return message
        return await receive()

    return receive_again
