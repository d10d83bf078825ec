"""What a terminal says of how a node is: in its row as little as possible, below the table all there is to act on."""

from collections.abc import Iterator
from datetime import datetime

from rich.text import Text

from segue.cli.overview import shortened
from segue.cli.words import duration, size
from segue.wire.messages import NodeStatus, ProgressRow, SystemStatus

#: Phases in which calls wait, as an agent reports them.
_IN_PAUSE = frozenset({"quiescing", "transforming", "starting", "handing over", "resuming"})
#: A disk is called low if so little is free, however small the state is: logs and journals need some, too.
_LOW_BYTES = 256 * 10**6


def phase_words(node: NodeStatus, at: datetime) -> Text:
    """Say where a node is that reports, in a few words.

    Args:
        node: which.
        at: the time of the status.
    """
    if node.progress:
        return Text(f"{node.phase}: {progress_words(node.progress)}", style="yellow")
    if node.failure:
        then = ", gave up" if node.waits_for_operator else ", failed"
        if node.retry_at and node.retry_at > at and not node.waits_for_operator:
            then += f", again in {duration((node.retry_at - at).total_seconds())}"
        return Text(node.phase + then, style="red")
    if node.waits_for:  # for what, is said below, of all nodes that wait for the same
        return Text(node.phase, style="cyan")
    return Text(node.phase, style="yellow" if node.away else "")


def progress_words(progress: ProgressRow) -> str:
    """Say how far a transform is: the share, of how much, and the time left, as far as its author counts."""
    counted = f"{progress.items_done:,} items" if progress.items_done else ""
    if progress.bytes_done:
        counted += f"{', ' if counted else ''}{size(progress.bytes_done)}"
    if progress.share is None:
        return counted or "begun"
    in_bytes = progress.bytes_total is not None
    total = size(progress.bytes_total or 0) if in_bytes else f"{progress.items_total or 0:,} items"
    # It is not done before it says so by its end: 99.9 % is not 100.
    words = f"{int(progress.share * 100)} % of {total}"
    if progress.seconds_left is not None:
        words += f", {duration(progress.seconds_left)} left"
    return words


def notes(now: SystemStatus, *, verbose: bool) -> list[Text]:
    """Return a line for each thing about a node that its row has no room for.

    Args:
        now: how the system stands.
        verbose: whether what is as it should be is told, too.
    """
    lines = []
    for node in now.nodes:
        lines += list(notes_of(node, now.at, now.system, verbose=verbose))
    stopping = [node.id for node in now.nodes if node.hand_over != "port"]
    if stopping:
        words = "stop and start: the port is not handed over there, callers see a gap in each upgrade"
        lines.append(Text(f"{', '.join(stopping)}: {words}", style="yellow"))
    return lines


def notes_of(node: NodeStatus, at: datetime, system: str, *, verbose: bool) -> Iterator[Text]:
    """Yield a line for each thing about one node that its row has no room for.

    Args:
        node: which.
        at: the time of the status.
        system: the node's.
        verbose: whether what is as it should be is told, too.
    """
    yield from _failure(node, at, system)
    yield from (Text(f"{node.id}: {words}", style="yellow") for words in _warnings(node))
    if verbose:
        yield from (Text(f"{node.id}: {words}", style="dim") for words in _details(node, at))


def _failure(node: NodeStatus, at: datetime, system: str) -> Iterator[Text]:
    if node.failure:
        yield Text(f"{node.id}: {shortened(node.failure)}", style="red")
    if node.silent:
        yield Text(f"{node.id}: {_silence(node)}", style="bold red")
    elif node.failure and node.waits_for_operator:
        failures = "a failure" if node.attempts <= 1 else f"{node.attempts} failures"
        yield Text(f"  gave up after {failures}: `segue retry {node.id} --system {system}`, or the next release")
    elif node.failure and node.retry_at:
        left_s = max(0.0, (node.retry_at - at).total_seconds())
        when = f"tries again in {duration(left_s)}" if left_s >= 1 else "tries again now"
        # What is no release's fault, such as a download that breaks off, is tried beyond any limit.
        limit = f" of {node.attempts_limit}" if node.attempts < (node.attempts_limit or 0) else ""
        yield Text(f"  {when} (attempt {node.attempts + 1}{limit})")


def _silence(node: NodeStatus) -> str:
    """Say what it may mean that a node is not heard of."""
    if not node.version:
        return "its agent does not run, and it never served: mend what is wrong, and start it again"
    if node.phase in _IN_PAUSE:
        return (
            f"its agent fell silent in the node's pause ({node.phase}): calls may wait there until an agent runs "
            "again; start it on the same state folder"
        )
    return "its agent does not run, or does not reach the upgrade server; what it serves, it may serve on"


def _warnings(node: NodeStatus) -> Iterator[str]:
    if node.crashes:
        yield f"its process crashed {_times(node.crashes)} since the agent began, and was started again"
    if node.upgrades and node.upgrades[-1].probation_failed:
        yield (
            f"version {node.upgrades[-1].to_version} failed its probation after it had answered calls: "
            f"the way out is the next release"
        )
    disk = node.disk
    if disk and disk.free_bytes < max(_LOW_BYTES, disk.state_bytes):
        why = "" if disk.free_bytes < _LOW_BYTES else ", and a transform may write as much as the state again"
        yield f"disk low: {size(disk.free_bytes)} free, state {size(disk.state_bytes)}{why}"


def _details(node: NodeStatus, at: datetime) -> Iterator[str]:
    yield f"pid {node.pid or '-'} at {node.address}, seen {duration((at - node.last_seen).total_seconds())} ago"
    if node.progress:
        progress = node.progress
        items = f" of {progress.items_total:,}" if progress.items_total is not None else ""
        written = f" of {size(progress.bytes_total)}" if progress.bytes_total is not None else ""
        yield f"transform: {progress.items_done:,}{items} items, {size(progress.bytes_done)}{written}"
    if node.disk:
        disk = node.disk
        yield (
            f"disk: state {size(disk.state_bytes)}, old states {size(disk.old_bytes)}, "
            f"releases {size(disk.releases_bytes)}, free {size(disk.free_bytes)}"
        )
    for row in node.upgrades[-1:]:
        how = "" if row.hand_over == "port" else f", {row.hand_over}"
        yield (
            f"upgraded {row.from_version} → {row.to_version} {duration((at - row.serving_at).total_seconds())} ago: "
            f"pause {row.pause_ms:,.0f} ms, of it transform {row.transform_ms:,.0f} ms{how}"
        )


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
