"""The demo in the terminal: a live table where there is one, plain lines where there is none."""

import time
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

from segue.demo.phases import AWAY, ON_THE_WAY
from segue.model.ids import NodeId, Version

OLD_STYLE, NEW_STYLE = "dodger_blue1", "dark_orange"

#: Seconds between two lines where nothing is live, so that a log stays short.
_PLAIN_EVERY_S = 5.0

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
    """

    id: NodeId
    zone: str
    version: int
    target: int | None
    phase: str
    pid: int | None
    answered: Mapping[int, int]
    waits_for: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that is shown at one moment.

    Attributes:
        step: what the demo does now, in words.
        elapsed_s: since it began.
        from_version: what ran first.
        to_version: what is published.
        nodes: a row per node.
        rates: `{version of clients: their calls per second}`.
        calls: of clients, until now.
        failed: of these.
        done: how far the step is, 0 to 1; None if it has no measure.
    """

    step: str
    elapsed_s: float
    from_version: Version
    to_version: Version
    nodes: tuple[NodeRow, ...] = ()
    rates: Mapping[Version, float] = field(default_factory=dict)
    calls: int = 0
    failed: int = 0
    done: float | None = None


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
        self._said_s = float("-inf")

    def show(self, view: View) -> None:
        """Print what is new in `view`, if anything is."""
        changed = [
            f"{row.id} now runs version {row.version}"
            for row in view.nodes
            if row.version and self._versions.get(row.id, row.version) != row.version
        ]
        self._versions.update({row.id: row.version for row in view.nodes if row.version})
        if view.step != self._step:
            self._say(view, view.step)
        for line in changed:
            self._say(view, line)
        if self._monotonic() - self._said_s >= _PLAIN_EVERY_S:
            self._say(view, _progress_words(view))
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
    if any(row.version == view.to_version for row in view.nodes):
        parts.append(f"{_upgraded(view)} of {len(view.nodes)} nodes run version {view.to_version}")
    parts.append(f"{sum(view.rates.values()):.0f} calls/s, {view.failed:,} failed")
    return ", ".join(parts)


def _upgraded(view: View) -> int:
    return sum(row.version == view.to_version for row in view.nodes)


def render(view: View) -> RenderableType:
    """Return the whole screen for `view`: 80 columns are enough, and more say what nodes wait for."""
    return Group(
        Text(),
        _step_line(view),
        Text(),
        Padding(_NodeTable(view), (0, 0, 0, 1)),
        Text(),
        Padding(_rollout_line(view), (0, 2)),
        Padding(_calls_line(view), (0, 2)),
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
        table.add_column(f"answered for v{view.from_version}", justify="right", style=OLD_STYLE, no_wrap=True)
        table.add_column(f"for v{view.to_version}", justify="right", style=NEW_STYLE, no_wrap=True, min_width=9)
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
        _version(row, view),
        _phase(row),
        str(row.pid) if row.pid else "",
        f"{row.answered.get(view.from_version, 0):,}",
        f"{row.answered.get(view.to_version, 0):,}",
    )


def _version(row: NodeRow, view: View) -> Text:
    if not row.version:
        return Text("·", style="dim")
    text = Text(str(row.version), style=NEW_STYLE if row.version == view.to_version else OLD_STYLE)
    if row.target is not None and row.target != row.version:
        text.append(" → ", style="dim").append(str(row.target), style=NEW_STYLE)
    return text


def _phase(row: NodeRow) -> Text:
    if row.phase in AWAY:
        return Text(f"◌ {row.phase}", style="bold red")
    if row.phase in ON_THE_WAY:
        return Text(f"● {row.phase}", style="yellow")
    return Text(f"● {row.phase}", style="green" if row.phase == "serving" else "dim")


def _rollout_line(view: View) -> RenderableType:
    line = Table.grid(expand=True, padding=(0, 2, 0, 0))
    line.add_column(width=9)
    line.add_column(ratio=1)
    line.add_column(width=22, justify="right")
    total = max(1, len(view.nodes))
    line.add_row(
        Text("rollout", style="dim"),
        ProgressBar(total=total, completed=_upgraded(view), complete_style=NEW_STYLE, finished_style=NEW_STYLE),
        f"{_upgraded(view)} of {len(view.nodes)} on version {view.to_version}",
    )
    return line


def _calls_line(view: View) -> RenderableType:
    text = Text()
    text.append("clients    ", style="dim")
    text.append(f"v{view.from_version} {view.rates.get(view.from_version, 0):4.0f} calls/s", style=OLD_STYLE)
    text.append("   ")
    text.append(f"v{view.to_version} {view.rates.get(view.to_version, 0):4.0f} calls/s", style=NEW_STYLE)
    text.append(f"   {view.calls:,} calls   ")
    text.append(f"{view.failed:,} failed", style="bold red" if view.failed else "bold green")
    return text
