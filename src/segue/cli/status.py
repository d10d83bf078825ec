"""`segue status`: the fleet at a glance."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Annotated

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from segue.errors import PeerError
from segue.model.ids import SystemName, system_name
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
) -> None:
    """Show a system: a row per node, what it runs, where it is on its way, what it waits for.

    `calls` are those that the node answered, by the version that their callers spoke. With --json the
    document is the upgrade server's own, as its API describes it; permits and calls in full are there.
    """
    with suppress(KeyboardInterrupt):
        asyncio.run(_status(system_name(system), server, watch=watch, as_json=as_json))


async def _status(system: SystemName, url: str, *, watch: bool, as_json: bool) -> None:
    async with UpgradeServer(url) as server:
        now = await server.status(system)
        if as_json:
            while True:
                print(now.model_dump_json(indent=None if watch else 2), flush=True)
                if not watch:
                    return
                await asyncio.sleep(_WATCH_S)
                now = await server.status(system)
        console = Console()
        if not watch:
            console.print(render(now))
            return
        with Live(render(now), console=console, auto_refresh=False, screen=console.is_terminal) as live:
            while True:
                await asyncio.sleep(_WATCH_S)
                with suppress(PeerError):  # the last picture stays until the server is back
                    live.update(render(await server.status(system)), refresh=True)


def render(now: SystemStatus) -> RenderableType:
    """Return the system as it is shown in a terminal."""
    newest = max((release.version for release in now.releases), default=0)
    versions = sorted({version for node in now.nodes for version in node.answered} | {newest} - {0})
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("node", "class", "attributes", "version", "phase"):
        table.add_column(heading, no_wrap=heading != "phase")
    for version in versions:
        table.add_column(f"calls v{version}", justify="right", no_wrap=True)
    for node in now.nodes:
        table.add_row(*_row(node, newest), *(f"{node.answered.get(version, 0):,}" for version in versions))
    return Group(_headline(now, newest), Text(), table)


def _headline(now: SystemStatus, newest: int) -> Text:
    upgraded = sum(node.version == newest for node in now.nodes)
    away = [node.id for node in now.nodes if node.away]
    line = Text.assemble((now.system, "bold"), f"  version {newest}: {upgraded} of {len(now.nodes)} nodes run it")
    if away:
        line.append(f", away: {', '.join(away)}", style="yellow")
    failed = _names(node.id for node in now.nodes if node.failure)
    if failed:
        line.append(f", failed: {failed}", style="red")
    return line


def _row(node: NodeStatus, newest: int) -> tuple[RenderableType, ...]:
    version = f"{node.version} → {node.target_version}" if node.target_version else str(node.version)
    if node.failure:
        phase = Text(f"{node.phase}; {node.failure}", style="red")
    elif node.waits_for:
        phase = Text(f"{node.phase}: {node.waits_for}", style="cyan")
    else:
        phase = Text(node.phase, style="yellow" if node.away else "")
    return (
        node.id,
        node.class_name,
        _names(f"{name}={value}" for name, value in sorted(node.attributes.items())),
        Text(version, style="green" if node.version == newest else ""),
        phase,
    )


def _names(names: Iterable[str]) -> str:
    return ", ".join(names)
