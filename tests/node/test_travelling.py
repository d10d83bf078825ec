"""A node's way through several releases, step by step: real processes of the application, a real upgrade server."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, closing
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest

from segue import RefusalReason, journey, refusal_of
from segue.journey import Phase
from segue.model.ids import ClassName, NodeId, SystemName, Version
from segue.node.execute import Executor
from segue.node.folders import Folders, Identity
from segue.node.hosts import HostProcess, Hosts
from segue.node.news import News
from segue.node.placement import Placement
from segue.node.plan import HandOverMode, HostPlan
from segue.node.processes import Processes
from segue.node.settings import NodeSettings
from segue.release.bundle import build
from segue.server.memory import MemoryStore
from segue.testing.lineage import Lineage, TallyCaller, tally_callers, write_lineage
from segue.testing.server import Bench, ShiftedClock, open_bench

pytestmark = pytest.mark.timeout(120)

SYSTEM, TALLY, N1 = SystemName("tally"), ClassName("Tally"), NodeId("n1")
#: Release 3 leaves the class as it was.
VERSIONS, UNTOUCHED = 5, 3

Calling = Callable[[int, str], AbstractAsyncContextManager[TallyCaller]]


@pytest.fixture(scope="module")
def lineage(tmp_path_factory: pytest.TempPathFactory) -> Lineage:
    return write_lineage(tmp_path_factory.mktemp("lineage"), VERSIONS, untouched=(UNTOUCHED,))


class Traveller:
    """One node, which goes on when it is told to.

    Args:
        bench: the upgrade server.
        bundles: of the system's releases, version 1 first.
        executor: runs the node's commands.
        processes: the application's.
        news: what the node hears.
        clock: shows the time of the node's machine.
        begin: makes what an agent that starts anew runs commands by.
        call: calls the node in a version.
        twice: run every command twice and believe the second answer, as after a crash.
    """

    def __init__(
        self,
        bench: Bench,
        bundles: list[bytes],
        executor: Executor,
        processes: Processes,
        news: News,
        clock: ShiftedClock,
        begin: Callable[[], Executor],
        call: Callable[[int], AbstractAsyncContextManager[TallyCaller]],
        *,
        twice: bool,
    ) -> None:
        self.at = journey.Journey()
        self.executor = executor
        self.clock = clock
        self._begin = begin
        self.processes = processes
        self.news = news
        self.calling = call
        self._bench = bench
        self._bundles = bundles
        self._twice = twice

    async def publish(self, *versions: int) -> None:
        """Publish releases, and tell the node that they are there."""
        for version in versions:
            await self._bench.server.publish(self._bundles[version - 1])
            self.news.hear(Version(version), self.at)

    async def learn(self) -> None:
        """Enter the release that the node wants next, and go on until that is learnt."""
        learned = await self.news.next(self.at)
        assert learned is not None
        self.enter(learned)
        while self.at.learning:
            await self.step()

    async def step(self) -> None:
        """Run the command that is next."""
        await self._bench.beat(N1, self.at.version, cls=TALLY)
        (command,) = journey.pending(self.at)
        answer = await self.executor.run(command, self.at)
        if self._twice:
            answer = await self.executor.run(command, self.at)
        self.enter(answer)

    async def upgrade(self) -> None:
        """Go through the attempt that waits for its permit, to its end."""
        upgrade = self.at.upgrade
        assert upgrade is not None
        while self.at.upgrade and self.at.upgrade.release == upgrade.release:
            await self.step()

    def restart_agent(self) -> None:
        """Go on as the next agent would, with what is in the journal."""
        self.executor = self._begin()

    async def until(self, phase: Phase) -> None:
        """Go on until the node is in `phase`."""
        while self.at.phase is not phase:
            await self.step()

    async def crash(self) -> None:
        """Kill the application's process, and bring it back."""
        host = self.processes.running[self.at.generation]
        os.kill(host.pid, signal.SIGKILL)
        await host.ended()
        self.processes.forget(host)
        assert (await self.bring_back()).pid != host.pid

    async def bring_back(self) -> HostProcess:
        """Do as the agent does with a node at rest."""
        host = await self.processes.bring_back(self.at)
        assert host is not None
        if self.at.phase is Phase.SERVING:
            await self.executor.install_lost(host, self.at)
        return host

    @property
    def pid(self) -> int:
        """The application's process."""
        return self.processes.running[self.at.generation].pid

    async def add(self, version: int, name: str) -> None:
        async with self.calling(version) as caller:
            await caller.add(name, 1)

    async def traces(self, versions: Iterable[int]) -> dict[int, list[str]]:
        """Return what the simulation that answers each version keeps."""
        found = {}
        for version in versions:
            async with self.calling(version) as caller:
                found[version] = (await caller.trace())[1]
        return found

    def enter(self, event: journey.Event) -> None:
        """Have something happen to the node."""
        self.at, _ = journey.advance(self.at, event)


