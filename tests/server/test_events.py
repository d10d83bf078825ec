"""Rule: a watcher gets every event once and in order, however slow it is and wherever it comes back."""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.errors import PeerError
from segue.model.history import Kind
from segue.model.ids import SystemName, Version
from segue.release.bundle import content_hash
from segue.server.app import EndingServer, create_app
from segue.server.bundles import BundleFolder
from segue.server.events import PAGE, Events, last_number
from segue.server.store import Store
from segue.testing.changes import MemoryChanges
from segue.testing.server import bundle_of

SYSTEM = SystemName("blockstore")
Frames = list[dict[str, str]]


def frames(sent: bytes) -> Frames:
    """Take apart what was sent, as a browser does: comments are dropped."""
    found = []
    for block in sent.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if fields:
            found.append(fields)
    return found


async def take(stream: AsyncGenerator[bytes, None], count: int) -> Frames:
    """Read until `count` events have come; the opening is none."""
    found: Frames = []
    while len(found) < count:
        found += [frame for frame in frames(await anext(stream)) if "event" in frame]
    return found


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():  # noqa: ASYNC110 - it comes true in another thread
            await asyncio.sleep(0.001)


@pytest.fixture
def changes() -> MemoryChanges:
    return MemoryChanges()


async def test_an_event_says_what_happened(changes: MemoryChanges) -> None:
    changes.happen(SYSTEM, "published", version=Version(1), text="two\nlines", details={"size_bytes": 7})
    changes.happen(SYSTEM, "acted", who="ann", text="too many errors", details={"deed": "pause"})
    async with aclosing(await Events(changes).watch(SYSTEM, 0)) as stream:
        assert frames(await anext(stream)) == [{"retry": "2000", "id": "0"}]
        first, second = await take(stream, 2)
    assert (first["id"], first["event"], second["id"], second["event"]) == ("1", "published", "2", "acted")
    assert json.loads(first["data"]) == {
        "system": "blockstore", "number": 1, "at": "2030-01-01T12:00:01+00:00", "kind": "published", "node": None,
        "version": 1, "who": "", "text": "two\nlines", "details": {"size_bytes": 7},
    }  # fmt: skip
    assert json.loads(second["data"])["who"] == "ann"


async def test_without_a_number_a_stream_begins_now(changes: MemoryChanges) -> None:
    changes.happen(SYSTEM, "published")
    events = Events(changes, poll_s=0.01)
    async with aclosing(await events.watch(SYSTEM, None)) as stream:
        assert frames(await anext(stream)) == [{"retry": "2000", "id": "1"}]
        changes.happen(SYSTEM, "granted")
        assert [frame["id"] for frame in await take(stream, 1)] == ["2"]


async def test_what_this_server_writes_is_seen_at_once(changes: MemoryChanges) -> None:
    """No look is due for an hour: only the ring can have told."""
    events = Events(changes, poll_s=3600)
    async with aclosing(await events.watch(SYSTEM, 0)) as stream:
        await anext(stream)
        changes.reads = 0
        async with asyncio.TaskGroup() as tasks:
            coming = tasks.create_task(take(stream, 1))
            await until(lambda: changes.reads > 0)
            changes.happen(SYSTEM, "granted")
            events.ring()
        assert [frame["event"] for frame in coming.result()] == ["granted"]


async def test_what_another_server_writes_is_seen_by_a_look(changes: MemoryChanges) -> None:
    async with aclosing(await Events(changes, poll_s=0.01).watch(SYSTEM, 0)) as stream:
        await anext(stream)
        for number in range(1, 4):
            changes.happen(SYSTEM, "granted")
            assert [frame["id"] for frame in await take(stream, 1)] == [str(number)]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 2 * PAGE), st.booleans()), min_size=1, max_size=5))
def test_a_watcher_that_comes_and_goes_misses_nothing(visits: list[tuple[int, bool]]) -> None:
    """It takes so many pages and breaks off, to come back to one of two servers; things happen meanwhile."""

    async def go() -> list[int]:
        changes = MemoryChanges()
        servers = [Events(changes, poll_s=0.001, gap_s=0.0) for _ in range(2)]
        got: list[int] = []
        last = 0
        for happened, server in visits:
            for _ in range(happened):
                changes.happen(SYSTEM, "phase")
            async with aclosing(await servers[server].watch(SYSTEM, last)) as stream:
                await anext(stream)
                got += [int(frame["id"]) for frame in await take(stream, 1)]
            last = got[-1]
        async with aclosing(await servers[0].watch(SYSTEM, last)) as stream:
            await anext(stream)
            while last < last_number(changes, SYSTEM):
                got += [int(frame["id"]) for frame in await take(stream, 1)]
                last = got[-1]
        return got

    total = sum(happened for happened, _ in visits)
    assert asyncio.run(go()) == list(range(1, total + 1))


