"""The rule: before a node asks for a permit, the releases on its way may say, on it, that now is not the time."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from segue.errors import PeerError
from segue.journey import AskPermit, Future, Journey, PermitGranted
from segue.model.ids import ClassName, ContentHash, NodeId, Version
from segue.model.release import Announcement
from segue.model.view import FleetView, NodeView
from segue.node import predicate
from segue.node.asking import Asking
from segue.node.control import AuthorCodeError, HostFaultError
from segue.node.execute import Executor
from segue.node.hosts import HostProcess
from segue.node.news import News
from segue.node.plan import ReleasePlan, Stage
from segue.node.predicate import objection
from segue.node.runs import Run
from segue.node.settings import NodeSettings
from segue.server.memory import MemoryStore
from segue.testing.server import bundle_of, open_bench
from segue.wire.messages import FleetNodeRow, FleetRow, Heartbeat

N1 = NodeId("n1")

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

    def __init__(self, codes: dict[int, str], functions: dict[int, str] | None = None) -> None:
        self.codes, self.functions = codes, functions or {}

    def own_function(self, release: Announcement) -> str | None:
        return self.functions.get(release.version)

    def predicate(self, release: Announcement) -> str | None:
        return self.codes.get(release.version)


class Host:
    """Answers as it is told, as the application's process does."""

    def __init__(self, answers: dict[str, str | Exception | None]) -> None:
        self.answers = answers
        self.seen: list[dict[str, Any] | None] = []

    async def objection(self, version: Version, code: str, fleet: dict[str, Any] | None = None) -> str | None:
        self.seen.append(fleet)
        answer = self.answers[code]
        if isinstance(answer, Exception):
            raise answer
        return answer


def on_its_way(*versions: int) -> Journey:
    futures = (Announcement(version=Version(one), sha256=ContentHash("a" * 64), size_bytes=1) for one in versions)
    return Journey(futures=tuple(Future(release=release, install_ms=1.0) for release in futures))


async def asked(codes: dict[int, str], answers: dict[str, str | Exception | None]) -> dict[Version, str]:
    asking = Asking(Placed(codes), N1)  # type: ignore[arg-type]
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
    asking = Asking(Placed({2: "a:b"}), N1)  # type: ignore[arg-type]
    await asking.ask(Host({"a:b": "busy"}), on_its_way(2))
    assert await asking.ask(None, on_its_way(2)) == {}
    assert asking.holds == {}


FLEET = FleetRow(
    version=3,
    at=datetime(2030, 1, 1, 12, tzinfo=UTC),
    nodes=(
        FleetNodeRow(id="n1", class_name="Notes", version=1, facts={"leader": 1.0}),
        FleetNodeRow(id="n2", class_name="Notes", version=1, attributes={"zone": "a"}, away=True),
    ),
)


async def test_a_function_sees_the_fleet() -> None:
    asking = Asking(Placed({2: "a:b"}, {3: "c:d"}), N1)  # type: ignore[arg-type]
    host = Host({"a:b": None, "c:d": "n2 is away"})
    assert not await asking.agrees(host, on_its_way(2, 3), FLEET)
    assert asking.holds == {3: "n2 is away"}
    assert host.seen[0] is not None
    view = FleetView.from_json(host.seen[0])
    assert (view.node, view.version, view.at) == ("n1", 3, FLEET.at)
    assert view.nodes[N1] == NodeView(id=N1, class_name=ClassName("Notes"), version=Version(1), facts={"leader": 1.0})
    assert view.nodes[NodeId("n2")].away
    host.answers["c:d"] = None
    assert await asking.agrees(host, on_its_way(2, 3), FLEET)
    assert asking.holds == {}


async def test_what_a_function_said_is_forgotten_when_rules_hold_the_node() -> None:
    asking = Asking(Placed({2: "a:b"}, {3: "c:d"}), N1)  # type: ignore[arg-type]
    host = Host({"a:b": "busy", "c:d": PeerError("gone")})
    assert not await asking.agrees(host, on_its_way(2, 3), FLEET)
    await asking.ask(host, on_its_way(2, 3))
    assert asking.holds == {2: "busy", 3: "c:d failed: gone"}
    asking.is_held_by_rules()
    assert asking.holds == {2: "busy"}


class Processes:
    """The one process of a node, which is always there."""

    def __init__(self, host: Host) -> None:
        self.running = {1: host}

    async def bring_back(self, at: Journey, tries: int | None = None) -> None:
        return None


@pytest.mark.parametrize("rule", ["when", "custom"])
async def test_a_node_waits_while_its_release_says_no_and_the_status_says_why(rule: str, tmp_path: Path) -> None:
    async with open_bench(MemoryStore(), tmp_path) as bench:
        await bench.server.publish(bundle_of(1))
        await bench.server.publish(bundle_of(2, schedule=f'{rule} = "a:b"'))
        settings = NodeSettings(
            server_url="http://segue", system=bench.system, class_name=ClassName("BlockNode"), node_id=N1,
            address="h:1", state=tmp_path, poll_s=0.01,
        )  # fmt: skip
        host, placed = Host({"a:b": "it leads"}), Placed({2: "a:b"} if rule == "when" else {}, {2: "a:b"})

        async def nothing_new(at: Journey) -> None:
            return None

        stand_ins: dict[str, Any] = {
            "folders": SimpleNamespace(agent=Run(folder="f1", starts=1, run="r1")), "placement": placed,
            "processes": Processes(host),
        }  # fmt: skip
        executor = Executor(
            settings=settings, server=bench.server, news=News(bench.server, bench.system), learn=nothing_new,
            clock=bench.clock, **stand_ins,
        )  # fmt: skip

        async def beat() -> str | None:
            said = Heartbeat(
                class_name="BlockNode", version=1, address="h:1", phase="waiting",
                holds={int(version): text for version, text in executor.permits.asking.holds.items()},
            )  # fmt: skip
            await bench.server.heartbeat(bench.system, N1, said)
            return (await bench.server.status(bench.system)).nodes[0].waits_for

        await beat()
        command = AskPermit(from_version=Version(1), to_version=Version(2))
        async with asyncio.TaskGroup() as tasks, asyncio.timeout(15):
            running = tasks.create_task(executor.run(command, on_its_way(2)))
            while await beat() != "the node itself: it leads":  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
            assert not running.done()
            host.answers["a:b"] = None
            granted = await running
        assert isinstance(granted, PermitGranted)
        assert granted.to_version == 2


PREDICATE = """
def not_after(fleet):
    others = [one for one in fleet.nodes.values() if one.id != fleet.node and one.facts.get("leader")]
    return bool(others) or "it leads alone"

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
    row = {"node": "n1", **FLEET.model_dump(mode="json")}
    assert await host.objection(Version(2), "notes.upgrade:not_after", row) == "it leads alone"
    assert await host.objection(Version(2), "notes.upgrade:not_after", {**row, "node": "n2"}) is None
    (Path(stage.state) / "notes").write_bytes(b"broken")
    with pytest.raises(AuthorCodeError, match="ValueError"):
        await host.objection(Version(2), "notes.upgrade:may_go")
