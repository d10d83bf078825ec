"""A fleet of simulated agents on one upgrade server, while a rollout runs through it: what the server needs for it.

Each agent speaks the real protocol over HTTP: it reports every so many seconds, in full once and then by the tag of
that, asks for its permit once it hears of the release, as often as the server says, is away for a moment, reports its
new version and returns the permit. All are in one process, which must cost little: it is on the server's machine.
"""

import asyncio
import json
import random
import statistics
import time
from collections.abc import Coroutine, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.http_lines import Answer, Line, open_line, post
from benchmarks.servers import HOST, Server, upgrade_server
from segue.testing.server import bundle_of
from segue.wire.client import UpgradeServer
from segue.wire.messages import AgentRow, Heartbeat, PermitRequest, PermitReturnRequest

_NODE = "/v1/systems/blockstore/nodes/n{node}"
_REQUEST = PermitRequest(class_name="BlockNode", from_version=1, to_version=2).model_dump_json().encode()
_BACK = PermitReturnRequest().model_dump_json().encode()
_OK, _NO_CONTENT = 200, 204
#: Connections that the agents share: with fewer they would wait for each other, as real ones do not.
_LINES = 1000
#: A node counts as silent, and its lease as late, if it is not heard of for so long.
LEASE_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What a fleet goes through.

    Attributes:
        nodes: how many.
        every_s: between two heartbeats of a node.
        away_s: of each upgrade.
        schedule: of the release, in TOML.
        limit_s: after which it is given up.
    """

    nodes: int
    every_s: float = 30.0
    away_s: float = 1.0
    schedule: str = "max_unavailable = 100"
    limit_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFigures:
    """What a rollout through a fleet took.

    Attributes:
        nodes: how many.
        rollout_s: from the release's publication until the last node had returned its permit.
        permits_per_second: granted and returned.
        heartbeat_ms, heartbeat_p99_ms: how long one took to be answered.
        permit_ms: the same of a request for a permit.
        asked: requests for permits, for each that was granted.
        late: leases that had run out: a node was not heard of for longer than it may be.
        failed: requests that were not answered with 2xx.
        cpu_share: of one processor, that the server used.
        memory_mib: of the server, at the end.
    """

    nodes: int
    rollout_s: float
    permits_per_second: float
    heartbeat_ms: float
    heartbeat_p99_ms: float
    permit_ms: float
    asked: float
    late: int
    failed: int
    cpu_share: float
    memory_mib: float


@dataclass(slots=True)
class _Seen:
    heartbeats_s: list[float] = field(default_factory=list)
    permits_s: list[float] = field(default_factory=list)
    #: Between two heartbeats of one node, from answer to answer.
    gaps_s: list[float] = field(default_factory=list)
    failed: int = 0


class _Agent:
    """One simulated agent."""

    def __init__(self, node: int, fleet: "Fleet") -> None:
        self._fleet = fleet
        self._path = _NODE.format(node=node)
        self._said = Heartbeat(
            class_name="BlockNode", version=1, address=f"10.0.0.{node % 250}:9001",
            attributes={"zone": "abc"[node % 3]}, phase="serving", pid=1000 + node, answers=(1,),
            agent=AgentRow(folder=f"folder{node}", starts=1, run=f"run{node}", report_s=fleet.every_s),
        )  # fmt: skip
        #: Says that what was said last still holds; None if that was not yet answered.
        self._alive: bytes | None = None
        self._heard = asyncio.Event()
        self._last_s: float | None = None

    async def report(self) -> None:
        """Send one heartbeat."""
        seen = self._fleet.seen
        began = time.perf_counter()
        if self._alive is None:
            answer = await self._fleet.ask(f"{self._path}/heartbeat", self._said.model_dump_json().encode())
        else:
            answer = await self._fleet.ask(f"{self._path}/alive", self._alive)
        now = time.perf_counter()
        seen.heartbeats_s.append(now - began)
        if self._last_s is not None:
            seen.gaps_s.append(now - self._last_s)
        self._last_s = now
        said = json.loads(answer.body) if answer.status == _OK else {}
        self._alive = json.dumps({"tag": said["tag"]}).encode() if said.get("tag") else None
        if said.get("newest", 0) > self._said.version:
            self._heard.set()

    async def report_on(self, first_s: float, every_s: float) -> None:
        """Send one heartbeat after the other, for ever."""
        await asyncio.sleep(first_s)
        while True:
            await self.report()
            await asyncio.sleep(every_s)

    async def upgrade(self, away_s: float, rng: random.Random) -> None:
        """Go through the rollout, once it has heard of the release."""
        await self._heard.wait()
        permit = await self._permitted(rng)
        await asyncio.sleep(away_s)
        self._said, self._alive = self._said.model_copy(update={"version": 2, "answers": (1, 2)}), None
        await self.report()
        await self._fleet.ask(f"{self._path}/permits/{permit}/return", _BACK)

    async def _permitted(self, rng: random.Random) -> str:
        """Ask for the permit until it is granted, as often as the server says, and return its id."""
        while True:
            began = time.perf_counter()
            answer = await self._fleet.ask(f"{self._path}/permits", _REQUEST)
            self._fleet.seen.permits_s.append(time.perf_counter() - began)
            said = json.loads(answer.body) if answer.status == _OK else {}
            if said.get("permit"):
                return str(said["permit"])
            await asyncio.sleep(said.get("retry_after_s", 1.0) * rng.uniform(0.75, 1.25))


class Fleet:
    """The agents of a fleet.

    Args:
        server: what they report to.
        course: what they go through.
        seed: what their moments are drawn from.

    Attributes:
        seen: what they met.
        every_s: between two heartbeats of a node.
    """

    def __init__(self, server: Server, course: Course, seed: int) -> None:
        self.seen = _Seen()
        self.every_s = course.every_s
        self._server = server
        self._course = course
        self._rng = random.Random(seed)
        self._lines: asyncio.Queue[Line] = asyncio.Queue()

    async def ask(self, path: str, body: bytes) -> Answer:
        """Send a request on a connection that is free."""
        line = await self._lines.get()
        try:
            answer = await line.ask(post(path, body))
        finally:
            self._lines.put_nowait(line)
        self.seen.failed += answer.status not in (_OK, _NO_CONTENT)
        return answer

    async def roll_out(self) -> FleetFigures:
        """Have all nodes report for a while, publish a release, and wait until all have gone to it."""
        course, rng = self._course, self._rng
        agents = [_Agent(node, self) for node in range(course.nodes)]
        async with AsyncExitStack() as open_, asyncio.timeout(course.limit_s):
            server = await open_.enter_async_context(UpgradeServer(f"http://{HOST}:{self._server.port}"))
            await server.publish(bundle_of(1))
            for _ in range(_LINES):
                self._lines.put_nowait(await open_.enter_async_context(open_line(HOST, self._server.port)))
            await _all(agent.report() for agent in agents)
            self.seen.heartbeats_s.clear()
            async with asyncio.TaskGroup() as tasks:
                reporting = [
                    tasks.create_task(agent.report_on(rng.uniform(0, course.every_s), course.every_s))
                    for agent in agents
                ]
                await server.publish(bundle_of(2, schedule=course.schedule))
                began, cpu_s = time.perf_counter(), self._server.cpu_s()
                await _all(agent.upgrade(course.away_s, rng) for agent in agents)
                rollout_s, cpu_s = time.perf_counter() - began, self._server.cpu_s() - cpu_s
                for task in reporting:
                    task.cancel()
        return self._figures(rollout_s, cpu_s)

    def _figures(self, rollout_s: float, cpu_s: float) -> FleetFigures:
        seen, nodes = self.seen, self._course.nodes
        return FleetFigures(
            nodes=nodes,
            rollout_s=round(rollout_s, 1),
            permits_per_second=round(nodes / rollout_s, 1),
            heartbeat_ms=_ms(statistics.median(seen.heartbeats_s)),
            heartbeat_p99_ms=_ms(statistics.quantiles(seen.heartbeats_s, n=100)[98]),
            permit_ms=_ms(statistics.median(seen.permits_s)),
            asked=round(len(seen.permits_s) / nodes, 1),
            late=sum(gap_s > LEASE_S for gap_s in seen.gaps_s),
            failed=seen.failed,
            cpu_share=round(cpu_s / rollout_s, 2),
            memory_mib=round(self._server.memory_mib(), 1),
        )


async def measure_fleet(course: Course, where: Path | str, seed: int) -> FleetFigures:
    """Run an upgrade server of its own, and a rollout through a fleet on it.

    Args:
        course: what the fleet goes through.
        where: an empty folder for the server, or the URL of an empty database.
        seed: what the agents' moments are drawn from.
    """
    async with upgrade_server(where) as server:
        return await Fleet(server, course, seed).roll_out()


async def _all(doing: Iterable[Coroutine[Any, Any, None]]) -> None:
    async with asyncio.TaskGroup() as tasks:
        for one in doing:
            tasks.create_task(one)


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 1)
