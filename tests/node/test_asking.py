"""The rule: before a node asks for a permit, the releases on its way may say, on it, that now is not the time."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from segue.errors import PeerError
from segue.journey import Future, Journey
from segue.model.ids import ContentHash, Version
from segue.model.release import Announcement
from segue.node import predicate
from segue.node.asking import Asking
from segue.node.control import AuthorCodeError, HostFaultError
from segue.node.hosts import HostProcess
from segue.node.plan import ReleasePlan, Stage
from segue.node.predicate import objection

OBJECT = SimpleNamespace(sessions=3)


async def drained(node: Any) -> bool | str:
    await asyncio.sleep(0)
    return node.sessions == 0 or f"{node.sessions} sessions\nare open"


async def never(node: Any) -> bool:
    await asyncio.Event().wait()
    return True


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (lambda node: True, None),
        (lambda node: False, "not now"),
        (lambda node: " ", "not now"),
        (lambda node: f"{node.sessions} sessions", "3 sessions"),
        (drained, "3 sessions are open"),
        (lambda node: drained(node), "3 sessions are open"),
    ],
)
async def test_what_a_predicate_says(asked: Callable[[Any], Any], text: str | None) -> None:
    assert await objection(asked, OBJECT) == text


@pytest.mark.parametrize("said", [None, 1, 0, [], object()])
async def test_what_it_may_not_return(said: object) -> None:
    """A function that forgets to return would else let everybody go."""
    with pytest.raises(TypeError, match="let it return True, or False or text"):
        await objection(lambda node: said, OBJECT)


async def test_one_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicate, "TIMEOUT_S", 0.01)
    with pytest.raises(TimeoutError):
        await objection(never, OBJECT)


class Placed:
    """Knows the predicates of releases, as a placement does."""

    def __init__(self, codes: dict[int, str]) -> None:
        self.codes = codes

    def predicate(self, release: Announcement) -> str | None:
        return self.codes.get(release.version)


class Host:
    """Answers as it is told, as the application's process does."""

    def __init__(self, answers: dict[str, str | Exception | None]) -> None:
        self.answers = answers

    async def objection(self, version: Version, code: str) -> str | None:
        answer = self.answers[code]
        if isinstance(answer, Exception):
            raise answer
        return answer


def on_its_way(*versions: int) -> Journey:
    futures = (Announcement(version=Version(one), sha256=ContentHash("a" * 64), size_bytes=1) for one in versions)
    return Journey(futures=tuple(Future(release=release, install_ms=1.0) for release in futures))


async def asked(codes: dict[int, str], answers: dict[str, str | Exception | None]) -> dict[Version, str]:
    asking = Asking(Placed(codes))  # type: ignore[arg-type]
    said = await asking.ask(Host(answers), on_its_way(2, 3, 4))
    assert asking.holds == said
    return said


async def test_each_release_on_the_way_is_asked() -> None:
    assert await asked({2: "a:b", 4: "c:d"}, {"a:b": "busy", "c:d": None}) == {2: "busy"}
    assert await asked({2: "a:b", 4: "c:d"}, {"a:b": None, "c:d": "x" * 999}) == {4: "x" * 300}
    assert await asked({}, {}) == {}


@pytest.mark.parametrize("error", [AuthorCodeError("ValueError: 3"), PeerError("gone"), HostFaultError("gone")])
async def test_one_that_fails_says_not_now(error: Exception) -> None:
    assert await asked({2: "a:b"}, {"a:b": error}) == {2: f"a:b failed: {error}"}


async def test_a_node_that_is_down_has_nothing_to_lose() -> None:
    asking = Asking(Placed({2: "a:b"}))  # type: ignore[arg-type]
    await asking.ask(Host({"a:b": "busy"}), on_its_way(2))
    assert await asking.ask(None, on_its_way(2)) == {}
    assert asking.holds == {}


PREDICATE = """
async def may_go(node):
    said = node.path.read_bytes() if node.path.exists() else b""
    if said == b"broken":
        raise ValueError(said)
    return said.endswith(b"bye") or f"{len(said)} bytes were said"
"""


@pytest.mark.timeout(60)
async def test_the_new_releases_code_asks_the_object_that_serves(
    spawn: Callable[..., Awaitable[HostProcess]],
    stage: Stage,
    say: Callable[..., Awaitable[bytes]],
    make_release: Callable[..., ReleasePlan],
) -> None:
    """It is not in the release that runs: it came with the next one."""
    host = await spawn()
    await host.warm()
    await host.start(stage)
    await host.serve()
    with pytest.raises(PeerError, match="version 2 is not answered here yet"):
        await host.objection(Version(2), "notes.upgrade:may_go")
    future = make_release(2)
    path = Path(future.folder) / "notes" / "upgrade.py"
    path.write_text(path.read_text() + PREDICATE)
    await host.install(future)
    await say(b"hello")
    assert await host.objection(Version(2), "notes.upgrade:may_go") == "5 bytes were said"
    await say(b", bye")
    assert await host.objection(Version(2), "notes.upgrade:may_go") is None
    (Path(stage.state) / "notes").write_bytes(b"broken")
    with pytest.raises(AuthorCodeError, match="ValueError"):
        await host.objection(Version(2), "notes.upgrade:may_go")
