"""Which of a node's processes may have its state open: one at a time, whatever is cancelled."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from segue import journey
from segue.errors import PeerError
from segue.model.ids import ClassName, ContentHash, NodeId, SystemName, Version
from segue.model.release import Announcement
from segue.node.folders import Folders, Identity
from segue.node.hosts import HostProcess, Hosts
from segue.node.placement import Placement
from segue.node.plan import HandOverMode, HostPlan, ReleasePlan, Stage
from segue.node.processes import Processes
from segue.node.settings import NodeSettings

NODE = NodeId("n1")
AT = journey.Journey(
    phase=journey.Phase.SERVING,
    running=Announcement(version=Version(1), sha256=ContentHash("a" * 64), size_bytes=1),
)


class Room:
    """What may hold one process: the state folder."""

    def __init__(self) -> None:
        self.inside: list[FakeHost] = []

    def enter(self, host: "FakeHost") -> None:
        assert not self.inside, f"{host} opens the state while {self.inside} has it open"
        self.inside.append(host)


class FakeHost(HostProcess):
    """A process of the application whose ports are not to be had, and which ends when it is let."""

    def __init__(self, generation: int, room: Room, *, serves: bool) -> None:
        self.generation = generation
        self.pid = 0
        self.may_end = asyncio.Event()
        self.asked_to_end = asyncio.Event()
        self._room = room
        self._serves = serves

    async def warm(self, futures: Sequence[ReleasePlan] = ()) -> None:
        """It has nothing to import."""

    async def start(self, stage: Stage) -> None:
        self._room.enter(self)

    async def answers(self) -> frozenset[Version]:
        return frozenset({Version(1)})

    async def serve(self, *, replacing: bool = False) -> None:
        if not self._serves:
            raise PeerError("the port cannot be taken")

    async def end(self) -> None:
        self.asked_to_end.set()
        await self.may_end.wait()
        if self in self._room.inside:
            self._room.inside.remove(self)


class FakeHosts(Hosts):
    """Starts two processes, of which the first does not serve."""

    def __init__(self) -> None:
        self.room = Room()
        self.first = FakeHost(AT.generation, self.room, serves=False)
        self.second = FakeHost(AT.generation, self.room, serves=True)
        self._to_come: list[HostProcess] = [self.first, self.second]

    async def spawn(self, plan: HostPlan, generation: int) -> HostProcess:
        return self._to_come.pop(0)


class FakePlacement(Placement):
    """Knows of no release."""

    def host_plan(self, at: journey.Journey) -> HostPlan:
        return HostPlan(
            system="s", class_name="C", node_id=NODE, address="127.0.0.1:1", max_connection_age_s=1,
            control="", peer="", usage="", releases=(),
        )  # fmt: skip

    def stage(self, at: journey.Journey) -> Stage:
        return Stage(state="", carries=Version(1))


@pytest.fixture
def hosts() -> FakeHosts:
    return FakeHosts()


@pytest.fixture
def processes(tmp_path: Path, hosts: FakeHosts) -> Iterator[Processes]:
    folders = Folders(tmp_path, Identity(system=SystemName("s"), class_name=ClassName("C"), node_id=NODE))
    settings = NodeSettings(
        server_url="http://127.0.0.1:1", system=SystemName("s"), class_name=ClassName("C"), node_id=NODE,
        address="127.0.0.1:1", state=tmp_path,
    )  # fmt: skip
    placement = FakePlacement(settings, folders)
    yield Processes(placement=placement, folders=folders, hosts=hosts, watch=lambda _: None, mode=HandOverMode.PORT)
    folders.close()


async def test_a_process_whose_end_was_cancelled_is_gone_before_the_next_has_the_state(
    processes: Processes, hosts: FakeHosts
) -> None:
    """What keeps a node in service is cancelled at any moment: while it ends a process that cannot serve, too."""
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(processes.keep(AT))
        await hosts.first.asked_to_end.wait()
        keeping.cancel()
    assert hosts.room.inside == [hosts.first]
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(processes.bring_back(AT))
        asyncio.get_running_loop().call_later(0.05, hosts.first.may_end.set)
    assert serving.result() is hosts.second
    assert hosts.room.inside == [hosts.second]


async def test_a_process_whose_end_was_cancelled_is_ended_with_the_others(
    processes: Processes, hosts: FakeHosts
) -> None:
    """The agent ends: nobody would look after it."""
    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(processes.keep(AT))
        await hosts.first.asked_to_end.wait()
        keeping.cancel()
    hosts.first.may_end.set()
    await processes.end_all()
    assert hosts.room.inside == []
