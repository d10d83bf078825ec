"""A large fleet in the middle of a rollout, at a glance: what an operator and Prometheus wait for.

The fleet is written into the database as it would stand there: half of it upgraded, some away, the others in the queue.
Before each look all nodes are heard of again, as they are within the half minute that lies between two looks.
"""

import asyncio
import hashlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import insert, update

from benchmarks.servers import HOST, Server, upgrade_server
from segue.model.ids import ClassName, ContentHash, NodeId, SystemName, Version
from segue.server.bundles import BundleFolder
from segue.server.facts import Ask, Permit, Report
from segue.server.publication import publish
from segue.server.schema import AskRow, Base, NodeRow, PermitRow, table_of
from segue.server.sql import SqlStore
from segue.testing.postgresql import NoPostgresqlError, postgresql
from segue.testing.server import bundle_of
from segue.wire.messages import Heartbeat, UpgradeRow, UsageRow

_SYSTEM = SystemName("blockstore")
_CLASS = ClassName("BlockNode")
_SCHEDULE = 'canary = { nodes = 1, soak = "30s" }\nmax_unavailable = 100\nfailure_budget = 20'
_METHOD = "/blockstore.BlockStore/Get"
#: Nodes that are written in one transaction.
_AT_ONCE = 1000
#: A rollout in its middle: of a hundred nodes, so many are through, and so many away.
_DONE, _AWAY = 50, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """How much is measured.

    Attributes:
        nodes: of the fleet.
        rounds: looks of each kind.
    """

    nodes: int
    rounds: int

    @property
    def steps(self) -> int:
        """How often `tick` is called, where both databases are there."""
        return 2 * (1 + self.rounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusFigures:
    """What looks at a fleet took, in milliseconds; medians, but for the first ones.

    Attributes:
        nodes: of the fleet.
        command_ms: of `segue status`, from the start of its process to the end.
        server_ms: of the answer to it.
        first_ms: of that answer by a server that has just started.
        node_ms: of what `segue node-status` asks for.
        metrics_ms: of the first look for Prometheus.
    """

    nodes: int
    command_ms: float
    server_ms: float
    first_ms: float
    node_ms: float
    metrics_ms: float


async def measure_statuses(looking: Looking, tick: Callable[[], None]) -> tuple[Mapping[str, StatusFigures], str]:
    """Measure an upgrade server on SQLite and, where it is there, one on PostgreSQL.

    Args:
        looking: how much.
        tick: is called after each step; there are `looking.steps`, where both are there.

    Returns:
        `{database: figures}`; and what was left out and why, or nothing.
    """
    with tempfile.TemporaryDirectory(prefix="segue-bench-") as folder:
        data = Path(folder) / "data"
        data.mkdir()
        figures = {"sqlite": await _measure(looking, data, Path(folder) / "bundles", tick)}
        try:
            with postgresql(durable=True) as there:
                where = there.make_database("status")
                figures["postgresql"] = await _measure(looking, where, Path(folder) / "bundles", tick)
        except NoPostgresqlError as error:
            return figures, f"status_postgresql is left out: {error}"
    return figures, ""


async def _measure(looking: Looking, where: Path | str, bundles: Path, tick: Callable[[], None]) -> StatusFigures:
    with closing(SqlStore(where / "database.sqlite" if isinstance(where, Path) else where)) as store:
        fill(store, looking.nodes, bundles)
        tick()
        async with upgrade_server(where) as server, httpx.AsyncClient(base_url=_url(server), timeout=60.0) as client:
            return await _Looks(looking, store, server, client).figures(tick)


class _Looks:
    def __init__(self, looking: Looking, store: SqlStore, server: Server, client: httpx.AsyncClient) -> None:
        self._looking, self._store, self._server, self._client = looking, store, server, client

    async def figures(self, tick: Callable[[], None]) -> StatusFigures:
        first_s = await self._look("/summary")
        servers_s, nodes_s, commands_s = [], [], []
        for _ in range(self._looking.rounds):
            servers_s.append(await self._look("/summary"))
            nodes_s.append(await self._look("/nodes/n0"))
            commands_s.append(await self._command_s())
            tick()
        metrics_s = [await self._look("/metrics", system="")]
        return StatusFigures(
            nodes=self._looking.nodes,
            command_ms=_ms(commands_s),
            server_ms=_ms(servers_s),
            first_ms=_ms([first_s]),
            node_ms=_ms(nodes_s),
            metrics_ms=_ms(metrics_s),
        )

    async def _look(self, path: str, system: str = f"/v1/systems/{_SYSTEM}") -> float:
        """Return how long the answer took, in seconds."""
        refresh(self._store)
        began = time.perf_counter()
        (await self._client.get(system + path)).raise_for_status()
        return time.perf_counter() - began

    async def _command_s(self) -> float:
        """Return how long `segue status` took, from the start of its process to its end."""
        refresh(self._store)
        command = (sys.executable, "-m", "segue", "status", "--system", _SYSTEM, "--server", _url(self._server))
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
        assert await process.wait() == 0, "segue status has failed"
        return time.perf_counter() - began


def fill(store: SqlStore, nodes: int, bundles: Path) -> None:
    """Write a fleet in the middle of a rollout into an empty database.

    Args:
        store: the database.
        nodes: how many.
        bundles: a folder for what is published.
    """
    now = store.now()
    for version in (1, 2):
        bundle = bundle_of(version, schedule=_SCHEDULE)
        sha256 = ContentHash(hashlib.sha256(bundle).hexdigest())
        publish(store, BundleFolder(bundles), bundle, sha256=sha256, now=now - timedelta(hours=1))
    reports = [_report(number, nodes, now) for number in range(nodes)]
    for begin in range(0, nodes, _AT_ONCE):
        store.hear(reports[begin : begin + _AT_ONCE])
    through = nodes * (_DONE + _AWAY) // 100
    with store.database.writing() as session:
        session.execute(insert(PermitRow), [_row(PermitRow, _permit(number, nodes, now)) for number in range(through)])
        session.execute(insert(AskRow), [_row(AskRow, _ask(number, now)) for number in range(through, nodes)])


def refresh(store: SqlStore) -> None:
    """Have all nodes heard of, and all requests repeated, just now."""
    with store.database.writing() as session:
        now = store.database.now(session)
        session.execute(update(NodeRow).values(last_seen=now))
        session.execute(update(AskRow).values(last_asked_at=now))


def _report(number: int, nodes: int, now: datetime) -> Report:
    done = number < nodes * _DONE // 100
    upgrade = UpgradeRow(
        from_version=1, to_version=2, pids=(1000, 1001), pause_ms=10.0 + number % 7, install_future_ms=20.0,
        transform_ms=5.0 + number % 11, transform_bytes=10**6, quiesced_at=now, serving_at=now,
    )  # fmt: skip
    said = Heartbeat(
        class_name=_CLASS, version=1 + done, address=f"10.0.{number // 250}.{number % 250}:9001",
        attributes={"zone": "abc"[number % 3], "rack": f"r{number % 40}", "host": f"h{number}"},
        phase="serving" if done else "waiting", pid=1000 + number, answers=(1, 2),
        facts={"error_rate": 0.001, "sessions": 12.0}, upgrades=(upgrade,) if done else (),
    )  # fmt: skip
    kinds = ((f"client-{number % 500}", False, 1), ("gateway", False, 2), (_name(number * 7 % nodes), True, 1))
    usage = tuple(
        UsageRow(
            incarnation=f"{number}-1", node_version=1 + done, caller_version=version, caller=caller, method=_METHOD,
            answered_by="current", from_node=from_node, outcome="OK", count=1000 + number,
        )
        for caller, from_node, version in kinds
    )  # fmt: skip
    return Report(system=_SYSTEM, node=_name(number), said=said, usage=usage)


def _permit(number: int, nodes: int, now: datetime) -> Permit:
    is_away = number >= nodes * _DONE // 100
    granted_at = now - timedelta(minutes=50) + timedelta(seconds=2400 * number / nodes)
    return Permit(
        id=f"p{number}", node=_name(number), class_name=_CLASS, from_version=Version(1), to_version=Version(2),
        granted_at=granted_at, returned_at=None if is_away else granted_at + timedelta(seconds=20),
    )  # fmt: skip


def _ask(number: int, now: datetime) -> Ask:
    return Ask(
        node=_name(number), class_name=_CLASS, from_version=Version(1), to_version=Version(2),
        asked_at=now - timedelta(minutes=10), last_asked_at=now,
    )  # fmt: skip


def _row(table: type[Base], fact: Permit | Ask) -> dict[str, Any]:
    kept = table_of(table).c
    return {"system": _SYSTEM, **{name: value for name, value in asdict(fact).items() if name in kept}}


def _name(number: int) -> NodeId:
    return NodeId(f"n{number}")


def _url(server: Server) -> str:
    return f"http://{HOST}:{server.port}"


def _ms(seconds: Sequence[float]) -> float:
    return round(1000 * statistics.median(seconds), 1)
