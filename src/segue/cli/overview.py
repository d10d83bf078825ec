"""What a terminal says of a whole system, however many nodes it has: on one screen."""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from rich.table import Table
from rich.text import Text

from segue.cli.words import duration
from segue.wire.summary import GroupSummary, HoldSummary, RolloutSummary, Some, SystemSummary, VersionUse

#: Versions that have a column; older ones share one.
_VERSIONS = 3
#: So many cells wide is a bar.
_BAR = 20
#: A waiting node's reason that is an alarm; its text says what to do.
_ALARMS = ("CanaryFailed", "Unhealthy", "FactMissing")
#: What a release's folder on a node is called: its hash fills a line, and is cut where it helps nobody.
_RELEASE_FOLDER = re.compile(r"\S*/releases/([0-9a-f]{8})[0-9a-f]{56}/")
_ROWS_OF_CALLERS = 5


def headline(now: SystemSummary) -> Text:
    """Say in one line what most nodes run, and how many are not as they should be."""
    upgraded = now.versions.get(now.newest, 0)
    said = f"version {now.newest}: {upgraded:,} of {now.nodes:,} nodes run it"
    line = Text.assemble((now.system, "bold"), f"  {said if now.newest else 'no release has been published'}")
    failed = sum(one.nodes.count for one in now.failures) + now.more_failures
    for count, what, style in (
        (now.away.count, "away", "yellow"),
        (failed, "failed", "red"),
        (now.silent.count, "silent", "bold red"),
    ):
        if count:
            line.append(f", {count:,} {what}", style=style)
    return line


def alarms(now: SystemSummary) -> Iterator[Text]:
    """Yield a line for each thing that holds the whole rollout: an operator's word, or what halted it by itself."""
    for hold in now.holds:
        yield Text(_hold(hold, now.at), style="bold red")
    for halt in now.halts:
        when = f" at {_since(halt.at, now.at)}" if halt.at else ""
        yield Text(f"RELEASE {halt.version} HALTED{when} for {halt.class_name}: {halt.text}", style="bold red")
    for wait in now.waits:
        if wait.kind in _ALARMS:
            yield Text(f"HELD UP: {wait.text}", style="bold red")


def dry_runs(now: SystemSummary) -> Iterator[Text]:
    """Yield a line for each rule that is tried dry, and would hold a rollout."""
    for one in now.dry_runs:
        yield Text(f"TRIED DRY: release {one.version} would hold {one.class_name}: {one.text}", style="yellow")


def _hold(hold: HoldSummary, at: datetime) -> str:
    what = f"RELEASE {hold.version} ABORTED" if hold.deed == "abort" else "PAUSED"
    return f"{what} at {_since(hold.at, at)} by {hold.who}{': ' if hold.why else ''}{hold.why}"


def _since(then: datetime, at: datetime) -> str:
    then = then.astimezone(UTC)
    return f"{then:%H:%M:%S} UTC" if then.date() == at.astimezone(UTC).date() else f"{then:%Y-%m-%d %H:%M} UTC"


def progress(now: SystemSummary) -> Iterator[Text]:
    """Yield a line for each rollout that has nodes left: how far it is, and when it may be over."""
    for rollout in now.rollouts:
        if rollout.left:
            yield _progress(rollout, now)


def _progress(rollout: RolloutSummary, now: SystemSummary) -> Text:
    total = rollout.done + rollout.left
    full = rollout.done * _BAR // total
    line = Text(f"{rollout.class_name} → {rollout.version}  ")
    line.append("█" * full, style="green").append("░" * (_BAR - full), style="dim")
    # It is not done before the last node is: 99.9 % is not 100.
    line.append(f"  {rollout.done * 100 // total} %, {rollout.left:,} to go")
    if rollout.skipped:
        line.append(f", {rollout.skipped:,} left out")
    if rollout.ends_at is not None:
        line.append(f"; about {duration((rollout.ends_at - now.at).total_seconds())} more at the pace so far")
    elif rollout.began_at is None:
        line.append("; not begun")
    return line


