"""Rule: a webhook that does not say yes in time and in so many words holds a release, and it is told why."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from segue.errors import PeerError
from segue.model.fleet import Answer
from segue.model.ids import SystemName, Version
from segue.server.webhooks import Webhooks
from segue.testing.server import Bench, HeldClock, bundle_of

SYSTEM, TWO = SystemName("blockstore"), Version(2)


class Hook:
    """A webhook on this machine: answers what it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.status, self.body = 200, b'{"go": true}'
        self.wait = threading.Event()
        self.wait.set()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                hook.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                hook.wait.wait(10)
                self.send_response(hook.status)
                self.send_header("content-length", str(len(hook.body)))
                self.end_headers()
                self.wfile.write(hook.body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/go"

    def close(self) -> None:
        self.wait.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def hook() -> Iterator[Hook]:
    hook = Hook()
    yield hook
    hook.close()


@pytest.fixture
def clock() -> HeldClock:
    return HeldClock()


@pytest.fixture
def webhooks(clock: HeldClock, hook: Hook) -> Iterator[Webhooks]:
    webhooks = Webhooks(clock, keep_s=30, timeout_s=5, steady=clock.steady)
    yield webhooks
    hook.wait.set()
    webhooks.close()


def answer(webhooks: Webhooks, url: str, until: Callable[[Answer], bool] = lambda answer: True) -> Answer:
    """Ask again until there is an answer as it is wanted."""
    ends = time.monotonic() + 15
    while time.monotonic() < ends:
        found = webhooks.of(SYSTEM).get((url, TWO))
        if found is not None and until(found):
            return found
        time.sleep(0.01)
    raise AssertionError(found)


def test_nobody_waits_for_it(webhooks: Webhooks, hook: Hook, clock: HeldClock) -> None:
    hook.wait.clear()
    assert webhooks.of(SYSTEM).get((hook.url, TWO)) is None
    hook.wait.set()
    assert answer(webhooks, hook.url) == Answer(says=True, since=clock.now(), text="")
    assert hook.asked == [{"system": "blockstore", "version": 2}]


def test_it_says_no_with_its_reason(webhooks: Webhooks, hook: Hook, clock: HeldClock) -> None:
    hook.body = b'{"go": false, "reason": "build 7\\nis red", "more": 1}'
    assert answer(webhooks, hook.url) == Answer(says=False, since=clock.now(), text="build 7 is red")


@pytest.mark.parametrize(
    ("status", "body", "text"),
    [
        (500, b"{}", "it answered with status 500"),
        (301, b'{"go": true}', "it answered with status 301"),
        (204, b"", "it answered with status 204"),
        (200, b"yes", "its answer is not JSON: "),
        (200, b"\xff\xfe", "its answer is not JSON: "),
        (200, b'{"go": "true"}', 'its answer is not {"go": true} or '),
        (200, b"[true]", 'its answer is not {"go": true} or '),
        (200, b'{"go": true, "reason": 3}', 'its answer is not {"go": true} or '),
        (200, b" " * 70_000, "its answer is longer than 65536 bytes"),
    ],
)
def test_what_is_no_answer(webhooks: Webhooks, hook: Hook, status: int, body: bytes, text: str) -> None:
    hook.status, hook.body = status, body
    found = answer(webhooks, hook.url)
    assert found.says is None
    assert found.text.startswith(text)


def test_one_that_cannot_be_reached(webhooks: Webhooks, hook: Hook) -> None:
    hook.close()
    found = answer(webhooks, hook.url)
    assert (found.says, found.text[:20]) == (None, "it cannot be reached")


def test_one_that_takes_too_long(hook: Hook, clock: HeldClock) -> None:
    hook.wait.clear()
    webhooks = Webhooks(clock, timeout_s=0.05)
    found = answer(webhooks, hook.url)
    assert (found.says, found.text) == (None, "it took longer than 0.05 s")
    hook.wait.set()
    webhooks.close()


def test_it_is_asked_again_before_its_answer_is_too_old(webhooks: Webhooks, hook: Hook, clock: HeldClock) -> None:
    first = answer(webhooks, hook.url)
    clock.move(14)
    assert answer(webhooks, hook.url) == first
    assert len(hook.asked) == 1
    clock.move(1)
    hook.body = b'{"go": false}'
    assert webhooks.of(SYSTEM).get((hook.url, TWO)) == first  # it holds until the next one is there
    assert answer(webhooks, hook.url, lambda found: found.says is False).since == clock.now()
    assert len(hook.asked) == 2


def test_an_old_yes_is_no_yes(webhooks: Webhooks, hook: Hook, clock: HeldClock) -> None:
    answer(webhooks, hook.url)
    clock.move(30)
    hook.wait.clear()
    found = webhooks.of(SYSTEM).get((hook.url, TWO))
    assert found is not None
    assert (found.says, found.text) == (None, "its last answer is too old, and it is asked again")
    hook.wait.set()
    assert answer(webhooks, hook.url, lambda found: found.says is True)


@pytest.mark.parametrize("jump_s", [3600, -3600])
@pytest.mark.parametrize("says", [True, False])
def test_how_old_an_answer_is_does_not_depend_on_the_clock(
    webhooks: Webhooks, hook: Hook, clock: HeldClock, says: bool, jump_s: float
) -> None:
    """A yes that was given before the clock was set back would else hold until the clock is there again."""
    hook.body = json.dumps({"go": says}).encode()
    first = answer(webhooks, hook.url)
    clock.jump(jump_s)
    assert webhooks.of(SYSTEM).get((hook.url, TWO)) == first
    clock.move(30)
    hook.wait.clear()
    found = webhooks.of(SYSTEM).get((hook.url, TWO))
    assert found is not None
    assert (found.says, found.since) == (None, first.since)
    hook.body = json.dumps({"go": not says}).encode()
    hook.wait.set()
    assert answer(webhooks, hook.url, lambda found: found.says is (not says)).since == clock.now()


def test_what_nobody_wants_to_know_any_more_is_not_kept(webhooks: Webhooks, hook: Hook, clock: HeldClock) -> None:
    """A server that runs for years sees many releases."""
    answer(webhooks, hook.url)
    clock.move(3600)
    webhooks.of(SYSTEM).get((hook.url, Version(3)))
    ends = time.monotonic() + 15
    while repr(webhooks) != "Webhooks(1 known, 0 asked)":
        assert time.monotonic() < ends, webhooks
        time.sleep(0.01)


def test_it_is_asked_again_though_the_database_does_not_tell_the_time(hook: Hook) -> None:
    """Whose clock says since when an answer holds."""

    class Away(HeldClock):
        def now(self) -> datetime:
            if len(hook.asked) < 2:
                raise PeerError("the database does not answer")
            return super().now()

    webhooks = Webhooks(Away())
    assert answer(webhooks, hook.url).says is True
    webhooks.close()


def test_the_same_answer_holds_since_it_was_first_given(webhooks: Webhooks, hook: Hook, clock: HeldClock) -> None:
    first = answer(webhooks, hook.url)
    clock.move(20)
    answer(webhooks, hook.url)
    ends = time.monotonic() + 15
    while len(hook.asked) < 2:
        assert time.monotonic() < ends
        time.sleep(0.01)
    clock.move(25)  # the first answer would be too old by now
    assert answer(webhooks, hook.url, lambda found: found.says is True).since == first.since


async def test_a_gate_of_a_schedule(bench: Bench, hook: Hook) -> None:
    hook.body = b'{"go": false, "reason": "build 7 is red"}'
    await bench.server.publish(bundle_of(1))
    await bench.server.publish(bundle_of(2, schedule=f'gate = "{hook.url}"'))
    await bench.beat("n1")
    assert (await bench.ask("n1")).reason == f"{hook.url} was not asked yet"
    async with asyncio.timeout(15):
        while "says no" not in (said := (await bench.ask("n1")).reason):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)
    assert said == f"{hook.url} says no since 12:00:00 UTC: build 7 is red"
    hook.body = b'{"go": true}'
    bench.clock.move(15)
    async with asyncio.timeout(15):
        while (await bench.ask("n1")).permit is None:
            await bench.beat("n1")
            await asyncio.sleep(0.01)
    assert hook.asked[0] == {"system": "blockstore", "version": 2}