async def test_a_slow_watcher_costs_a_page_and_is_in_nobodys_way(changes: MemoryChanges) -> None:
    for _ in range(20 * PAGE):
        changes.happen(SYSTEM, "phase")
    events = Events(changes)
    async with aclosing(await events.watch(SYSTEM, 0)) as slow, aclosing(await events.watch(SYSTEM, 0)) as quick:
        await anext(slow)
        await anext(quick)
        one_page = await anext(slow)
        assert len(frames(one_page)) == PAGE
        before = changes.reads
        assert len(await take(quick, 20 * PAGE)) == 20 * PAGE
        assert changes.reads - before <= 20  # nothing was read ahead for the slow one
        assert (await take(slow, 1))[0]["id"] == str(PAGE + 1)


async def test_many_who_watch_read_the_history_once(changes: MemoryChanges) -> None:
    events = Events(changes, poll_s=3600)
    streams = [await events.watch(SYSTEM, 0) for _ in range(50)]
    for stream in streams:
        await anext(stream)
    changes.reads = 0
    async with asyncio.TaskGroup() as tasks:
        coming = [tasks.create_task(take(stream, 1)) for stream in streams]
        await until(lambda: changes.reads > 0)
        changes.happen(SYSTEM, "granted")
        events.ring()
    assert all(one.result()[0]["event"] == "granted" for one in coming)
    assert changes.reads <= 5
    for stream in streams:
        await stream.aclose()


async def test_a_number_that_is_not_of_this_history_is_told(changes: MemoryChanges) -> None:
    """The database was put back from a backup, say: what the watcher knows did not happen here."""
    changes.happen(SYSTEM, "published")
    async with aclosing(await Events(changes, poll_s=0.01).watch(SYSTEM, 500)) as stream:
        await anext(stream)
        (reset,) = await take(stream, 1)
        assert (reset["event"], reset["id"]) == ("reset", "1")
        assert json.loads(reset["data"]) == {"system": "blockstore", "asked_after": 500, "last": 1}
        changes.happen(SYSTEM, "granted")
        assert [frame["id"] for frame in await take(stream, 1)] == ["2"]


async def test_something_is_sent_now_and_then(changes: MemoryChanges) -> None:
    async with aclosing(await Events(changes, poll_s=0.001, gap_s=0.0, keep_alive_s=0.01).watch(SYSTEM, 0)) as stream:
        await anext(stream)
        assert await anext(stream) == b": still here\n\n"


async def test_a_database_that_does_not_answer_ends_no_stream(changes: MemoryChanges) -> None:
    events = Events(changes, poll_s=0.01, gap_s=0.0)
    async with aclosing(await events.watch(SYSTEM, 0)) as stream:
        await anext(stream)
        changes.is_away = True
        changes.happen(SYSTEM, "granted")
        async with asyncio.TaskGroup() as tasks:
            coming = tasks.create_task(take(stream, 1))
            await until(lambda: changes.refusals > 2)
            assert not coming.done()
            changes.is_away = False
        assert [frame["id"] for frame in coming.result()] == ["1"]
        changes.is_away = True
        with pytest.raises(PeerError):
            await events.watch(SYSTEM, 0)


async def test_streams_have_a_limit_and_are_counted(changes: MemoryChanges) -> None:
    counted: list[int] = []
    events = Events(changes, count=counted.append, watchers_limit=1)
    async with aclosing(await events.watch(SYSTEM, 0)) as stream:
        await anext(stream)
        with pytest.raises(PeerError, match="1 watchers"):
            await events.watch(SYSTEM, 0)
    assert counted == [1, -1]
    async with aclosing(await events.watch(SYSTEM, 0)) as stream:
        await anext(stream)


async def test_streams_end_when_the_server_stops(changes: MemoryChanges) -> None:
    events = Events(changes, poll_s=3600)
    stream = await events.watch(SYSTEM, 0)
    await anext(stream)
    changes.reads = 0
    async with asyncio.TaskGroup() as tasks:
        rest = tasks.create_task(_to_the_end(stream))
        await until(lambda: changes.reads > 0)
        events.end()
    assert rest.result() == []


