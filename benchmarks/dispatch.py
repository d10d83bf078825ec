"""Measures what a call costs through the layer: `python -m benchmarks.dispatch`.

A null unary call of 100 bytes, one after another, each way:

- `bare`: plain grpc.aio at both ends, a generic handler as one would write it by hand;
- `same_version`: a labelled channel, and the layer's dispatch to the current object;
- `one_simulation`: a label of version 1, and a past simulation that delegates to version 2's object.

Each way has a server process of its own; one client process makes blocks of calls, in a new random
order in each round, so that whatever else the machine does meets all ways alike. The servers are
replaced several times, as two processes of the same program differ by a few per cent. `ratio` is
paired: in each round the median of a way's block is divided by the median of the same round's `bare`
block, and the median over all rounds is given. It is what to compare between machines; the microseconds are
not. `ratio_low` and `ratio_high` bound that median with 95 % confidence (by resampling the rounds).
"""

import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.server import METHOD, VARIANTS
from segue.layer.grpc_channel import labelled_channel

RESULTS = Path(__file__).with_name("results.json")
PAYLOAD = b"x" * 100
#: How many times the servers are started.
GENERATIONS = 6
ROUNDS_PER_GENERATION = 45
CALLS_PER_BLOCK = 40
#: Calls to each new server before its first round, for connections, caches and the kernel's buffers.
WARM_UP_CALLS = 300
#: Calls at a block's head that are not counted: the other server's process was running until then.
DISCARDED = 5
#: What issue 2 asks for.
LIMITS = {"same_version": 1.05, "one_simulation": 1.08}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One way's figures; times in microseconds."""

    median_us: float
    p95_us: float
    ratio: float
    ratio_low: float
    ratio_high: float
    calls: int


@contextmanager
def _server(variant: str) -> Iterator[int]:
    """Run a server in a process of its own, and give its port."""
    command = [sys.executable, "-m", "benchmarks.server", variant]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.communicate("", timeout=10)


def _channel(variant: str, port: int) -> grpc.aio.Channel:
    target = f"127.0.0.1:{port}"
    return grpc.aio.insecure_channel(target) if variant == "bare" else labelled_channel(target, version=1)


async def _block(call: Any, calls: int) -> list[float]:
    """Make calls one after another and return what each took, in seconds."""
    times: list[float] = []
    for _ in range(calls):
        began = time.perf_counter()
        await call(PAYLOAD)
        times.append(time.perf_counter() - began)
    return times


async def _generation(shuffle: random.Random) -> dict[str, list[list[float]]]:
    """Start a server for each way, measure, and return `{variant: a list of times for each round}`."""
    rounds: dict[str, list[list[float]]] = {variant: [] for variant in VARIANTS}
    async with AsyncExitStack() as stack:
        calls: dict[str, Any] = {}
        for variant in VARIANTS:
            channel = _channel(variant, stack.enter_context(_server(variant)))
            calls[variant] = (await stack.enter_async_context(channel)).unary_unary(METHOD)
            await _block(calls[variant], WARM_UP_CALLS)
        for _ in range(ROUNDS_PER_GENERATION):
            for variant in shuffle.sample(list(VARIANTS), len(VARIANTS)):
                rounds[variant].append((await _block(calls[variant], DISCARDED + CALLS_PER_BLOCK))[DISCARDED:])
    return rounds


async def _measure(shuffle: random.Random) -> dict[str, list[list[float]]]:
    """Return the rounds of all generations: `{variant: a list of times for each round}`."""
    rounds: dict[str, list[list[float]]] = {variant: [] for variant in VARIANTS}
    for _ in track(range(GENERATIONS), description="measuring"):
        for variant, blocks in (await _generation(shuffle)).items():
            rounds[variant].extend(blocks)
    return rounds


def _figures(rounds: dict[str, list[list[float]]], resample: random.Random) -> dict[str, Figure]:
    bare = [statistics.median(block) for block in rounds["bare"]]
    figures: dict[str, Figure] = {}
    for variant, blocks in rounds.items():
        times = [seconds * 1e6 for block in blocks for seconds in block]
        ratios = [statistics.median(block) / base for block, base in zip(blocks, bare, strict=True)]
        medians = sorted(statistics.median(resample.choices(ratios, k=len(ratios))) for _ in range(1000))
        figures[variant] = Figure(
            median_us=round(statistics.median(times), 1),
            p95_us=round(statistics.quantiles(times, n=20)[-1], 1),
            ratio=round(statistics.median(ratios), 4),
            ratio_low=round(medians[25], 4),
            ratio_high=round(medians[-26], 4),
            calls=len(times),
        )
    return figures


def _print(figures: dict[str, Figure], seed: int) -> None:
    table = Table(title=f"A null unary call of {len(PAYLOAD)} bytes, {figures['bare'].calls} each way, seed {seed}")
    for heading in ("way", "median us", "p95 us", "ratio", "95 %", "limit"):
        table.add_column(heading, justify="left" if heading == "way" else "right", no_wrap=True)
    for variant, figure in figures.items():
        limit = LIMITS.get(variant)
        table.add_row(
            variant,
            f"{figure.median_us:.0f}",
            f"{figure.p95_us:.0f}",
            f"{figure.ratio:.3f}",
            f"{figure.ratio_low:.3f} to {figure.ratio_high:.3f}",
            "" if limit is None else f"{limit:.2f} {'kept' if figure.ratio <= limit else 'broken'}",
        )
    Console().print(table)


def main() -> None:
    """Measure, print a table, and write `results.json`; the seed can be given as an argument."""
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else random.SystemRandom().randrange(10**6)
    generator = random.Random(seed)
    figures = _figures(asyncio.run(_measure(generator)), generator)
    _print(figures, seed)
    context = {
        "seed": seed,
        "rounds": GENERATIONS * ROUNDS_PER_GENERATION,
        "calls_per_block": CALLS_PER_BLOCK,
        "payload_bytes": len(PAYLOAD),
        "python": platform.python_version(),
        "grpcio": grpc.__version__,
        "cores": os.cpu_count(),
    }
    results = {**{variant: asdict(figure) for variant, figure in figures.items()}, "context": context}
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
