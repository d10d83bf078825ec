"""A node answers every version that it has simulations for, whatever it runs, through as many as that takes."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc.aio
import pytest

from segue.errors import PeerError, ReleaseError
from segue.layer.grpc_channel import labelled_channel
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest
from segue.layer.parked import ParkLimits
from segue.layer.usage import Usage
from segue.model.ids import Version
from segue.node.objects import Objects
from segue.node.plan import Carry, Future, HostPlan, ReleasePlan, SimulationPlan, Stage
from segue.release.bundle import build, unpack
from segue.testing.lineage import Lineage, TallyCaller, tally_callers, write_lineage

pytestmark = pytest.mark.timeout(60)

Calling = Callable[[int, str], AbstractAsyncContextManager[TallyCaller]]
VERSIONS = range(1, 11)
#: These leave the class as it was in the second lineage.
UNTOUCHED = (4, 5, 9)


@pytest.fixture(scope="module", params=[(), UNTOUCHED], ids=["all touched", "some untouched"])
def lineage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Lineage:
    """Ten releases, as they are on nodes."""
    written = write_lineage(tmp_path_factory.mktemp("written"), len(VERSIONS), untouched=request.param)
    unpacked = tmp_path_factory.mktemp("unpacked")
    for folder, previous in zip(written.folders, (None, *written.folders), strict=False):
        unpack(build(folder, previous=previous), unpacked / folder.name)
    return replace(written, folders=[unpacked / folder.name for folder in written.folders])


@pytest.fixture(scope="module")
def calling(lineage: Lineage) -> Iterator[Calling]:
    with tally_callers(lineage) as call:
        yield call


class Running:
    """The objects of one node in this process, which answer at `address`."""

    def __init__(self, objects: Objects, address: str) -> None:
        self.objects = objects
        self.address = address


def release_plan(lineage: Lineage, version: int, state: Path) -> ReleasePlan:
    first = version == lineage.touching[0]
    return ReleasePlan(
        version=Version(version),
        folder=str(lineage.folders[version - 1]),
        object="tally.node:Tally",
        past=None if first else SimulationPlan(code="tally.upgrade:Past", state=str(state / f"past-{version}")),
        future=None if first else SimulationPlan(code="tally.upgrade:Future", state=str(state / f"future-{version}")),
    )


def future(lineage: Lineage, version: int, state: Path) -> Future:
    touched = version in lineage.touching
    return release_plan(lineage, version, state) if touched else Carry(version=Version(version))


@asynccontextmanager
async def running(plan: HostPlan, stage: Stage) -> AsyncIterator[Running]:
    """Run a plan's objects in this process."""
    newest = Newest(plan.own.version)
    dispatch = Dispatch(usage=Usage(), newest=newest, on_newer=lambda _: None, parking=ParkLimits(wait_s=0.2))
    objects = Objects(plan, dispatch, newest)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((dispatch,))
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    try:
        objects.load()
        await objects.start(stage)
        await server.start()
        yield Running(objects, address)
    finally:
        await server.stop(None)
        await objects.close()
        for release in objects._releases.values():
            release.unload()


@pytest.fixture
def node(lineage: Lineage, plan: HostPlan, tmp_path: Path) -> Callable[..., AbstractAsyncContextManager[Running]]:
    """Runs a node at a version; its simulations know the releases from `oldest` on."""

    def run(version: int, oldest: int = 1) -> AbstractAsyncContextManager[Running]:
        code = lineage.code_of(version)
        known = [one for one in lineage.touching if oldest <= one <= code]
        releases = tuple(release_plan(lineage, one, tmp_path) for one in known)
        # as plans cross to a process
        here = HostPlan.from_json(json.loads(json.dumps(replace(plan, releases=releases).to_json())))
        return running(here, Stage(state=str(tmp_path / "object"), carries=Version(version)))

    return run


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_version_is_answered_by_a_node_of_every_version(
    version: int,
    node: Callable[..., AbstractAsyncContextManager[Running]],
    calling: Calling,
    lineage: Lineage,
    tmp_path: Path,
) -> None:
    """What one caller adds, the callers of all versions read, and each is answered by its own version's type."""
    async with node(version) as here:
        for newer in range(version + 1, VERSIONS.stop):
            await here.objects.answer(future(lineage, newer, tmp_path))
        assert here.objects.versions == list(VERSIONS)
        total = 0
        for caller_version in VERSIONS:
            async with calling(caller_version, here.address) as caller:
                total += caller_version
                assert await caller.add("apples", caller_version) == total
                assert (await caller.trace())[0] == lineage.code_of(caller_version)
        for caller_version in VERSIONS:
            async with calling(caller_version, here.address) as caller:
                assert await caller.read("apples") == total
                assert await caller.read("pears") == 0


