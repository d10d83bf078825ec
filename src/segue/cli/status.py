"""`segue status`: the fleet at a glance."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Protocol, TypeVar

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from segue.cli import overview
from segue.cli.conditions import notes, phase_words
from segue.cli.usage import clients
from segue.cli.words import duration
from segue.errors import PeerError
from segue.model.ids import SystemName, system_name
from segue.wire.client import UpgradeServer
from segue.wire.messages import NodeStatus, SystemStatus
from segue.wire.summary import SystemSummary

#: A fleet of so many nodes has a row for each; a larger one would fill the screen with them.
ROWS_LIMIT = 25
_WATCH_S = 1.0


def add_to(app: typer.Typer) -> None:
    """Give `app` this command."""
    app.command("status")(status)


def status(
    system: Annotated[str, typer.Option(help="Which system.")],
    server: Annotated[str, typer.Option(help="The upgrade server's URL.")] = "http://127.0.0.1:7000",
    watch: Annotated[bool, typer.Option("--watch", help="Show it anew each second, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say more of each node: its process, disk, last upgrade.")
    ] = False,
) -> None:
    """Show a system: who runs what, how far a rollout is and when it may be over, what nodes wait for, who calls.

    What holds the whole rollout comes first: a pause, an abort, a budget of failures that is spent, with who and why.
    A fleet of up to 25 nodes, or any with --verbose, has a row for each: what it runs, where it is on its way, and
    the calls that it answered, by the version that their callers spoke. A larger one has a row for each class, and
    for each value of its attributes. Nodes that wait for the same are named together. Below is who still calls with
    which version.

    `segue node-status NODE` says all of one node, `segue history` what happened. With --json the document is the
    upgrade server's own, as its API describes it; nodes, permits and calls in full are there.
    """
    with suppress(KeyboardInterrupt):
        asyncio.run(_status(system_name(system), server, watch=watch, as_json=as_json, verbose=verbose))


class Server(Protocol):
    """What is asked for the status."""

    async def status(self, system: SystemName) -> SystemStatus:
        """Return how things stand, node by node."""
        ...

    async def summary(self, system: SystemName) -> SystemSummary:
        """Return how things stand, at a glance."""
        ...


@dataclass(frozen=True, slots=True)
class View:
    """What is shown: a system at a glance, and node by node if it has few."""

    summary: SystemSummary
    full: SystemStatus | None


Shown = TypeVar("Shown", View, SystemStatus)


async def look(server: Server, system: SystemName, *, verbose: bool = False) -> View:
    """Ask for what is to be shown.

    Args:
        server: the upgrade server.
        system: which system.
        verbose: whether each node is to be shown, however many there are.
    """
    summary = await server.summary(system)
    return View(summary, await server.status(system) if verbose or summary.nodes <= ROWS_LIMIT else None)


async def _status(system: SystemName, url: str, *, watch: bool, as_json: bool, verbose: bool) -> None:
    async with UpgradeServer(url) as server:
        if watch and as_json:
            await print_each(server, system)
        elif watch:
            await draw_each(server, system, Console(), verbose=verbose)
        elif as_json:
            print((await server.status(system)).model_dump_json(indent=2))
        else:
            Console().print(render(await look(server, system, verbose=verbose), verbose=verbose))


async def each(
    ask: Callable[[], Awaitable[Shown]], every_s: float = _WATCH_S
) -> AsyncIterator[tuple[Shown, str | None]]:
    """Yield what is shown again and again; while the server does not answer, the last one, with the reason.

    Raises:
        PeerError: there was no answer to the first question.
        OperatorError: the server knows no such system.
    """
    now = await ask()
    yield now, None
    while True:
        await asyncio.sleep(every_s)
        try:
            now = await ask()
        except PeerError as error:
            yield now, str(error)
        else:
            yield now, None


async def print_each(server: Server, system: SystemName, every_s: float = _WATCH_S) -> None:
    """Print each status as a line of JSON; that the server does not answer is said on standard error, once."""
    silent = False
    async for now, reason in each(lambda: server.status(system), every_s):
        if reason is None:
            print(now.model_dump_json(), flush=True)
        elif not silent:
            print(f"segue: the server does not answer, it is asked again: {reason}", file=sys.stderr, flush=True)
        silent = reason is not None


async def draw_each(
    server: Server, system: SystemName, console: Console, every_s: float = _WATCH_S, *, verbose: bool = False
) -> None:
    """Draw each status over the one before; what is drawn while the server does not answer says so."""
    with Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
        async for now, reason in each(lambda: look(server, system, verbose=verbose), every_s):
            live.update(render(now, silent=reason is not None, verbose=verbose), refresh=True)


def render(view: View, *, silent: bool = False, verbose: bool = False) -> RenderableType:
    """Return the system as it is shown in a terminal.

    Args:
        view: how it stands.
        silent: whether the server has stopped to answer since.
        verbose: whether to say more of each node.
    """
    now, full = view.summary, view.full
    silence = f"as of {now.at.astimezone():%H:%M:%S}; the server does not answer" if silent else ""
    return Group(
        _headline(full, now.newest) if full else overview.headline(now),
        *overview.alarms(now),
        *overview.dry_runs(now),
        *overview.progress(now),
        Text(silence, style="bold red"),
        *(_nodes(full, now, verbose=verbose) if full else _groups(now)),
    )


def _groups(now: SystemSummary) -> Iterator[RenderableType]:
    """Yield the parts below the headline for a fleet of any size."""
    yield overview.groups(now)
    below, callers = [*overview.waits(now), *overview.failures(now)], overview.callers(now)
    if below:
        yield from (Text(), *below)
    if callers:
        yield Text()
        yield callers


def _nodes(now: SystemStatus, summary: SystemSummary, *, verbose: bool) -> Iterator[RenderableType]:
    """Yield the parts below the headline for a fleet of few nodes."""
    newest = summary.newest
    versions = sorted({version for node in now.nodes for version in node.answered} | {newest} - {0})
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("node", "class", "attributes", "version", "answers", "phase"):
        table.add_column(heading, no_wrap=heading != "phase")
    for version in versions:
        table.add_column(f"calls v{version}", justify="right", no_wrap=True)
    for node in now.nodes:
        calls = (f"{node.answered.get(version, 0):,}" for version in versions)
        table.add_row(*_row(node, newest, now), *calls)
    yield table
    callers = clients(now)
    below = [*overview.waits(summary), *notes(now, verbose=verbose)]
    if callers:
        yield Text()
        yield callers
    if below:
        yield from (Text(), *below)
    if any(node.failure and node.failure_details for node in now.nodes):
        yield Text("tracebacks of failures: segue node-status NODE", style="dim")


def _headline(now: SystemStatus, newest: int) -> Text:
    upgraded = sum(node.version == newest for node in now.nodes)
    away = [node.id for node in now.nodes if node.away]
    said = f"version {newest}: {upgraded} of {len(now.nodes)} nodes run it"
    line = Text.assemble((now.system, "bold"), f"  {said if newest else 'no release has been published'}")
    if away:
        line.append(f", away: {', '.join(away)}", style="yellow")
    failed = _names(node.id for node in now.nodes if node.failure)
    if failed:
        line.append(f", failed: {failed}", style="red")
    silent = _names(node.id for node in now.nodes if node.silent)
    if silent:
        line.append(f", silent: {silent}", style="bold red")
    return line


def _row(node: NodeStatus, newest: int, now: SystemStatus) -> tuple[RenderableType, ...]:
    version = f"{node.version} → {node.target_version}" if node.target_version else str(node.version)
    if node.silent:
        silent_s = abs((now.at - node.last_seen).total_seconds())  # the clock may have been put back
        phase = Text(f"silent for {duration(int(silent_s))}, last {node.phase}", style="bold red")
    else:
        phase = phase_words(node, now.at)
    return (
        Text(node.id),
        Text(node.class_name),
        Text(_names(f"{name}={value}" for name, value in sorted(node.attributes.items()))),
        Text(version, style="green" if node.version == newest else ""),
        Text("-".join(map(str, dict.fromkeys((node.answers[0], node.answers[-1])))) if node.answers else ""),
        phase,
    )


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)