@pytest.fixture(params=[False, True], ids=["each command once", "each command twice"])
async def traveller(
    request: pytest.FixtureRequest, lineage: Lineage, plan: HostPlan, tmp_path: Path
) -> AsyncIterator[Traveller]:
    """A node that never ran."""
    settings = NodeSettings(
        server_url="http://segue", system=SYSTEM, class_name=TALLY, node_id=N1, address=plan.address,
        state=tmp_path / "state", poll_s=0.1, max_connection_age_s=1, probation_s=0.2,
    )  # fmt: skip
    folders = Folders(settings.state, Identity(system=SYSTEM, class_name=TALLY, node_id=N1))
    bundles = [
        build(folder, previous=previous)
        for folder, previous in zip(lineage.folders, (None, *lineage.folders), strict=False)
    ]
    with closing(folders), tally_callers(lineage) as call:
        async with (
            open_bench(MemoryStore(), tmp_path / "server", limit_bytes=10**6) as bench,
            asyncio.TaskGroup() as tasks,
        ):
            bench.system = SYSTEM
            news = News(bench.server, SYSTEM)

            async def forget_at_end(host: HostProcess) -> None:
                await host.ended()
                processes.forget(host)

            def watch(host: HostProcess) -> None:
                tasks.create_task(forget_at_end(host))

            placement = Placement(settings, folders)
            processes = Processes(
                placement=placement, folders=folders, hosts=Hosts(tasks), watch=watch, mode=HandOverMode.PORT
            )
            clock = ShiftedClock()

            def begin() -> Executor:
                return Executor(
                    settings=settings,
                    folders=folders,
                    server=bench.server,
                    placement=placement,
                    processes=processes,
                    news=news,
                    learn=news.next,
                    clock=clock,
                )

            yield Traveller(
                bench,
                bundles,
                begin(),
                processes,
                news,
                clock,
                begin,
                lambda version: call(version, plan.address),
                twice=request.param,
            )
            await processes.end_all()


async def test_the_state_of_simulations_goes_with_the_node(traveller: Traveller, tmp_path: Path) -> None:
    """It survives a restart, goes to the transform, comes out of it for the past simulation, and outlives versions."""
    await traveller.publish(1)
    await traveller.learn()
    await traveller.publish(2)
    await traveller.learn()
    await traveller.add(2, "before")
    await traveller.add(1, "unseen")
    assert await traveller.traces((1, 2)) == {1: [], 2: ["before"]}
    await traveller.crash()
    assert await traveller.traces((1, 2)) == {1: [], 2: ["before"]}

    await traveller.upgrade()
    assert traveller.at.phase is Phase.SERVING
    assert await traveller.traces((1, 2)) == {1: ["before"], 2: []}
    await traveller.add(1, "after")

    for version in (3, 4, 5):
        await traveller.publish(version)
        await traveller.learn()
        if traveller.at.upgrade:
            await traveller.upgrade()
    assert traveller.at.version == 5
    for _ in range(2):
        assert (await traveller.traces((1,)))[1] == ["before", "after"]
        await traveller.crash()
    states = tmp_path / "state" / "states"
    assert sorted(str(path.relative_to(states)) for path in states.glob("*/*")) == [
        "2/past", "4/past", "5/answered", "5/object", "5/past", "5/transform.json",
    ]  # fmt: skip