async def _to_the_end(stream: AsyncIterator[bytes]) -> list[bytes]:
    return [sent async for sent in stream]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["phase", "granted"]), max_size=40), st.booleans())
def test_the_last_number_is_found(kinds: list[str], forget: bool) -> None:
    """Also where old changes have gone; if the last of all has, its number is not needed."""
    changes = MemoryChanges()
    numbers = [changes.happen(SYSTEM, kind).number for kind in kinds]
    if forget:
        changes.forget(SYSTEM, "phase")
        numbers = [number for number, kind in zip(numbers, kinds, strict=True) if kind != "phase"]
    assert last_number(changes, SYSTEM) == max(numbers, default=0)


@asynccontextmanager
async def real_server(app: FastAPI) -> AsyncIterator[str]:
    config = uvicorn.Config(app, port=0, lifespan="off", log_level="warning", access_log=False)
    server = EndingServer(config, app.state.events)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(server.serve())
        await until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            await running


@pytest.fixture
def app(store: Store, tmp_path: Path) -> FastAPI:
    return create_app(store, BundleFolder(tmp_path))


async def publish(http: httpx.AsyncClient, *versions: int) -> None:
    for version in versions:
        bundle = bundle_of(version)
        answer = await http.post("/v1/releases", params={"sha256": content_hash(bundle)}, content=bundle)
        assert answer.status_code == 201


PAGE_TEXT = (Path(__file__).parents[2] / "docs" / "events.md").read_text()


def test_the_page_has_every_kind_of_event() -> None:
    told = re.findall(r"^\| `(\w+)` \|", PAGE_TEXT.partition("| kind |")[2], re.MULTILINE)
    assert told == [kind.value for kind in Kind]


PATH = "/v1/systems/blockstore/events"


async def test_a_browser_comes_back_with_the_last_id(app: FastAPI) -> None:
    async with real_server(app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        assert (await http.get(PATH)).status_code == 404
        await publish(http, 1, 2, 3)
        async with http.stream("GET", PATH, headers={"Last-Event-ID": "2"}, params={"after": "0"}) as response:
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            assert response.headers["cache-control"] == "no-store"
            lines = response.aiter_lines()
            got = [await anext(lines) for _ in range(6)]
            assert got[:5] == ["retry: 2000", "id: 2", "", "id: 3", "event: published"]
            assert json.loads(got[5].removeprefix("data: "))["version"] == 3
            assert "segue_event_watchers 1.0\n" in (await http.get("/metrics")).text
        for wrong in ("-1", "x", str(2**63)):
            assert (await http.get(PATH, params={"after": wrong})).status_code == 422
            assert (await http.get(PATH, headers={"Last-Event-ID": wrong})).status_code == 422
        await until(lambda: repr(app.state.events) == "Events(0 watchers)")
        assert "segue_event_watchers 0.0\n" in (await http.get("/metrics")).text


async def test_a_request_that_changes_something_rings(app: FastAPI) -> None:
    """No look is due for an hour: only the ring can have told."""
    async with real_server(app) as url, httpx.AsyncClient(base_url=url, trust_env=False) as http:
        await publish(http, 1)
        app.state.events._poll_s = 3600
        async with http.stream("GET", PATH) as response:
            lines = response.aiter_lines()
            assert [await anext(lines) for _ in range(3)] == ["retry: 2000", "id: 1", ""]
            await publish(http, 2)
            assert [await anext(lines) for _ in range(2)] == ["id: 2", "event: published"]


async def test_a_stop_ends_streams_as_they_should(app: FastAPI) -> None:
    """The watcher sees a whole answer, not a connection that breaks off, and the server does not wait for it."""
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.TaskGroup() as tasks:
        began = asyncio.Event()
        async with real_server(app) as url:
            async with httpx.AsyncClient(base_url=url, trust_env=False) as publisher:
                await publish(publisher, 1)
            reading = tasks.create_task(_read_all(http, url + PATH, began))
            await began.wait()
        assert (await reading).startswith(b"retry: 2000")


async def _read_all(http: httpx.AsyncClient, url: str, began: asyncio.Event) -> bytes:
    found = b""
    async with http.stream("GET", url) as response:
        async for chunk in response.aiter_raw():
            found += chunk
            began.set()
    return found
