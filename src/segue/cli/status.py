"""`segue status`: the fleet at a glance."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Annotated, Protocol

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from segue.cli.conditions import notes, phase_words
from segue.cli.usage import clients
from segue.errors import PeerError
from segue.model.ids import SystemName, system_name
from segue.schedule.rules import STALE_S
from segue.wire.client import UpgradeServer
from segue.wire.messages import NodeStatus, SystemStatus

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
    """Show a system: a row per node, what it runs, where it is on its way, how far its transform is, what it waits for.

    `calls` are those that the node answered, by the version that their callers spoke. Below is who of the
    clients called with which version: those first who did within the last minute. With --json the document is
    the upgrade server's own, as its API describes it; permits and calls in full are there.
    """
    with suppress(KeyboardInterrupt):
        asyncio.run(_status(system_name(system), server, watch=watch, as_json=as_json, verbose=verbose))


class Server(Protocol):
    """What is asked for the status."""

    async def status(self, system: SystemName) -> SystemStatus:
        """Return how things stand."""
        ...


async def _status(system: SystemName, url: str, *, watch: bool, as_json: bool, verbose: bool) -> None:
    async with UpgradeServer(url) as server:
        if not watch:
            now = await server.status(system)
            if as_json:
                print(now.model_dump_json(indent=2))
            else:
                Console().print(render(now, verbose=verbose))
        elif as_json:
            await print_each(server, system)
        else:
            await draw_each(server, system, Console(), verbose=verbose)


async def each(
    server: Server, system: SystemName, every_s: float = _WATCH_S
) -> AsyncIterator[tuple[SystemStatus, str | None]]:
    """Yield the status again and again; while the server does not answer, the last one, with the reason.

    Raises:
        PeerError: there was no answer to the first question.
        OperatorError: the server knows no such system.
    """
    now = await server.status(system)
    yield now, None
    while True:
        await asyncio.sleep(every_s)
        try:
            now = await server.status(system)
        except PeerError as error:
            yield now, str(error)
        else:
            yield now, None


async def print_each(server: Server, system: SystemName, every_s: float = _WATCH_S) -> None:
    """Print each status as a line of JSON; that the server does not answer is said on standard error, once."""
    silent = False
    async for now, reason in each(server, system, every_s):
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
        async for now, reason in each(server, system, every_s):
            live.update(render(now, silent=reason is not None, verbose=verbose), refresh=True)


def render(now: SystemStatus, *, silent: bool = False, verbose: bool = False) -> RenderableType:
    """Return the system as it is shown in a terminal.

    Args:
        now: how it stands.
        silent: whether the server has stopped to answer since.
        verbose: whether to say more of each node.
    """
    newest = max((release.version for release in now.releases), default=0)
    versions = sorted({version for node in now.nodes for version in node.answered} | {newest} - {0})
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("node", "class", "attributes", "version", "answers", "phase"):
        table.add_column(heading, no_wrap=heading != "phase")
    for version in versions:
        table.add_column(f"calls v{version}", justify="right", no_wrap=True)
    for node in now.nodes:
        calls = (f"{node.answered.get(version, 0):,}" for version in versions)
        table.add_row(*_row(node, newest, now), *calls)
    below = notes(now, verbose=verbose)
    traced = any(node.failure and node.failure_details for node in now.nodes)
    silence = f"as of {now.at.astimezone():%H:%M:%S}; the server does not answer" if silent else ""
    callers = clients(now)
    return Group(
        _headline(now, newest),
        Text(silence, style="bold red"),
        table,
        *([Text(), callers] if callers else ()),
        *([Text(), *below] if below else ()),
        *([Text("tracebacks of failures: segue status --json, failure_details", style="dim")] if traced else ()),
    )


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
    silent = _names(node.id for node in now.nodes if _silent_s(node, now))
    if silent:
        line.append(f", silent: {silent}", style="bold red")
    return line


def _silent_s(node: NodeStatus, now: SystemStatus) -> int:
    """Return for how many seconds the node has not reported; 0 if no longer than is usual."""
    silent_s = (now.at - node.last_seen).total_seconds()
    return int(silent_s) if silent_s > STALE_S else 0


def _row(node: NodeStatus, newest: int, now: SystemStatus) -> tuple[RenderableType, ...]:
    version = f"{node.version} → {node.target_version}" if node.target_version else str(node.version)
    silent_s = _silent_s(node, now)
    if silent_s:
        phase = Text(f"silent for {silent_s} s, last {node.phase}", style="bold red")
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
