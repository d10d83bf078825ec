"""The upgrade server under load, on each database that it can have: heartbeats at saturation, and whole rollouts."""

import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.fleet import Course, FleetFigures, measure_fleet
from benchmarks.heartbeats import (
    AliveFigures,
    HeartbeatFigures,
    Pressing,
    alive_figures,
    heartbeat_figures,
    measure_heartbeats,
)
from segue.testing.postgresql import NoPostgresqlError, Postgresql, postgresql

NO_POSTGRESQL = "heartbeats_postgresql and rollouts on PostgreSQL are left out: "
#: Of a fleet, so large a share may be away at once.
_AWAY = 10
#: Seconds between two heartbeats of a node; in a fleet that is larger than `_LARGE`, `_SELDOM_S`.
_OFTEN_S, _SELDOM_S, _LARGE = 10.0, 30.0, 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """How much is measured.

    Attributes:
        pressing: heartbeats at saturation.
        fleets: numbers of nodes, for a rollout each.
    """

    pressing: Pressing
    fleets: Sequence[int]

    @property
    def steps(self) -> int:
        """How often `tick` is called, where both databases are there."""
        return self.pressing.rounds + 2 * len(self.fleets)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceFigures:
    """What was measured.

    Attributes:
        heartbeats: `{database: figures}`
        alive: `{database: figures}`
        fleets: `{database and number of nodes: figures}`
        left_out: what could not be measured here, and why.
    """

    heartbeats: Mapping[str, HeartbeatFigures]
    alive: Mapping[str, AliveFigures]
    fleets: Mapping[str, FleetFigures]
    left_out: Sequence[str] = field(default=())


async def measure_service(service: Service, generator: random.Random, tick: Callable[[], None]) -> ServiceFigures:
    """Measure upgrade servers on SQLite and, where it is there, on PostgreSQL.

    Args:
        service: how much.
        generator: where randomness comes from.
        tick: is called after each step.
    """
    with tempfile.TemporaryDirectory(prefix="segue-bench-") as folder, _postgresql() as there:
        left_out = [f"{NO_POSTGRESQL}{there}"] if isinstance(there, str) else []

        def databases(name: str) -> Mapping[str, Path | str]:
            """Return empty databases: `{what it is: where}`."""
            sqlite: dict[str, Path | str] = {"sqlite": Path(folder) / name}
            return sqlite if isinstance(there, str) else {**sqlite, "postgresql": there.make_database(name)}

        seen = await measure_heartbeats(service.pressing, databases("heartbeats"), generator, tick)
        fleets: dict[str, FleetFigures] = {}
        for nodes in service.fleets:
            every_s = _SELDOM_S if nodes > _LARGE else _OFTEN_S
            course = Course(nodes=nodes, every_s=every_s, schedule=f"max_unavailable = {max(1, nodes // _AWAY)}")
            for name, where in databases(f"fleet{nodes}").items():
                fleets[f"{name}_{nodes}"] = await measure_fleet(course, where, generator.randrange(2**32))
                tick()
    return ServiceFigures(
        heartbeats=heartbeat_figures(seen.heartbeats, service.pressing.nodes, generator),
        alive=alive_figures(seen, generator),
        fleets=fleets,
        left_out=left_out,
    )


@contextmanager
def _postgresql() -> Iterator[Postgresql | str]:
    """Run a PostgreSQL that loses nothing, or say why there is none."""
    try:
        with postgresql(durable=True) as database:
            yield database
    except NoPostgresqlError as error:
        yield str(error)
