"""The demo in the terminal: a live table where there is one, plain lines where there is none."""

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from segue.demo.palette import style_of
from segue.demo.phases import AWAY, ON_THE_WAY
from segue.model.ids import NodeId, Version

#: Seconds between two lines where nothing is live, so that a log stays short.
_PLAIN_EVERY_S = 5.0

#: Things that nodes wait for, of which so many are shown where a node failed.
_WAITS_SHOWN = 2

#: Columns from which on the table also says what nodes wait for.
_WIDE = 110


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """A node as it is shown.

    Attributes:
        id: which.
        zone: where it stands.
        version: that it runs; 0 before it first serves.
        target: the version that it goes to; None while it goes nowhere.
        phase: as in its status.
        pid: of its process.
        answered: `{caller's version: calls answered}`.
        waits_for: what the schedule has it wait for, in words; None if it waits for nothing.
        transformed: how far its transform is, 0 to 1; None if none is under way, or its author does not count.
        failure: why its last attempt failed; None if it did not.
    """

    id: NodeId
    zone: str
    version: int
    target: int | None
    phase: str
    pid: int | None
    answered: Mapping[int, int]
    waits_for: str | None = None
    transformed: float | None = None
    failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that is shown at one moment.

    Attributes:
        step: what the demo does now, in words.
        elapsed_s: since it began.
        versions: the one that ran first, and those that come after, in order.
        nodes: a row per node.
        rates: `{version of clients: their calls per second}`.
        calls: of clients, until now.
        failed: of these.
        refused: of these, those that were refused as they must be.
        done: how far the step is, 0 to 1; None if it has no measure.
    """

    step: str
    elapsed_s: float
    versions: tuple[Version, ...]
    nodes: tuple[NodeRow, ...] = ()
    rates: Mapping[Version, float] = field(default_factory=dict)
    calls: int = 0
    failed: int = 0
    refused: int = 0
    done: float | None = None

    @property
    def newest(self) -> Version:
        """The version that all nodes are to come to."""
        return self.versions[-1]


class Watch(Protocol):
    """Shows views one after the other, until it is left."""

    def show(self, view: View) -> None:
        """Show `view` in place of the one before."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


def watch_on(console: Console) -> Watch:
    """Return what suits `console`: the live table on a terminal, else plain lines."""
    return LiveWatch(console) if console.is_terminal else PlainWatch(console)


