"""Who still calls with which version, as a terminal shows it."""

from collections import Counter, defaultdict
from datetime import datetime

from rich.table import Table
from rich.text import Text

from segue.cli.words import duration
from segue.wire.messages import SystemStatus

#: Who called within so many seconds still calls.
_STILL_S = 60.0
#: Callers that are named for each version; the others are counted.
_NAMED = 4


def clients(now: SystemStatus) -> Table | None:
    """Return a row for each version that clients have spoken, the newest last; None if none has called.

    Callers who called within the last minute come first, the busiest before the others; then those who
    called before, the last one first, with how long ago that was.
    """
    calls: defaultdict[int, Counter[str]] = defaultdict(Counter)
    last: defaultdict[int, dict[str, datetime]] = defaultdict(dict)
    for row in now.usage:
        if row.from_node or not row.count:
            continue
        calls[row.caller_version][row.caller] += row.count
        seen = last[row.caller_version]
        seen[row.caller] = max(row.last_at, seen.get(row.caller, row.last_at))
    if not calls:
        return None
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("clients of", no_wrap=True)
    table.add_column("calls", justify="right", no_wrap=True)
    table.add_column("last", no_wrap=True)
    table.add_column("callers")
    for version, counts in sorted(calls.items()):
        ago = {caller: (now.at - at).total_seconds() for caller, at in last[version].items()}
        still = min(ago.values()) <= _STILL_S
        table.add_row(
            f"v{version}",
            f"{counts.total():,}",
            Text("now" if still else f"{duration(min(ago.values()))} ago", style="" if still else "dim"),
            _callers(counts, ago),
        )
    return table


def _callers(counts: Counter[str], ago: dict[str, float]) -> Text:
    def order(caller: str) -> tuple[bool, float, int, str]:
        still = ago[caller] <= _STILL_S
        return (not still, 0.0 if still else ago[caller], -counts[caller], caller)

    line = Text()
    ordered = sorted(counts, key=order)
    for caller in ordered[:_NAMED]:
        if line:
            line.append(", ")
        if ago[caller] <= _STILL_S:
            line.append(caller)
        else:
            line.append(f"{caller} ({duration(ago[caller])} ago)", style="dim")
    if len(ordered) > _NAMED:
        line.append(f" and {len(ordered) - _NAMED} more")
    return line