async def test_the_past_of_the_oldest_release_that_is_known_is_answered(
    node: Callable[..., AbstractAsyncContextManager[Running]], calling: Calling, lineage: Lineage
) -> None:
    """From the copy of that version's code in the bundle; what was before, nobody here has heard of."""
    async with node(8, oldest=6) as here, calling(5, here.address) as oldest, calling(4, here.address) as older:
        assert here.objects.versions == [5, 6, 7, 8]
        assert await oldest.add("apples", 1) == 1
        with pytest.raises(grpc.aio.AioRpcError, match="no longer answered"):
            await older.read("apples")


async def test_futures_are_answered_in_order(
    node: Callable[..., AbstractAsyncContextManager[Running]], lineage: Lineage, tmp_path: Path
) -> None:
    """Each stands on the version before it; asked again, it is there."""
    async with node(2) as here:
        for gap in (4, 5):
            with pytest.raises(PeerError, match=f"version {gap} cannot be answered yet: .* install 3 first"):
                await here.objects.answer(future(lineage, gap, tmp_path))
        for newer in (3, 4, 5, 6):
            await here.objects.answer(future(lineage, newer, tmp_path))
            assert await here.objects.answer(future(lineage, newer, tmp_path)) == 0
        assert here.objects.versions == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import segue\n", "import segue\nimport no_such_module\n"),
        ("class Traced:\n", "class Traced:\n    async def start(self):\n        raise RuntimeError('no luck')\n\n"),
    ],
)
async def test_a_further_release_that_fails_leaves_the_chain_as_it_was(
    old: str,
    new: str,
    node: Callable[..., AbstractAsyncContextManager[Running]],
    calling: Calling,
    lineage: Lineage,
    tmp_path: Path,
) -> None:
    """All that was answered is, and the release can be tried again once it is right."""
    wrong = lineage.folders[2] / "tally" / "upgrade.py"
    right = wrong.read_text()
    async with node(1) as here, calling(1, here.address) as first, calling(2, here.address) as second:
        await here.objects.answer(future(lineage, 2, tmp_path))
        assert await first.add("apples", 1) == 1
        wrong.write_text(right.replace(old, new))
        try:
            with pytest.raises((ReleaseError, RuntimeError)):
                await here.objects.answer(future(lineage, 3, tmp_path))
            assert here.objects.versions == [1, 2]
            assert await second.add("apples", 1) == 2
        finally:
            wrong.write_text(right)
        await here.objects.answer(future(lineage, 3, tmp_path))
        async with calling(3, here.address) as third:
            assert await third.read("apples") == 2


async def test_releases_above_one_that_failed_are_made_of_what_is_tried_again(
    node: Callable[..., AbstractAsyncContextManager[Running]], lineage: Lineage, tmp_path: Path
) -> None:
    """A process that imports its futures early, and whose first does not start, has both of the same classes later."""
    wrong = lineage.folders[1] / "tally" / "upgrade.py"
    right = wrong.read_text()
    futures = [future(lineage, version, tmp_path) for version in (2, 3)]
    early = [plan for plan in futures if isinstance(plan, ReleasePlan)]
    async with node(1) as here:
        wrong.write_text(
            right.replace(
                "class Traced:\n", "class Traced:\n    async def start(self):\n        raise RuntimeError(0)\n\n"
            )
        )
        try:
            here.objects.load(early)
            with pytest.raises(RuntimeError, match="0"):
                await here.objects.answer(futures[0])
        finally:
            wrong.write_text(right)
        for plan in futures:
            await here.objects.answer(plan)
        releases = here.objects._releases
        assert releases[Version(3)].previous is releases[Version(2)]


async def test_a_call_that_is_inside_does_not_notice_what_is_installed(
    node: Callable[..., AbstractAsyncContextManager[Running]], calling: Calling, lineage: Lineage, tmp_path: Path
) -> None:
    """Callers go on while nine versions come, one after the other."""
    async with node(1) as here, calling(1, here.address) as caller:
        count = 0
        for newer in range(2, VERSIONS.stop):
            async with asyncio.TaskGroup() as tasks:
                installing = tasks.create_task(here.objects.answer(future(lineage, newer, tmp_path)))
                while not installing.done():
                    count += 1
                    assert await caller.add("apples", 1) == count
        async with calling(10, here.address) as newest:
            assert await newest.read("apples") == count


#: An object and a simulation that tell what label the calls on their channels have.
TELLING = """
import grpc, segue

class Telling:
    def register(self, server):
        handler = grpc.unary_unary_rpc_method_handler(self.Tell)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("telling.Telling", {"Tell": handler}),))

    async def Tell(self, request, context):
        async with self.node.channel(request.decode()) as channel:
            return await channel.unary_unary("/echo.Echo/Label")(b"")

class Node(Telling):
    def __init__(self, node):
        self.node = node

class Future(Telling, segue.FutureSimulation):
    pass
"""