def groups(now: SystemSummary) -> Table:
    """Return a row for each class, and for each value of the attributes that make groups."""
    versions = sorted(now.versions)[-_VERSIONS:]
    older = [version for version in now.versions if version not in versions]
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True, max_width=30)
    headings = ["nodes", *(["older"] if older else []), *(f"v{version}" if version else "new" for version in versions)]
    for heading in (*headings, "away", "waiting", "failed", "silent"):
        table.add_column(heading, justify="right", no_wrap=True)
    for group in now.classes:
        table.add_row(Text(group.name), *_cells(group, versions, older))
    for attribute in now.attributes:
        for value in attribute.values:
            table.add_row(Text(f"{attribute.name} {value.name}"), *_cells(value, versions, older))
        if attribute.others:
            table.add_row(Text(f"and {attribute.others:,} more of {attribute.name}", style="dim"))
    return table


def _cells(group: GroupSummary, versions: Iterable[int], older: Iterable[int]) -> Iterator[Text]:
    yield Text(f"{group.nodes:,}")
    if older := list(older):
        yield _count(sum(group.versions.get(version, 0) for version in older), "")
    for version in versions:
        yield _count(group.versions.get(version, 0), "")
    for count, style in (
        (group.away, "yellow"), (group.waiting, "cyan"), (group.failed, "red"), (group.silent, "bold red"),
    ):  # fmt: skip
        yield _count(count, style)


def _count(count: int, style: str) -> Text:
    return Text(f"{count:,}", style=style) if count else Text("·", style="dim")


def waits(now: SystemSummary) -> Iterator[Text]:
    """Yield a line for each thing that nodes wait for."""
    for wait in now.waits:
        verb = "waits" if wait.nodes.count == 1 else "wait"
        yield Text(f"{some(wait.nodes)} {verb}: {wait.text}", style="cyan")
    if now.more_waits:
        yield Text(f"{now.more_waits:,} more wait for something else: `segue node-status NODE`", style="cyan")


def failures(now: SystemSummary) -> Iterator[Text]:
    """Yield a line for each way in which nodes failed, and for those that are silent."""
    for one in now.failures:
        gave_up = f" ({one.gave_up:,} gave up)" if one.gave_up else ""
        yield Text(f"{some(one.nodes)} failed{gave_up}: {shortened(one.text)}", style="red")
    if now.more_failures:
        yield Text(f"{now.more_failures:,} more failed in another way", style="red")
    if now.silent.count:
        words = "no agent is heard of there: it does not run, or does not reach the upgrade server"
        yield Text(f"{some(now.silent)} silent: {words}", style="bold red")


def some(nodes: Some) -> str:
    """Return names of nodes, and how many there are if those are not all."""
    names = ", ".join(nodes.first)
    return names if nodes.count <= len(nodes.first) else f"{nodes.count:,} nodes ({names}, …)"


def shortened(text: str) -> str:
    """Return a node's message in fewer letters: a release's folder goes by eight digits of its hash."""
    return _RELEASE_FOLDER.sub(r"…/\1…/", text)


def callers(now: SystemSummary) -> Table | None:
    """Return a row for each version that is called with: how often, when last, and by whom; None if none is."""
    uses = [use for use in now.callers if any(not caller.from_node for caller in use.callers)]
    if not uses:
        return None
    rows = [(f"v{use.version}", f"{use.calls:,}", f"{_ago(use.last_at, now.at)} ago") for use in uses]
    table = Table(box=None, pad_edge=False, header_style="bold")
    # What is too long is the names: without widths of their own, the other columns would make room for them.
    for number, heading in enumerate(("callers of", "calls", "last")):
        width = max(len(heading), *(len(row[number]) for row in rows))
        table.add_column(heading, justify="right" if heading == "calls" else "left", no_wrap=True, min_width=width)
    table.add_column("who", no_wrap=True)
    for use, row in list(zip(uses, rows, strict=True))[-_ROWS_OF_CALLERS:]:
        table.add_row(*row, _who(use, now.at))
    return table


def _who(use: VersionUse, at: datetime) -> Text:
    names = ", ".join(f"{one.name} ({_ago(one.last_at, at)} ago)" for one in use.callers)
    return Text(names + (f" and {use.others:,} more" if use.others else ""))


def _ago(then: datetime, at: datetime) -> str:
    return duration(max(0.0, (at - then).total_seconds()))
