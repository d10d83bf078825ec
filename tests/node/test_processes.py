"""One process of a node has its state open, those that were replaced know where calls go, and ends count once."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from segue import journey
from segue.errors import PeerError
from segue.model.ids import ClassName, ContentHash, NodeId, SystemName, Version
from segue.model.release import Announcement
from segue.node.control import HostGoneError
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
        self.successors: list[Path] = []
        self.answers_to_leave = True
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

    async def leave(self, successor: Path, *, at_once: bool = False) -> None:
        if not self.answers_to_leave:
            raise HostGoneError("it is gone")
        self.successors.append(successor)

    async def end(self) -> None:
        self.asked_to_end.set()
        await self.may_end.wait()
        if self in self._room.inside:
            self._room.inside.remove(self)


class FakeHosts(Hosts):
    """Starts processes, of which the first does not serve."""

    def __init__(self) -> None:
        self.room = Room()
        self.first = FakeHost(AT.generation, self.room, serves=False)
        self.second = FakeHost(AT.generation, self.room, serves=True)
        self._to_come: list[HostProcess] = [self.first, self.second]

    async def spawn(self, plan: HostPlan, generation: int) -> HostProcess:
        return self._to_come.pop(0) if self._to_come else FakeHost(generation, self.room, serves=True)


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


def in_service(processes: Processes, room: Room, generation: int) -> FakeHost:
    """Put a process into service, as if it had been started just now."""
    host = FakeHost(generation, room, serves=True)
    host.may_end.set()
    processes.running[generation] = host
    processes._began[host] = time.monotonic()
    return host


def test_each_end_in_a_row_puts_the_next_start_off(processes: Processes, hosts: FakeHosts) -> None:
    """The first is answered at once, and no wait is longer than half a minute."""
    waits_s = [processes.next_wait_s]
    for _ in range(12):
        processes.forget(in_service(processes, hosts.room, AT.generation))
        waits_s.append(processes.next_wait_s)
    assert waits_s == [0, 0, 0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30, 30]
    assert processes.crashes == 12


def test_one_that_stayed_for_a_while_begins_a_new_row(processes: Processes, hosts: FakeHosts) -> None:
    for _ in range(5):
        processes.forget(in_service(processes, hosts.room, AT.generation))
    stayed = in_service(processes, hosts.room, AT.generation)
    processes._began[stayed] -= 61
    processes.forget(stayed)
    assert processes.next_wait_s == 0
    assert processes.crashes == 6


async def test_an_end_counts_once_whoever_finds_it(processes: Processes, hosts: FakeHosts) -> None:
    """A question that is not answered may come before the news of the end, or after it."""
    gone = HostGoneError("it is gone")
    first = in_service(processes, hosts.room, AT.generation)
    await processes.make_room(AT, gone)
    processes.forget(first)
    second = in_service(processes, hosts.room, AT.generation)
    processes.forget(second)
    processes.forget(second)
    await processes.make_room(AT, gone)
    assert (processes.crashes, processes.next_wait_s) == (2, 0.5)
    stayed = in_service(processes, hosts.room, AT.generation)
    processes._began[stayed] -= 61
    await processes.make_room(AT, gone)
    assert (processes.crashes, processes.next_wait_s) == (3, 0)


async def test_ends_that_were_ordered_are_no_crashes(processes: Processes, hosts: FakeHosts) -> None:
    """Nor is that of one that was replaced, or that could not serve; but that one is put off, too."""
    ordered = in_service(processes, hosts.room, AT.generation)
    await processes.end(AT.generation)
    processes.forget(ordered)
    replaced = in_service(processes, hosts.room, AT.generation)
    in_service(processes, hosts.room, AT.generation + 1)
    await processes.replace(AT.generation, AT.generation + 1)
    processes.forget(replaced)
    assert (processes.crashes, processes.leaving, processes.next_wait_s) == (0, [], 0)
    for _ in range(2):
        in_service(processes, hosts.room, AT.generation)
        await processes.make_room(AT, PeerError("the port cannot be taken"))
    assert (processes.crashes, processes.next_wait_s) == (0, 0.5)


async def test_all_that_are_leaving_hear_of_a_new_successor(processes: Processes, hosts: FakeHosts) -> None:
    """One that is gone keeps nobody from hearing of it."""
    first, second, third = (in_service(processes, hosts.room, generation) for generation in (1, 2, 3))
    await processes.replace(1, 2)
    assert [path.name for path in first.successors] == ["2.peer"]
    assert second.successors == []
    second.answers_to_leave = False
    await processes.replace(2, 3)
    assert [path.name for path in first.successors] == ["2.peer", "3.peer"]
    assert second.asked_to_end.is_set()
    assert (processes.leaving, processes.running) == ([first], {3: third})


async def test_one_that_leaves_is_taken_back(processes: Processes, hosts: FakeHosts) -> None:
    """Its successor is no more, so that it has the state again; no other is started."""
    first, older = (in_service(processes, hosts.room, generation) for generation in (AT.generation, 0))
    second = in_service(processes, hosts.room, AT.generation + 1)
    await processes.replace(0, AT.generation)
    await processes.replace(AT.generation, AT.generation + 1)
    await processes.end(AT.generation + 1)
    assert second.asked_to_end.is_set()
    assert await processes.bring_back(AT) is first
    assert (processes.leaving, processes.running) == ([older], {AT.generation: first})
    assert hosts.room.inside == [first]