class Echo(grpc.GenericRpcHandler):
    """Answers every call with its label."""

    def service(self, details: grpc.HandlerCallDetails) -> "grpc.RpcMethodHandler[bytes, bytes]":
        label = dict(details.invocation_metadata)["segue-label"]

        async def answer(request: bytes, context: object) -> bytes:
            return str(label).encode()

        return grpc.unary_unary_rpc_method_handler(answer)


async def test_what_carries_a_new_number_speaks_it(plan: HostPlan, tmp_path: Path) -> None:
    """On the channels that it opened before, too: the newest object of the chain, whichever that is."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "telling.py").write_text(TELLING)
    first = ReleasePlan(version=Version(1), folder=str(tmp_path / "code"), object="telling:Node")
    simulated = SimulationPlan(code="telling:Future", state=str(tmp_path / "future"))
    echo = grpc.aio.server()
    echo.add_generic_rpc_handlers((Echo(),))
    target = f"127.0.0.1:{echo.add_insecure_port('127.0.0.1:0')}".encode()
    await echo.start()
    stage = Stage(state=str(tmp_path / "object"), carries=Version(1))
    async with running(replace(plan, releases=(first,)), stage) as here:

        async def told(version: int) -> bytes:
            async with labelled_channel(here.address, version=version) as channel:
                tell: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/telling.Telling/Tell")
                return await tell(target)

        assert await told(1) == b"1/1"
        await here.objects.answer(Carry(version=Version(2)))
        assert [await told(version) for version in (1, 2)] == [b"2/2", b"2/2"]
        await here.objects.answer(replace(first, version=Version(3), future=simulated))
        await here.objects.answer(Carry(version=Version(4)))
        assert [await told(version) for version in (1, 2, 3, 4)] == [b"2/4", b"2/4", b"4/4", b"4/4"]
        assert here.objects.versions == [1, 2, 3, 4]
    await echo.stop(None)


@pytest.mark.parametrize("oldest", [2, 5, 6, 9, 10])
async def test_versions_are_removed_from_a_running_process(
    oldest: int,
    node: Callable[..., AbstractAsyncContextManager[Running]],
    calling: Calling,
    lineage: Lineage,
    tmp_path: Path,
) -> None:
    """What is left answers as before, also when the objects are made anew; the code that nobody needs is unloaded."""
    async with node(10) as here:
        for _ in range(2):
            await here.objects.retire(Version(oldest), 5)
            assert here.objects.versions == list(range(oldest, 11))
        await here.objects.close()
        await here.objects.start(Stage(state=str(tmp_path / "object"), carries=Version(10)))
        assert here.objects.versions == list(range(oldest, 11))
        assert min(here.objects._releases) == lineage.code_of(oldest)
        for version in range(oldest, 11):
            async with calling(version, here.address) as caller:
                assert await caller.add("apples", 1) == version - oldest + 1
        async with calling(oldest - 1, here.address) as older:
            with pytest.raises(grpc.aio.AioRpcError, match="no longer answered"):
                await older.read("apples")


#: A past simulation whose calls stay inside until they are let go, and which leaves a mark when it ends.
SLOW = (
    TELLING
    + """
import asyncio

class Past(Telling, segue.PastSimulation):
    async def Tell(self, request, context):
        (self.state / "inside").touch()
        while not (self.state / "go").exists():
            await asyncio.sleep(0.01)
        assert not (self.state / "stopped").exists()
        return b"told"

    async def stop(self):
        (self.state / "stopped").touch()
"""
)


async def test_calls_inside_what_is_removed_end_first(plan: HostPlan, tmp_path: Path) -> None:
    """However long that takes: a removal that gave up is taken up again."""
    (tmp_path / "code").mkdir()
    (tmp_path / "past").mkdir()
    (tmp_path / "code" / "telling.py").write_text(SLOW)
    own = ReleasePlan(
        version=Version(2),
        folder=str(tmp_path / "code"),
        object="telling:Node",
        past=SimulationPlan(code="telling:Past", state=str(tmp_path / "past")),
    )
    stage = Stage(state=str(tmp_path / "object"), carries=Version(2))
    async with (
        running(replace(plan, releases=(own,)), stage) as here,
        labelled_channel(here.address, version=1) as channel,
        asyncio.TaskGroup() as tasks,
    ):
        tell: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/telling.Telling/Tell")

        async def told() -> bytes:
            return await tell(b"")

        inside = tasks.create_task(told())
        for _ in range(500):
            await asyncio.sleep(0.01)
            if (tmp_path / "past" / "inside").exists():
                break
        with pytest.raises(TimeoutError):
            await here.objects.retire(Version(2), 0.05)
        with pytest.raises(grpc.aio.AioRpcError, match="no longer answered"):
            await told()
        assert not (tmp_path / "past" / "stopped").exists()
        (tmp_path / "past" / "go").touch()
        await here.objects.retire(Version(2), 5)
        assert (tmp_path / "past" / "stopped").exists()
        assert await inside == b"told"
