"""`segue history`: what happened to a system, and who did it."""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from datetime import UTC
from typing import Annotated, Protocol

import typer
from rich.console import Console
from rich.text import Text

from segue.cli.hand import URL, Server, System
from segue.cli.overview import shortened
from segue.errors import PeerError
from segue.model.history import Kind
from segue.model.ids import SystemName, node_id, system_name
from segue.wire.client import UpgradeServer
from segue.wire.hand import HISTORY_LIMIT, HistoryEntry, HistoryPage

_FOLLOW_S = 1.0


_STYLES = {Kind.FAILED: "red", Kind.LAPSED: "red", Kind.HALTED: "bold red", Kind.ACTED: "bold", Kind.PHASE: "dim"}


class Source(Protocol):
    """Who is asked."""

    async def history(
        self,
        system: SystemName,
        *,
        after: int = 0,
        last: int | None = None,
        before: int | None = None,
        node: str | None = None,
        kinds: tuple[str, ...] = (),
    ) -> HistoryPage:
        """Return the next part of the history."""
        ...


def add_to(app: typer.Typer) -> None:
    """Give `app` this command."""
    app.command("history")(history)


def history(
    system: System,
    server: Server = URL,
    node: Annotated[str | None, typer.Option(help="Only what is about this node.")] = None,
    kind: Annotated[
        list[Kind] | None,
        typer.Option(help="Only this; may be given again. By default all but `phase`; with --node, that too."),
    ] = None,
    last: Annotated[int, typer.Option(min=0, help="Only so many of the last; 0 for all.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON document per line, for programs.")] = False,
) -> None:
    """Show what happened to a system, the oldest first: releases, permits, failures, and what operators did and why.

    Nothing of it is ever rewritten. Times are UTC.
    """
    if node is not None:
        node_id(node)
    kinds = tuple(kind or [one for one in Kind if one is not Kind.PHASE or node is not None])
    with suppress(KeyboardInterrupt):
        asyncio.run(_history(system_name(system), server, node, kinds, last=last, follow=follow, as_json=as_json))


async def _history(
    system: SystemName, url: str, node: str | None, kinds: tuple[str, ...], *, last: int, follow: bool, as_json: bool
) -> None:
    console = Console(highlight=False, soft_wrap=True)
    async with UpgradeServer(url) as server:
        async for entry in entries_of(server, system, node=node, kinds=kinds, last=last, follow=follow):
            if as_json:
                print(entry.model_dump_json(), flush=True)
            else:
                console.print(line(entry))


async def entries_of(
    source: Source,
    system: SystemName,
    *,
    node: str | None = None,
    kinds: tuple[str, ...] = (),
    last: int = 0,
    follow: bool = False,
) -> AsyncIterator[HistoryEntry]:
    """Yield what happened, and with `follow` what happens; that the server does not answer is said once.

    Args:
        source: who is asked.
        system: which system.
        node: only what is about this node.
        kinds: only these.
        last: so many of what is there already; 0 for all.
        follow: whether to go on.

    Raises:
        PeerError: there was no answer to the first question.
        OperatorError: the server knows no such system.
    """
    after = 0
    if last:
        known, after = await _last_of(source, system, node, kinds, last)
        for entry in known:
            yield entry
    more = not last
    while more:
        page = await source.history(system, after=after, node=node, kinds=kinds)
        for entry in page.entries:
            yield entry
        more, after = page.more_after is not None, _seen(page, after)
    silent = False
    while follow:
        await asyncio.sleep(_FOLLOW_S)
        try:
            page = await source.history(system, after=after, node=node, kinds=kinds)
        except PeerError as error:
            if not silent:
                print(f"segue: the server does not answer, it is asked again: {error}", file=sys.stderr, flush=True)
            silent = True
            continue
        silent = False
        for entry in page.entries:
            yield entry
        after = _seen(page, after)


async def _last_of(
    source: Source, system: SystemName, node: str | None, kinds: tuple[str, ...], last: int
) -> tuple[Iterable[HistoryEntry], int]:
    """Return the last entries, read backwards; and the number of the last one that was looked at."""
    page = await source.history(system, last=min(last, HISTORY_LIMIT), node=node, kinds=kinds)
    known, after = deque(page.entries, maxlen=last), _seen(page, 0)
    while page.more_after is not None:  # an upgrade server that is too old to tell the last ones has told the first
        page = await source.history(system, after=after, node=node, kinds=kinds)
        known.extend(page.entries)
        after = _seen(page, after)
    while page.more_before is not None and len(known) < last:
        fewer = min(last - len(known), HISTORY_LIMIT)
        page = await source.history(system, last=fewer, before=page.more_before, node=node, kinds=kinds)
        known.extendleft(reversed(page.entries))
    return known, after


def _seen(page: HistoryPage, after: int) -> int:
    """Return the number up to which all is known with this page, which was asked for from `after`."""
    if page.up_to is not None:
        return page.up_to
    return page.entries[-1].number if page.entries else after


def line(entry: HistoryEntry) -> Text:
    """Say an entry in one line."""
    text = Text(f"{entry.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}  ", style="dim")
    style = "red" if entry.details.get("failed") else _STYLES.get(Kind(entry.kind), "") if entry.kind in _KINDS else ""
    return text.append(_words(entry), style=style or "not dim")


_KINDS = frozenset(Kind)


def _words(entry: HistoryEntry) -> str:
    if entry.kind == Kind.ACTED:
        about = [f"release {entry.version}"] if entry.version else []
        about += [f"gate {entry.details['gate']}"] if "gate" in entry.details else []
        about += [f"node {entry.node}"] if entry.node else []
        deed = entry.details.get("deed", "acted")
        named = f"{deed} (an override)" if deed == "force" or entry.details.get("forced") else deed
        return f"{entry.who}: {named}{' ' if about else ''}{', '.join(about)}{': ' if entry.text else ''}{entry.text}"
    if entry.kind == Kind.PUBLISHED:
        return f"release {entry.version} published{': ' if entry.text else ''}{entry.text}"
    if entry.kind in (Kind.HALTED, Kind.LIFTED):
        what = "halted" if entry.kind == Kind.HALTED else "is halted no more"
        return f"release {entry.version} {what} for {entry.details.get('class_name', 'a class')}: {entry.text}"
    return f"{entry.node}: {entry.kind}{' ' if entry.text else ''}{shortened(entry.text)}"