async def test_a_node_takes_in_what_comes_while_it_waits(traveller: Traveller) -> None:
    """It goes through all of it in one upgrade, and answers every version throughout; the last object alone starts."""
    await traveller.publish(1)
    await traveller.learn()
    await traveller.add(1, "apples")
    await traveller.publish(2, 3, 4, 5)
    for version in (2, 3, 4, 5):
        await traveller.learn()
        assert traveller.at.newest == version
    await traveller.crash()  # it has them all back

    for version in range(1, VERSIONS + 1):
        async with traveller.calling(version) as caller:
            assert await caller.read("apples") == 1
    await traveller.add(5, "at-1")
    await traveller.upgrade()
    assert (traveller.at.object_version, traveller.at.version, traveller.at.generation) == (5, 5, 2)
    assert (await traveller.traces((4,)))[4] == ["at-1"]  # what version 5's simulation kept went to its transform
    async with traveller.calling(1) as caller:
        assert await caller.read("apples") == 1


async def test_a_disk_that_got_full_meanwhile_leaves_no_process(
    traveller: Traveller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the transform that was started early, and that does not run."""
    await traveller.publish(1)
    await traveller.learn()
    await traveller.publish(2)
    await traveller.learn()
    while traveller.at.phase is not Phase.TRANSFORMING:
        await traveller.step()
    making = tmp_path / "state" / "making"
    assert list(making.iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    while traveller.at.phase in (Phase.TRANSFORMING, Phase.RESUMING):
        await traveller.step()
    assert "MiB free" in (traveller.at.failure or "")
    assert list(making.iterdir()) == []


async def test_a_number_that_is_carried_costs_nothing(traveller: Traveller) -> None:
    """The same process answers it, and has it after a restart, whether or not it has gone quiet between."""
    await traveller.publish(1, 2)
    await traveller.learn()
    assert traveller.at.version == 2  # a new node starts with the newest
    pid = traveller.pid
    await traveller.publish(3)
    await traveller.learn()
    assert (traveller.at.phase, traveller.at.version, traveller.pid) == (Phase.SERVING, 3, pid)
    host = await traveller.bring_back()
    assert await host.answers() == {1, 2, 3}
    await host.quiesce(5)
    await traveller.bring_back()
    assert await host.answers() == {1, 2, 3}
    await traveller.crash()
    for version in (1, 2, 3):
        async with traveller.calling(version) as caller:
            assert (await caller.trace())[0] == min(version, 2)
    await traveller.publish(4)
    await traveller.learn()
    await traveller.upgrade()
    assert (traveller.at.version, traveller.at.completed[0].release.version) == (4, 4)


async def test_futures_that_cannot_come_back_are_lost(traveller: Traveller, tmp_path: Path) -> None:
    """From the first of them on; the node goes on with those that could, and takes the others in again."""
    await traveller.publish(1, 2)
    await traveller.learn()
    await traveller.publish(3, 4, 5)
    for _ in range(3):
        await traveller.learn()
    releases = tmp_path / "state" / "releases"
    wrong = releases / traveller.at.futures[1].release.sha256 / "tally" / "upgrade.py"
    right = wrong.read_text()
    wrong.write_text(f"import no_such_module\n{right}")
    assert traveller.at.version == 3
    await traveller.crash()
    await traveller.step()
    assert (traveller.at.phase, traveller.at.newest) == (Phase.WAITING, 4)
    assert "version 5 could not be installed again" in (traveller.at.failure or "")
    wrong.write_text(right)
    await traveller.learn()
    assert (traveller.at.phase, traveller.at.newest) == (Phase.WAITING, 5)
    await traveller.upgrade()
    assert traveller.at.version == 5


async def test_a_node_that_joins_late_answers_all_that_came_before(traveller: Traveller) -> None:
    """Its own version is whatever is newest, its code what touched its class last."""
    await traveller.publish(1, 2, 3)
    await traveller.learn()
    assert (traveller.at.version, traveller.at.object_version) == (3, 2)
    for version in (1, 2, 3):
        async with traveller.calling(version) as caller:
            assert await caller.add("apples", 1) == version


async def test_a_process_gives_old_versions_up_when_it_is_told_to(traveller: Traveller) -> None:
    """A real process: its simulations are stopped, what is left answers on, and it may be told twice."""
    await traveller.publish(1, 2, 3)
    await traveller.learn()
    host = traveller.processes.running[traveller.at.generation]
    assert await host.answers() == {1, 2, 3}
    for _ in range(2):
        await host.retire(Version(2), 5)
        assert await host.answers() == {2, 3}
    await traveller.add(2, "apples")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await traveller.add(1, "apples")
    refusal = refusal_of(caught.value)
    assert refusal is not None
    assert refusal.reason is RefusalReason.RETIRED_VERSION


OBSERVING = """
    @segue.observes("Add")
    async def seen(self, request, reply, context):
        self.note(request.name1)


def transform("""


async def test_a_future_that_comes_back_late_does_not_go_by_what_it_kept(
    traveller: Traveller, lineage: Lineage, tmp_path: Path
) -> None:
    """The node served without it meanwhile."""
    upgrade = lineage.folders[1] / "tally" / "upgrade.py"
    plain = upgrade.read_text()
    upgrade.write_text(plain.replace("\n\ndef transform(", OBSERVING, 1))
    try:
        traveller._bundles[1] = build(lineage.folders[1], previous=lineage.folders[0])
    finally:
        upgrade.write_text(plain)
    await traveller.publish(1)
    await traveller.learn()
    await traveller.publish(2)
    await traveller.learn()
    await traveller.add(1, "before")
    await traveller.crash()
    assert await traveller.traces((2,)) == {2: ["before"]}
    await traveller.step()
    traveller.enter(journey.WarmFailed(reason="it broke", final=True))
    while traveller.at.upgrade:
        await traveller.step()
    assert (traveller.at.phase, traveller.at.newest) == (Phase.SERVING, 2)

    wrong = tmp_path / "state" / "releases" / traveller.at.futures[0].release.sha256 / "tally" / "upgrade.py"
    right = wrong.read_text()
    wrong.write_text(f"import no_such_module\n{right}")
    await traveller.crash()
    await traveller.add(1, "unseen")
    wrong.write_text(right)
    await traveller.bring_back()
    assert await traveller.traces((2,)) == {2: []}


async def test_nobody_has_the_state_open_while_it_is_transformed(traveller: Traveller, tmp_path: Path) -> None:
    """A process that cannot be asked is not thought to be gone: it is made to be."""
    await traveller.publish(1)
    await traveller.learn()
    await traveller.publish(2)
    await traveller.learn()
    while traveller.at.phase is not Phase.QUIESCING:
        await traveller.step()
    old = traveller.processes.running[traveller.at.generation]
    (tmp_path / "state" / "run" / f"{old.generation}.control").unlink()
    await traveller.add(1, "acknowledged")
    await traveller.step()
    async with asyncio.timeout(5):  # it would serve on
        await old.ended()
    await traveller.upgrade()
    async with traveller.calling(2) as caller:
        assert await caller.read("acknowledged") == 1


@pytest.mark.parametrize("phase", [Phase.RESUMING, Phase.RESTART_RESUMING])
async def test_a_node_that_cannot_be_had_back_goes_on_all_the_same(
    traveller: Traveller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: Phase
) -> None:
    """The next release may be what brings it back: it must be able to come."""
    monkeypatch.setattr("segue.node.processes._FIRST_WAIT_S", 0.001)
    await traveller.publish(1)
    await traveller.learn()
    await traveller.publish(2)
    await traveller.learn()
    if phase is Phase.RESTART_RESUMING:
        traveller.enter(journey.RestartOrdered())
    else:
        await traveller.step()
    traveller.enter(journey.WarmFailed(reason="no memory", final=False))
    assert traveller.at.phase is phase
    await traveller.processes.end(traveller.at.generation)
    for module in (tmp_path / "state" / "releases" / traveller.at.runs.sha256).rglob("*.py"):
        module.write_text("raise RuntimeError('spoiled')")
    await traveller.step()
    assert traveller.at.phase is (Phase.RETURNING if phase is Phase.RESUMING else Phase.WAITING)


async def test_an_object_that_cannot_be_had_back_after_its_first_call_fails_its_probation(
    traveller: Traveller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the port is handed over, too: the node does not try for ever, deaf to the release that is better."""
    monkeypatch.setattr("segue.node.processes._FIRST_WAIT_S", 0.001)
    await traveller.publish(1)
    await traveller.learn()
    await traveller.publish(2)
    await traveller.learn()
    while traveller.at.phase is not Phase.HANDING_OVER:
        await traveller.step()
    (tmp_path / "state" / "states" / "2" / "answered").touch()
    await traveller.processes.end(traveller.at.generation + 1)
    for module in (tmp_path / "state" / "releases" / traveller.at.under_way.release.sha256).rglob("*.py"):
        module.write_text("raise RuntimeError('spoiled')")
    await traveller.upgrade()
    assert traveller.at.version == 2
    assert traveller.at.gave_up
    assert traveller.at.failure is not None
    assert "publish a release that is better" in traveller.at.failure


async def test_a_process_that_ends_as_it_takes_the_ports_is_on_probation(
    traveller: Traveller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it has answered no call, the version before is back, and nothing is lost."""
    await traveller.publish(1)
    await traveller.learn()
    await traveller.add(1, "kept")
    await traveller.publish(2)
    await traveller.learn()
    while traveller.at.phase is not Phase.HANDING_OVER:
        await traveller.step()
    replace = Processes.replace

    async def replace_and_end(processes: Processes, old: int, new: int) -> None:
        await replace(processes, old, new)
        os.kill(processes.running[new].pid, signal.SIGKILL)
        await processes.running[new].ended()

    monkeypatch.setattr(Processes, "replace", replace_and_end)
    await traveller.upgrade()
    assert traveller.at.version == 1
    async with traveller.calling(1) as caller:
        assert await caller.read("kept") == 1


@pytest.mark.parametrize("jump_s", [3 * 3600, -3 * 3600], ids=["forward", "back"])
@pytest.mark.parametrize("restarted", [False, True], ids=["one agent", "the next agent"])
async def test_a_pause_and_a_probation_last_as_long_as_they_do(
    traveller: Traveller, jump_s: float, restarted: bool
) -> None:
    """Whatever is done to the clock meanwhile: no pause is negative, and no probation is left out or goes on for hours.

    An agent that has not seen the pause begin can only tell that it was not negative, and of a probation that it is not
    longer than it should be.
    """
    await traveller.publish(1)
    await traveller.learn()
    await traveller.publish(2)
    await traveller.learn()
    await traveller.until(Phase.HANDING_OVER)
    traveller.clock.jump(jump_s)
    if restarted:
        traveller.restart_agent()
    await traveller.until(Phase.PROVING)
    upgrade = traveller.at.under_way
    assert upgrade.serving_at is not None
    assert upgrade.quiesced_at is not None
    pause_s = (upgrade.serving_at - upgrade.quiesced_at).total_seconds()
    assert 0 <= pause_s < (60 if not restarted or jump_s < 0 else jump_s + 60)
    traveller.clock.jump(jump_s)
    if restarted:
        traveller.restart_agent()
    began = asyncio.get_running_loop().time()
    await traveller.until(Phase.COMMITTING)
    lasted_s = asyncio.get_running_loop().time() - began
    assert lasted_s < 30
    if not restarted or jump_s < 0:
        assert lasted_s > 0.1  # of 0.2; a moment of it was over
    assert traveller.at.under_way.failure is None