class LiveWatch:
    """A table that is redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=False)

    def show(self, view: View) -> None:
        """Redraw the table."""
        self._live.update(render(view), refresh=True)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._live.stop()


class PlainWatch:
    """A line per step, per node that has changed its version, and every few seconds besides."""

    def __init__(self, console: Console, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._monotonic = monotonic
        self._step = ""
        self._versions: dict[NodeId, int] = {}
        self._failures: dict[NodeId, str | None] = {}
        self._said_s = float("-inf")

    def show(self, view: View) -> None:
        """Print what is new in `view`, if anything is."""
        changed = [
            f"{row.id} now runs version {row.version}"
            for row in view.nodes
            if row.version and self._versions.get(row.id, row.version) != row.version
        ]
        changed += [
            f"{row.id} failed: {row.failure}"
            for row in view.nodes
            if row.failure and row.failure != self._failures.get(row.id)
        ]
        self._failures = {row.id: row.failure for row in view.nodes}
        self._versions.update({row.id: row.version for row in view.nodes if row.version})
        if view.step != self._step:
            self._say(view, view.step)
        for line in changed:
            self._say(view, line)
        progress = _progress_words(view)
        if progress and self._monotonic() - self._said_s >= _PLAIN_EVERY_S:
            self._say(view, progress)
        self._step = view.step

    def _say(self, view: View, text: str) -> None:
        self._said_s = self._monotonic()
        self._console.print(f"{view.elapsed_s:6.1f} s  {text}", highlight=False, markup=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None: ...


def _progress_words(view: View) -> str:
    parts = [f"{view.done:.0%} of it done"] if view.done is not None else []
    if any(row.version == view.newest for row in view.nodes):
        parts.append(f"{_upgraded(view)} of {len(view.nodes)} nodes run version {view.newest}")
    if view.calls:
        parts.append(f"{sum(view.rates.values()):.0f} calls/s, {view.failed:,} failed")
    return ", ".join(parts)


def _upgraded(view: View) -> int:
    return sum(row.version == view.newest for row in view.nodes)


def render(view: View) -> RenderableType:
    """Return the whole screen for `view`: 80 columns are enough, and more say what nodes wait for."""
    calls = (Padding(_calls_line(view), (0, 2)),) if view.calls else ()
    halts = (Padding(_why_line(view), (0, 2)),) if any(row.failure for row in view.nodes) else ()
    return Group(
        Text(),
        _step_line(view),
        Text(),
        Padding(_NodeTable(view), (0, 0, 0, 1)),
        Text(),
        Padding(_rollout_line(view), (0, 2)),
        *calls,
        *halts,
        Text(),
    )


def _step_line(view: View) -> RenderableType:
    line = Table.grid(expand=True, padding=(0, 1))
    line.add_column(width=1)
    line.add_column(ratio=1, overflow="ellipsis", no_wrap=True)
    line.add_column(justify="right", no_wrap=True, style="dim")
    line.add_row(Text("▶", style="bold green"), Text(view.step, style="bold"), f"{_clock(view.elapsed_s)} ")
    if view.done is None:
        return line
    bar = Table.grid(expand=True, padding=(0, 1))
    bar.add_column(width=1)
    bar.add_column(ratio=1)
    bar.add_column(width=5, justify="right")
    bar.add_row("", ProgressBar(total=1.0, completed=view.done, complete_style="green"), f"{view.done:.0%} ")
    return Group(line, bar)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


@dataclass(frozen=True, slots=True)
class _NodeTable:
    """The nodes, as much of each as there is room for."""

    view: View

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        view, wide = self.view, options.max_width >= _WIDE
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim", expand=wide)
        table.add_column("node", no_wrap=True, min_width=4)
        table.add_column("zone", no_wrap=True)
        table.add_column("version", no_wrap=True, min_width=7)
        table.add_column("phase", no_wrap=True, min_width=15)
        table.add_column("pid", justify="right", no_wrap=True, min_width=7)
        for version in view.versions:
            table.add_column(f"v{version} calls", justify="right", style=style_of(version), no_wrap=True, min_width=8)
        if wide:
            table.add_column("waits for", style="dim", no_wrap=True, overflow="ellipsis", ratio=1)
        for row in view.nodes:
            cells = _cells(row, view)
            table.add_row(*cells, Text(row.waits_for or "")) if wide else table.add_row(*cells)
        yield table


def _cells(row: NodeRow, view: View) -> tuple[RenderableType, ...]:
    return (
        Text(row.id, style="bold"),
        Text(row.zone),
        _version(row),
        _phase(row),
        str(row.pid) if row.pid else "",
        *(f"{row.answered.get(version, 0):,}" for version in view.versions),
    )


def _version(row: NodeRow) -> Text:
    if not row.version:
        return Text("·", style="dim")
    text = Text(str(row.version), style=style_of(Version(row.version)))
    if row.target is not None and row.target != row.version:
        text.append(" → ", style="dim").append(str(row.target), style=style_of(Version(row.target)))
    return text


def _phase(row: NodeRow) -> Text:
    if row.phase in AWAY:
        # In the width of the phases' names, so that the table does not jump.
        words = row.phase if row.transformed is None else f"transform {row.transformed:4.0%}"
        return Text(f"◌ {words}", style="bold red")
    if row.phase in ON_THE_WAY:
        return Text(f"● {row.phase}", style="yellow")
    return Text(f"● {row.phase}", style="green" if row.phase == "serving" else "dim")


def _rollout_line(view: View) -> RenderableType:
    line = Table.grid(expand=True, padding=(0, 2, 0, 0))
    line.add_column(width=9)
    line.add_column(ratio=1)
    line.add_column(width=22, justify="right")
    steps = {version: number for number, version in enumerate(view.versions)}
    total = max(1, len(view.nodes) * (len(view.versions) - 1))
    done = sum(steps.get(Version(row.version), 0) for row in view.nodes)
    style = style_of(view.newest)
    line.add_row(
        Text("rollout", style="dim"),
        ProgressBar(total=total, completed=done, complete_style=style, finished_style=style),
        f"{_upgraded(view)} of {len(view.nodes)} on version {view.newest}",
    )
    return line


def _why_line(view: View) -> RenderableType:
    """Say which nodes failed, and what others wait for because of it."""
    text = Text()
    for row in view.nodes:
        if row.failure:
            text.append(f"\n{row.id:<10} ", style="dim").append(row.failure, style="bold red")
    waits = Counter(row.waits_for for row in view.nodes if row.waits_for)
    for words, count in waits.most_common(_WAITS_SHOWN):
        text.append(f"\n{count} {'waits' if count == 1 else 'wait'}".ljust(12), style="dim").append(words, style="red")
    return text


def _calls_line(view: View) -> RenderableType:
    text = Text()
    text.append("clients    ", style="dim")
    for version in view.versions:
        text.append(f"v{version} {view.rates.get(version, 0):4.0f} calls/s   ", style=style_of(version))
    text.append(f"\n           {view.calls:,} calls   ")
    text.append(f"{view.failed:,} failed", style="bold red" if view.failed else "bold green")
    if view.refused:
        text.append("\nprivate    ", style="dim")
        text.append(f"{view.refused:,} tries at the blocks of others, each refused as it must be")
    return text
