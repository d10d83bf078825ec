"""Rule: nobody can tell from an answer whether a heartbeat went the quick way or that of all other requests."""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from segue.errors import PeerError
from segue.model.ids import NodeId, SystemName
from segue.release.bundle import content_hash
from segue.server.app import create_app
from segue.server.bundles import BundleFolder
from segue.server.facts import Heard, Report
from segue.server.memory import MemoryStore
from segue.server.publication import publish
from segue.server.quick import Quick, QuickRoute
from segue.server.store import Greet, welcome
from segue.testing.server import HeldClock, bundle_of
from segue.wire.messages import Alive, Heartbeat

LIMIT_BYTES = 2000
SAID: Mapping[str, Any] = {"class_name": "BlockNode", "version": 1, "address": "h:1", "phase": "serving"}
USAGE: Mapping[str, Any] = {
    "incarnation": "i", "node_version": 1, "caller_version": 1, "caller": "c", "method": "/a.B/C",
    "answered_by": "current", "from_node": False, "outcome": "OK", "count": 3,
}  # fmt: skip
HEARTBEAT = "/v1/systems/blockstore/nodes/n1/heartbeat"
ALIVE = "/v1/systems/blockstore/nodes/n1/alive"
JSON = {"content-type": "application/json"}


class FaultyStore(MemoryStore):
    """A store that raises `fault`, if there is one, when nodes are heard."""

    fault: Exception | None = None

    def hear(self, reports: Sequence[Report], greet: Greet = welcome) -> tuple[Heard, ...]:
        if self.fault is not None:
            raise self.fault
        return super().hear(reports, greet)


@dataclass(frozen=True, slots=True)
class Way:
    """An application, and the store that it has."""

    app: FastAPI
    store: FaultyStore


def way(folder: Path, *, quick: bool) -> Way:
    store = FaultyStore()
    store.clock = HeldClock()
    bundle = bundle_of(1)
    publish(store, BundleFolder(folder), bundle, sha256=content_hash(bundle), now=store.clock.now())
    app = create_app(store, BundleFolder(folder), limit_bytes=LIMIT_BYTES)
    there = len(app.user_middleware)
    if not quick:
        app.user_middleware = [one for one in app.user_middleware if "refuse" not in one.kwargs]
        assert len(app.user_middleware) == there - 1
    return Way(app, store)


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> tuple[Way, Way]:
    """The quick way, and an application that has none; both are asked for the same, so they know the same."""
    folder = tmp_path_factory.mktemp("bundles")
    return way(folder, quick=True), way(folder, quick=False)


