"""What an operator orders at the upgrade server reaches a node: a real agent, and real processes of the application."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from pathlib import Path

import grpc
import pytest

from segue import RefusalReason, journey, refusal_of
from segue.model.clock import SystemClock
from segue.model.hand import Deed
from segue.model.ids import ClassName, NodeId, SystemName, Version
from segue.node.agent import Agent
from segue.node.folders import Folders, Identity
from segue.node.plan import HostPlan
from segue.node.settings import NodeSettings
from segue.node.told import Told
from segue.release.bundle import build
from segue.server.memory import MemoryStore
from segue.testing.lineage import Lineage, TallyCaller, tally_callers, write_lineage
from segue.testing.server import Bench, open_bench
from segue.wire.client import UpgradeServer
from segue.wire.hand import ActionRequest
from segue.wire.messages import NodeStatus

pytestmark = pytest.mark.timeout(120)

SYSTEM, TALLY, N1 = SystemName("tally"), ClassName("Tally"), NodeId("n1")
#: Far more than anything here takes, on the busiest machine.
LONG_S = 60.0


@pytest.fixture(scope="module")
def lineage(tmp_path_factory: pytest.TempPathFactory) -> Lineage:
    return write_lineage(tmp_path_factory.mktemp("lineage"), 3)


class Node:
    """One node's folder and address, with the upgrade server that it belongs to."""

    def __init__(self, bench: Bench, settings: NodeSettings, call: Callable[[int, str], object]) -> None:
        self.bench = bench
        self.settings = settings
        self._call = call

    @asynccontextmanager
    async def running(self, server: UpgradeServer | None = None) -> AsyncIterator[Agent]:
        """Have an agent run on it for the time of the block; `server` is what it takes for the upgrade server."""
        identity = Identity(system=SYSTEM, class_name=TALLY, node_id=N1)
        with closing(Folders(self.settings.state, identity)) as folders:
            agent = Agent(
                settings=self.settings, folders=folders, server=server or self.bench.server, clock=SystemClock()
            )
            async with asyncio.TaskGroup() as tasks:
                running = tasks.create_task(agent.run())
                yield agent
                running.cancel()

    async def until(self, holds: Callable[[NodeStatus], bool]) -> NodeStatus:
        """Wait until the upgrade server has heard that of it."""
        last: NodeStatus | None = None
        try:
            async with asyncio.timeout(LONG_S):
                while True:
                    last = await self._heard()
                    if last and holds(last):
                        return last
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"the node stayed {last!r}") from None

    async def _heard(self) -> NodeStatus | None:
        if not self.bench.store.picture_of(SYSTEM).is_known:
            return None
        return next((one for one in (await self.bench.server.status(SYSTEM)).nodes if one.id == N1), None)

    async def refusal(self, version: int) -> object:
        """Call in a version, as soon as the node is there; return why it is refused, None if it is not."""
        calling = self._call(version, self.settings.address)
        assert isinstance(calling, AbstractAsyncContextManager)
        async with asyncio.timeout(LONG_S), calling as caller:
            assert isinstance(caller, TallyCaller)
            while True:
                try:
                    await caller.add("apples", 1)
                except grpc.aio.AioRpcError as error:
                    refusal = refusal_of(error)
                    if refusal is not None:
                        return refusal.reason
                    await asyncio.sleep(0.05)  # nobody listens yet
                else:
                    return None

    async def act(self, deed: Deed, **fields: object) -> None:
        await self.bench.server.act(SYSTEM, ActionRequest(deed=deed, who="ada", **fields))  # type: ignore[arg-type]


@pytest.fixture
def node_of(lineage: Lineage, plan: HostPlan, tmp_path: Path) -> Callable[[], AbstractAsyncContextManager[Node]]:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Node]:
        settings = NodeSettings(
            server_url="http://segue", system=SYSTEM, class_name=TALLY, node_id=N1, address=plan.address,
            state=tmp_path / "state", poll_s=0.05, max_connection_age_s=1, probation_s=0.1, retries=0, retry_s=0.05,
        )  # fmt: skip
        with tally_callers(lineage) as call:
            async with open_bench(MemoryStore(), tmp_path / "server", limit_bytes=10**6) as bench:
                bench.system = SYSTEM
                yield Node(bench, settings, call)

    return opened


async def publish(bench: Bench, folders: list[Path], *versions: int) -> None:
    for version in versions:
        previous = folders[version - 2] if version > 1 else None
        await bench.server.publish(build(folders[version - 1], previous=previous))


