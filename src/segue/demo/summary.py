"""What the demo says in the terminal at its end."""

from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from segue.demo.facts import Facts
from segue.demo.verdict import Check


def summary(facts: Facts, checks: tuple[Check, ...], report: Path, picture: Path) -> RenderableType:
    """Return what is shown at the end: each check, and where the report is."""
    table = Table.grid(padding=(0, 1))
    table.add_column(width=3, justify="right")
    table.add_column()
    for check in checks:
        mark = Text("✓", style="bold green") if check.held else Text("✗", style="bold red")
        words = Text(check.name).append(f" · {check.detail}", style="dim" if check.held else "red")
        table.add_row(mark, words)
    missed = sum(not check.held for check in checks)
    verdict = (
        Text(f"  All {len(checks)} checks held: {_observed(facts)}", style="bold green")
        if not missed
        else Text(f"  {missed} of {len(checks)} did not hold.", style="bold red")
    )
    where = Table.grid(padding=(0, 2))
    where.add_row("  report", Text(str(report), overflow="fold"))
    where.add_row("  picture", Text(str(picture), overflow="fold"))
    return Group(Text(), table, Text(), verdict, Text(), where, Text())


def _observed(facts: Facts) -> str:
    calls = sum(row.calls for row in facts.calls)
    if facts.broken:
        return f"version {facts.to_version} got no further than its canary, {calls:,} calls, none failed."
    versions = f"{facts.versions[0]} to {facts.to_version}"
    return f"{len(facts.nodes)} nodes, versions {versions}, {calls:,} calls, none failed."