def client_of(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(base_url="http://segue", transport=transport)


async def both(ways: Sequence[Way], path: str, *, method: str = "POST", **more: Any) -> httpx.Response:
    """Ask both ways for the same, and return what both answered."""
    answers = []
    for one in ways:
        async with client_of(one.app) as http:
            answers.append(await http.request(method, path, **more))
    quick, ordinary = ((answer.status_code, dict(answer.headers), answer.content) for answer in answers)
    assert quick == ordinary
    return answers[0]


def body(value: object) -> dict[str, Any]:
    return {"content": json.dumps(value), "headers": JSON}


async def in_pieces() -> AsyncIterator[bytes]:
    text = json.dumps(SAID).encode()
    for begin in range(0, len(text), 7):
        yield text[begin : begin + 7]


async def much_in_pieces() -> AsyncIterator[bytes]:
    for _ in range(30):
        yield b"x" * 100


@pytest.mark.parametrize(
    ("status", "method", "path", "more"),
    [
        (200, "POST", HEARTBEAT, body(SAID)),
        (200, "POST", HEARTBEAT, body({**SAID, "usage": [USAGE], "mood": "fine"})),
        (200, "POST", f"{HEARTBEAT}?x=1", body(SAID)),
        (200, "POST", ALIVE, body({"tag": "unknown"})),
        (200, "POST", HEARTBEAT, {"json": SAID, "headers": {"content-type": "application/json; charset=utf-8"}}),
        (409, "POST", HEARTBEAT, body({**SAID, "version": 7})),
        (413, "POST", HEARTBEAT, body({**SAID, "address": "x" * LIMIT_BYTES})),
        (422, "POST", HEARTBEAT, body({**SAID, "version": "1"})),
        (422, "POST", HEARTBEAT, body({**SAID, "version": -1, "phase": None, "address": 3, "class_name": "?"})),
        (422, "POST", HEARTBEAT, body([SAID])),
        (422, "POST", HEARTBEAT, body({})),
        (422, "POST", HEARTBEAT, {"content": b"", "headers": JSON}),
        (422, "POST", HEARTBEAT, {"content": b"{", "headers": JSON}),
        (422, "POST", HEARTBEAT, {"content": b'{"mood": NaN}', "headers": JSON}),
        (422, "POST", HEARTBEAT, {"content": b'{"mood": "\\ud800"}', "headers": JSON}),
        (422, "POST", HEARTBEAT, {"content": b"\xff", "headers": JSON}),
        (422, "POST", HEARTBEAT, {"content": json.dumps(SAID), "headers": {"content-type": "text/plain"}}),
        (422, "POST", HEARTBEAT, {"content": json.dumps(SAID)}),
        (422, "POST", "/v1/systems/blockstore/nodes/-n/heartbeat", body(SAID)),
        (422, "POST", f"/v1/systems/{'x' * 64}/nodes/n1/alive", body({"tag": "t"})),
        (422, "POST", "/v1/systems/blockstore/nodes/n1%0A/alive", body({"tag": "t"})),
        (422, "POST", ALIVE, body({"tag": ""})),
        (422, "POST", ALIVE, body({"tag": "t", "usage": [{**USAGE, "count": -1}]})),
        (404, "POST", "/v1/systems/blockstore/nodes/a%2Fb/heartbeat", body(SAID)),
        (404, "POST", "/v2/systems/blockstore/nodes/n1/heartbeat", body(SAID)),
        (405, "GET", HEARTBEAT, {}),
        (405, "PUT", ALIVE, body({"tag": "t"})),
    ],
)  # fmt: skip
async def test_each_request(ways: Sequence[Way], status: int, method: str, path: str, more: dict[str, Any]) -> None:
    answer = await both(ways, path, method=method, **more)
    assert answer.status_code == status, answer.text


async def test_that_nothing_changed(ways: Sequence[Way]) -> None:
    tag = (await both(ways, HEARTBEAT, **body(SAID))).json()["tag"]
    same = (await both(ways, ALIVE, **body({"tag": tag, "usage": [USAGE]}))).json()
    assert (same["tag"], same["full"]) == (tag, False)
    assert (await both(ways, ALIVE, **body({"tag": "another"}))).json()["full"]


@pytest.mark.parametrize(("pieces", "status"), [(in_pieces, 200), (much_in_pieces, 413)])
async def test_a_body_in_pieces(ways: Sequence[Way], pieces: Callable[[], AsyncIterator[bytes]], status: int) -> None:
    """Its length is not told beforehand, and what was taken in is not lost to the ordinary route."""
    for one in ways:
        async with client_of(one.app) as http:
            answer = await http.post(HEARTBEAT, content=pieces(), headers=JSON)
        assert answer.status_code == status


VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**31) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@settings(max_examples=60, deadline=None)
@given(
    changes=st.dictionaries(st.sampled_from([*Heartbeat.model_fields, "tag", "new"]), VALUE, max_size=3),
    alive=st.booleans(),
)
async def test_any_fields(ways: Sequence[Way], changes: dict[str, Any], alive: bool) -> None:
    start = {"tag": "said-1"} if alive else SAID
    await both(ways, ALIVE if alive else HEARTBEAT, **body({**start, **changes}))


@pytest.mark.parametrize(
    ("fault", "status"), [(PeerError("away", retry_after_s=7), 503), (RuntimeError("a secret of the server"), 500)]
)
@pytest.mark.parametrize(("path", "said"), [(HEARTBEAT, SAID), (ALIVE, {"tag": "t"})])
async def test_faults(
    ways: Sequence[Way], fault: Exception, status: int, path: str, said: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in ways:
        monkeypatch.setattr(one.store, "fault", fault)
    answer = await both(ways, path, **body(said))
    assert (answer.status_code, answer.headers.get("retry-after")) == (status, "7" if status == 503 else None)


async def answer_alive(_system: SystemName, _node: NodeId, alive: Alive) -> Alive:
    return alive


async def test_what_is_right_goes_no_further() -> None:
    """Else it would be no quicker, and nothing else here would show that."""

    async def stop(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise AssertionError("it went on")

    def refuse(_request: Request, error: Exception) -> Response:
        raise AssertionError("it was refused") from error

    route = QuickRoute(path="/of/{system}/{node}/alive", message=Alive, answer=answer_alive)
    quick = Quick(stop, routes=(route,), limit_bytes=100, refuse=refuse)
    async with httpx.AsyncClient(base_url="http://segue", transport=httpx.ASGITransport(quick)) as http:
        answer = await http.post("/of/s/n/alive", **body({"tag": "t"}))
        assert answer.json() == {"tag": "t", "usage": []}
        with pytest.raises(AssertionError, match="it went on"):
            await http.post("/of/s/n/alive", **body({"tag": 1}))