async def test_a_retired_version_is_refused_also_after_restarts(
    node_of: Callable[[], AbstractAsyncContextManager[Node]], lineage: Lineage
) -> None:
    """What its simulation kept is removed; the node remembers it, when the upgrade server does not answer, too."""
    async with node_of() as node:
        await publish(node.bench, list(lineage.folders), 1, 2, 3)
        async with node.running():
            assert (await node.until(lambda one: one.version == 3 and bool(one.answers))).answers == (1, 2, 3)
            assert await node.refusal(1) is None
            await node.act(Deed.RETIRE, version=1, force=True, why="a test")
            await node.until(lambda one: one.answers == (2, 3))
            assert await node.refusal(1) is RefusalReason.RETIRED_VERSION
            assert await node.refusal(2) is None
        async with UpgradeServer("http://127.0.0.1:9") as nobody, node.running(nobody):
            assert await node.refusal(1) is RefusalReason.RETIRED_VERSION
            assert await node.refusal(2) is None
        states = node.settings.state / "states"
        assert sorted(str(path.relative_to(states)) for path in states.glob("*/past")) == ["3/past"]


async def test_a_node_that_joins_later_begins_without_the_retired_past(
    node_of: Callable[[], AbstractAsyncContextManager[Node]], lineage: Lineage
) -> None:
    """It does not even fetch it."""
    async with node_of() as node:
        await publish(node.bench, list(lineage.folders), 1, 2, 3)
        await node.bench.beat("n0", 3, cls=TALLY)
        await node.act(Deed.RETIRE, version=2)
        async with node.running():
            assert (await node.until(lambda one: one.version == 3 and bool(one.answers))).answers == (3,)
            assert await node.refusal(2) is RefusalReason.RETIRED_VERSION
            assert await node.refusal(3) is None
            assert len(list((node.settings.state / "releases").iterdir())) == 1


async def test_a_node_that_joins_begins_with_no_release_that_is_aborted(
    node_of: Callable[[], AbstractAsyncContextManager[Node]], lineage: Lineage
) -> None:
    """It begins as those that the release has not got to, and goes on with them."""
    async with node_of() as node:
        await publish(node.bench, list(lineage.folders), 1, 2)
        await node.bench.beat("n0", 1, cls=TALLY)
        await node.act(Deed.ABORT, why="it loses files")
        async with node.running():
            await node.until(lambda one: one.version == 1 and one.answers == (1, 2))
            assert (await node.bench.server.status(SYSTEM)).permits == ()
            await node.bench.beat("n0", 1, cls=TALLY)
            await publish(node.bench, list(lineage.folders), 3)
            await node.bench.beat("n0", 1, cls=TALLY)
            await node.until(lambda one: one.version == 3 and not one.away)


async def test_an_order_to_try_again_is_carried_out_once(
    node_of: Callable[[], AbstractAsyncContextManager[Node]], lineage: Lineage, tmp_path: Path
) -> None:
    """Also if it is told with each heartbeat, and the agent starts anew."""
    broken = tmp_path / "broken"
    broken.touch()
    folders = [Path(shutil.copytree(folder, tmp_path / "of" / folder.name)) for folder in lineage.folders[:2]]
    upgrade = folders[1] / "tally" / "upgrade.py"
    first, _, rest = upgrade.read_text().partition("def transform(")
    signature, _, body = rest.partition(":\n")
    upgrade.write_text(
        f"{first}def transform({signature}:\n    import os\n"
        f"    assert not os.path.exists({str(broken)!r}), 'it is broken'\n{body}"
    )
    async with node_of() as node:
        await publish(node.bench, folders, 1)
        async with node.running() as agent:
            await node.until(lambda one: one.version == 1)
            await publish(node.bench, folders, 2)
            await node.until(lambda one: one.waits_for_operator)
            broken.unlink()
            await node.act(Deed.RETRY, node=N1)
            await node.until(lambda one: one.version == 2 and not one.away)
            events = [type(event) for event in agent._journal.events]
            assert events.count(journey.RetryOrdered) == 1
        async with node.running() as agent:
            await node.until(lambda one: one.pid is not None and one.phase == "serving")
            assert [type(event) for event in agent._journal.events] == events
            assert agent._told.retried


async def test_why_a_node_never_started_is_heard_of(
    node_of: Callable[[], AbstractAsyncContextManager[Node]], lineage: Lineage, tmp_path: Path
) -> None:
    """Its agent ends then, and says so last."""
    folder = Path(shutil.copytree(lineage.folders[0], tmp_path / "of" / lineage.folders[0].name))
    code = folder / "tally" / "node.py"
    code.write_text(code.read_text() + "\nraise RuntimeError('it needs a license')\n")
    async with node_of() as node:
        await publish(node.bench, [folder], 1)
        with pytest.raises(ExceptionGroup):
            async with node.running():
                await asyncio.sleep(LONG_S)
        heard = await node._heard()
        assert heard is not None
        assert heard.version == 0
        assert "it needs a license" in (heard.failure or "")


def test_what_was_told_is_kept(tmp_path: Path) -> None:
    """It never goes back, and a file that cannot be read is as none: it is told again."""
    path = tmp_path / "told.json"
    told = Told(path)
    assert (told.oldest, told.retried) == (0, "")
    assert told.retire(Version(3))
    assert not told.retire(Version(2))
    told.carried_out("noon")
    again = Told(path)
    assert (again.oldest, again.retried) == (3, "noon")
    path.write_text("{")
    assert Told(path).oldest == 0
