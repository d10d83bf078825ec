"""`segue node-status`: all that is known of one node."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from segue.cli.conditions import notes_of, phase_words
from segue.cli.hand import URL, NodeName, Server, System
from segue.cli.history import entries_of, line
from segue.cli.words import duration
from segue.model.ids import NodeId, SystemName, node_id, system_name
from segue.wire.client import UpgradeServer
from segue.wire.hand import HistoryEntry, NodeDetail

#: Entries of its history that are shown.
_LAST = 10


def add_to(app: typer.Typer) -> None:
    """Give `app` this command."""
    app.command("node-status")(node_status)


def node_status(
    node: NodeName,
    system: System,
    server: Server = URL,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")] = False,
) -> None:
    """Show one node: what it runs and answers, what it waits for, its failure with the traceback, its disk, its facts.

    Below is what happened to it last; `segue history --node NODE` has all of it.
    """
    asyncio.run(_node_status(system_name(system), node_id(node), server, as_json=as_json))


async def _node_status(system: SystemName, node: NodeId, url: str, *, as_json: bool) -> None:
    console = Console(highlight=False, soft_wrap=True)
    async with UpgradeServer(url) as server:
        detail = await server.node(system, node)
        if as_json:
            print(detail.model_dump_json(indent=2))
            return
        happened = [entry async for entry in entries_of(server, system, node=node, last=_LAST)]
    for text in render(detail, happened, system):
        console.print(text)


def render(detail: NodeDetail, happened: list[HistoryEntry], system: SystemName) -> Iterator[Text]:
    """Yield the lines that are shown.

    Args:
        detail: the node.
        happened: what happened to it last, the oldest first.
        system: its system.
    """
    node, at = detail.node, detail.at
    yield Text.assemble((node.id, "bold"), f"  {node.class_name} at {node.address or 'no address'}")
    to = f" → {node.target_version}" if node.target_version else ""
    answers = f", answers {', '.join(map(str, node.answers))}" if node.answers else ""
    yield Text(f"version {node.version or 'none yet'}{to}{answers}")
    yield Text.assemble("phase ", phase_words(node, at), f", seen {duration(_ago(node.last_seen, at))} ago")
    if node.waits_for:
        yield Text(f"waits: {node.waits_for}", style="cyan")
    held = next((permit for permit in detail.permits if permit.returned_at is None), None)
    if held is not None:
        since = f"{held.granted_at.astimezone(UTC):%H:%M:%S} UTC"
        yield Text(f"away since {since}, from {held.from_version} to {held.to_version}", style="yellow")
    if node.attributes:
        yield Text("attributes  " + ", ".join(f"{name}={value}" for name, value in sorted(node.attributes.items())))
    if node.facts:
        yield Text("facts  " + ", ".join(f"{name} {value:g}" for name, value in sorted(node.facts.items())))
    if node.answered:
        calls = ", ".join(f"{count:,} of version {version}" for version, count in sorted(node.answered.items()))
        yield Text(f"calls answered  {calls}")
    yield from notes_of(node, at, system, verbose=True)
    if node.failure_details:
        yield Text()
        yield Text(node.failure_details.rstrip(), style="red")
    if happened:
        yield Text()
        yield from map(line, happened)


def _ago(then: datetime, at: datetime) -> float:
    return max(0.0, (at - then).total_seconds())
