"""Heartbeats at saturation: how many the upgrade server takes in a second, as a ratio to an endpoint that does nothing.

All servers run at once, and in each round each of them is asked for a while by many connections, in random order.
Whatever else the machine does meets all alike; a server that is not asked costs nothing. In the same rounds nodes that
say something new are compared with nodes that say that nothing changed.
"""

import asyncio
import itertools
import json
import random
import resource
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.http_lines import Line, open_line, post
from benchmarks.paired import Ratio, paired_ratio
from benchmarks.servers import HOST, Server, empty_server, upgrade_server
from segue.testing.server import bundle_of
from segue.wire.client import UpgradeServer
from segue.wire.messages import Heartbeat, UsageRow

#: What is asked for of the ratio.
LIMIT = 0.5
#: Of processor time, for a node that says that nothing changed to one that says something new.
ALIVE_LIMIT = 0.5
EMPTY = "empty"
_LINES = 64
_NODE = "/v1/systems/blockstore/nodes/n{node}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Saturated:
    """One server in one round.

    Attributes:
        answered: heartbeats.
        took_s: in so many seconds.
        cpu_s: of the server's processor.
        client_share: of a processor that the client used: below 1, or it is the client that was measured.
    """

    answered: int
    took_s: float
    cpu_s: float
    client_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatFigures:
    """Heartbeats at saturation, on one database.

    Attributes:
        ratio, ratio_low, ratio_high: of heartbeats in a second to the empty endpoint's.
        per_second: the median.
        cpu_us: processor time of the server for one heartbeat, the median.
        client_share: of a processor that the client used, the largest.
        nodes: how many the heartbeats are of.
        limit: what the ratio must be at least.
    """

    ratio: float
    ratio_low: float
    ratio_high: float
    per_second: float
    cpu_us: float
    client_share: float
    nodes: int
    limit: float = LIMIT

    @property
    def verdict(self) -> str:
        """Whether the limit is kept."""
        return "kept" if self.ratio >= self.limit else "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class AliveFigures:
    """What a node that says that nothing changed costs the server, on one database.

    Attributes:
        ratio, ratio_low, ratio_high: of processor time, to a heartbeat that says something new.
        cpu_us: processor time of the server for one, the median.
        news_cpu_us: for one that says something new.
        limit: what the ratio must be at most.
    """

    ratio: float
    ratio_low: float
    ratio_high: float
    cpu_us: float
    news_cpu_us: float
    limit: float = ALIVE_LIMIT

    @property
    def verdict(self) -> str:
        """Whether the limit is kept."""
        return "kept" if self.ratio <= self.limit else "broken"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressing:
    """How servers are asked.

    Attributes:
        nodes: that report.
        rounds: in which each server is asked once.
        block_s: for so many seconds.
    """

    nodes: int
    rounds: int
    block_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What each round showed, of each server: `{"empty" or database: rounds}`.

    Attributes:
        heartbeats: of nodes at rest that have answered calls.
        news: of nodes that say something new; of databases alone, as what follows.
        alive: of nodes that say that nothing changed.
    """

    heartbeats: Mapping[str, list[Saturated]]
    news: Mapping[str, list[Saturated]]
    alive: Mapping[str, list[Saturated]]


def heartbeat_of(node: int, count: int, blocks: int = 17) -> bytes:
    """Return what a node says of itself as JSON: a node at rest that has answered calls since its last heartbeat.

    Args:
        node: its number.
        count: of calls.
        blocks: a number that its object reports: another one is something new.
    """
    usage = UsageRow(
        incarnation=f"{node:032x}", node_version=1, caller_version=1, caller="10.0.0.1",
        method="/blockstore.BlockStore/Get", answered_by="current", from_node=False, outcome="OK", count=count,
    )  # fmt: skip
    said = Heartbeat(
        class_name="BlockNode", version=1, address=f"10.0.0.{node % 250}:9001", attributes={"zone": "abc"[node % 3]},
        phase="serving", pid=1000 + node, answers=(1,), facts={"blocks": float(blocks)}, usage=(usage,),
    )  # fmt: skip
    return said.model_dump_json().encode()


async def measure_heartbeats(
    pressing: Pressing, databases: Mapping[str, Path | str], generator: random.Random,
    tick: Callable[[], None],
) -> Seen:  # fmt: skip
    """Ask every server in turn.

    Args:
        pressing: how much.
        databases: `{name: its folder, or its URL}`.
        generator: where randomness comes from.
        tick: is called after each round.
    """
    seen = Seen(
        heartbeats={name: [] for name in (EMPTY, *databases)},
        news={name: [] for name in databases},
        alive={name: [] for name in databases},
    )
    async with AsyncExitStack() as open_:
        servers = {EMPTY: await open_.enter_async_context(empty_server())}
        for name, where in databases.items():
            servers[name] = await open_.enter_async_context(upgrade_server(where))
            async with UpgradeServer(f"http://{HOST}:{servers[name].port}") as server:
                await server.publish(bundle_of(1))
        pressed = {name: Pressed(server, pressing.nodes) for name, server in servers.items()}
        for one in pressed.values():
            await one.introduce()
        for _ in range(pressing.rounds):
            for name in generator.sample(list(pressed), len(pressed)):
                one = pressed[name]
                seen.heartbeats[name].append(await one.press(pressing.block_s, one.heartbeat))
                if name in databases:
                    # What is new changes the tags by which nodes say that nothing changed: it comes first.
                    seen.news[name].append(await one.press(pressing.block_s, one.news))
                    seen.alive[name].append(await one.press(pressing.block_s, one.alive))
            tick()
    return seen


class Pressed:
    """A server that is asked as much as it can answer.

    Args:
        server: which.
        nodes: in whose names.
    """

    def __init__(self, server: Server, nodes: int) -> None:
        self._server = server
        self._nodes = nodes
        self._count = 0
        #: {node: the answer to its last heartbeat}
        self._told: dict[int, bytes] = {}

    async def introduce(self) -> None:
        """Have every node report once."""
        left = iter(range(self._nodes))
        async with _lines(self._server.port) as lines, asyncio.TaskGroup() as tasks:
            for line in lines:
                tasks.create_task(self._report_all(line, left))

    def heartbeat(self, node: int) -> bytes:
        """Return a heartbeat of which only the count of calls has changed."""
        return self._heartbeat(node, heartbeat_of(node, self._next()))

    def news(self, node: int) -> bytes:
        """Return a heartbeat that says something new."""
        count = self._next()
        return self._heartbeat(node, heartbeat_of(node, count, blocks=count))

    def alive(self, node: int) -> bytes:
        """Return what a node says when nothing has changed."""
        said = json.dumps({"tag": json.loads(self._told[node])["tag"]}).encode()
        return post(f"{_NODE.format(node=node)}/alive", said)

    async def press(self, block_s: float, request: Callable[[int], bytes]) -> Saturated:
        """Ask for `block_s` seconds.

        Args:
            block_s: how long.
            request: returns what a node asks, by its number.
        """
        async with _lines(self._server.port) as lines:
            began, cpu_s, client_s = time.perf_counter(), self._server.cpu_s(), _client_s()
            until = began + block_s
            async with asyncio.TaskGroup() as tasks:
                asking = [
                    tasks.create_task(self._ask(line, number, until, request))
                    for number, line in enumerate(lines[: self._nodes])
                ]
            took_s = time.perf_counter() - began
            return Saturated(
                answered=sum(task.result() for task in asking),
                took_s=took_s,
                cpu_s=self._server.cpu_s() - cpu_s,
                client_share=(_client_s() - client_s) / took_s,
            )

    async def _report_all(self, line: Line, nodes: Iterator[int]) -> None:
        for node in nodes:
            await self._send(line, node, self.heartbeat(node))

    async def _ask(self, line: Line, number: int, until: float, request: Callable[[int], bytes]) -> int:
        # Each node is on one connection, as a node waits for its answer.
        answered, nodes = 0, itertools.cycle(range(number, self._nodes, _LINES))
        while time.perf_counter() < until:
            node = next(nodes)
            await self._send(line, node, request(node))
            answered += 1
        return answered

    async def _send(self, line: Line, node: int, request: bytes) -> None:
        answer = await line.ask(request)
        assert answer.status == 200, answer
        self._told[node] = answer.body

    def _heartbeat(self, node: int, said: bytes) -> bytes:
        return post(f"{_NODE.format(node=node)}/heartbeat", said)

    def _next(self) -> int:
        self._count += 1
        return self._count


@asynccontextmanager
async def _lines(port: int) -> AsyncIterator[Sequence[Line]]:
    async with AsyncExitStack() as open_:
        yield [await open_.enter_async_context(open_line(HOST, port)) for _ in range(_LINES)]


def _client_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def heartbeat_figures(
    seen: Mapping[str, Sequence[Saturated]], nodes: int, generator: random.Random
) -> Mapping[str, HeartbeatFigures]:
    """Compare each database with the empty endpoint: `{database: figures}`."""
    rates = {name: [[one.answered / one.took_s] for one in rounds] for name, rounds in seen.items()}
    found = {}
    for name, rounds in seen.items():
        if name == EMPTY:
            continue
        ratio: Ratio = paired_ratio(rates[name], rates[EMPTY], generator)
        found[name] = HeartbeatFigures(
            ratio=ratio.ratio,
            ratio_low=ratio.ratio_low,
            ratio_high=ratio.ratio_high,
            per_second=round(statistics.median(one.answered / one.took_s for one in rounds)),
            cpu_us=round(statistics.median(_cpu_us(rounds)), 1),
            client_share=round(max(one.client_share for one in rounds), 2),
            nodes=nodes,
        )
    return found


def alive_figures(seen: Seen, generator: random.Random) -> Mapping[str, AliveFigures]:
    """Compare nodes that say that nothing changed with nodes that say something new: `{database: figures}`."""
    found = {}
    for name, rounds in seen.alive.items():
        alive_us, news_us = _cpu_us(rounds), _cpu_us(seen.news[name])
        ratio = paired_ratio([[one] for one in alive_us], [[one] for one in news_us], generator)
        found[name] = AliveFigures(
            ratio=ratio.ratio,
            ratio_low=ratio.ratio_low,
            ratio_high=ratio.ratio_high,
            cpu_us=round(statistics.median(alive_us), 1),
            news_cpu_us=round(statistics.median(news_us), 1),
        )
    return found


def _cpu_us(rounds: Sequence[Saturated]) -> Sequence[float]:
    return [1e6 * one.cpu_s / one.answered for one in rounds]
