"""What the agent tells the upgrade server: where the node is, and who called it with which version."""

import json
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from segue.errors import PeerError
from segue.journey import Journey, Upgrade
from segue.model.disk import Disk
from segue.model.ids import Version
from segue.model.progress import Progress
from segue.model.usage import OTHERS
from segue.node.runs import Run
from segue.node.settings import NodeSettings
from segue.wire.messages import AMOUNT_LIMIT, AgentRow, DiskRow, Heartbeat, ProgressRow, UpgradeRow, UsageRow

logger = logging.getLogger(__name__)

#: Counts in one heartbeat; what has no room goes with the next one. A row is about 250 bytes.
ROWS_LIMIT = 1000


class Reporting(Protocol):
    """A process of the application, asked for its counts."""

    async def report(self, acknowledged: int = 0, rows: int = 0) -> dict[str, Any]:
        """Return its facts, and of its counts those that were not acknowledged, `rows` at most."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Gathered:
    """What goes into one heartbeat.

    Attributes:
        reports: of the node's processes, those that have ended first.
        more: whether counts are left for the next heartbeat.
        batches: {process: the batch of counts that it offered}
        kept: {file of a process that ended: how many of its counts have gone}
        done: files that are not needed once this has arrived.
    """

    reports: tuple[dict[str, Any], ...]
    more: bool
    batches: dict[Reporting, int]
    kept: dict[Path, int]
    done: tuple[Path, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """How a node is, beside where it is on its journey.

    Attributes:
        hand_over: how the port passes in an upgrade: `port`, without a gap, or `stop and start`.
        progress: how far the transform under way is; None if none is, or its author does not count.
        attempts: failures of the release that the node is at, one after the other.
        attempts_limit: how many attempts the node makes by itself; None if there is no limit.
        retry_at: when it tries again (UTC); None if it does not by itself.
        waits_for_operator: whether it has given up, until it is told to retry or the next release comes.
        crashes: ends of the application's process that nobody ordered, since the agent began.
        disk: what the node takes on its disk; None if it was not measured yet.
        holds: `{version: what its release says against going there now}`.
    """

    hand_over: str = "port"
    progress: Progress | None = None
    attempts: int = 0
    attempts_limit: int | None = None
    retry_at: datetime | None = None
    waits_for_operator: bool = False
    crashes: int = 0
    disk: Disk | None = None
    holds: Mapping[Version, str] = field(default_factory=dict)


_PLAIN = Condition()


class Reports:
    """Gathers what the node's processes have to tell, and knows how much of it has arrived.

    Nothing of this is kept: an agent that starts anew tells all again, and the upgrade server keeps the
    larger of two counts.

    Args:
        folder: where processes that end leave their last counts.
        rows_limit: counts in one heartbeat.
    """

    def __init__(self, folder: Path, rows_limit: int = ROWS_LIMIT) -> None:
        self._folder = folder
        self._rows_limit = rows_limit
        #: By process and not by its id, which may be another's later.
        self._batches: WeakKeyDictionary[Reporting, int] = WeakKeyDictionary()
        self._kept: dict[Path, int] = {}

    async def gather(self, hosts: Iterable[Reporting]) -> Gathered:
        """Ask `hosts`, and look for what others left when they ended; facts of later ones count."""
        room = self._rows_limit
        reports: list[dict[str, Any]] = []
        kept: dict[Path, int] = {}
        done = []
        for path, report in kept_reports(self._folder).items():
            gone = self._kept.get(path, 0)
            calls = report["calls"][gone : gone + room]
            kept[path] = gone + len(calls)
            room -= len(calls)
            if kept[path] == len(report["calls"]):
                done.append(path)
            reports.append({**report, "calls": calls})
        more = len(done) < len(kept)
        batches: dict[Reporting, int] = {}
        for host in hosts:
            with suppress(PeerError):
                report = await host.report(self._batches.get(host, 0), room)
                if "batch" not in report and room:  # a process of a Segue from before: it is replaced soon
                    report = {**report, "calls": [], "batch": 0, "more": False}
                reports.append(report)
                if room:
                    batches[host] = report["batch"]
                    room -= len(report["calls"])
                    more = more or report["more"]
                else:
                    more = True
        return Gathered(reports=tuple(reports), more=more, batches=batches, kept=kept, done=tuple(done))

    def arrived(self, gathered: Gathered) -> None:
        """Note that the upgrade server has answered to a heartbeat with this."""
        self._batches.update(gathered.batches)
        self._kept = {path: rows for path, rows in gathered.kept.items() if path not in gathered.done}
        for path in gathered.done:
            path.unlink(missing_ok=True)


def heartbeat(
    settings: NodeSettings,
    at: Journey,
    *,
    pid: int | None,
    process_reports: Iterable[dict[str, Any]],
    condition: Condition = _PLAIN,
    agent: AgentRow | None = None,
) -> Heartbeat:
    """Put together what the node says of itself.

    Args:
        settings: who the node is.
        at: where it is on its journey.
        pid: the process that serves, if one does.
        process_reports: what the node's processes said last, those that have ended included.
        condition: how it is otherwise.
        agent: which agent it is that reports.
    """
    progress, disk = condition.progress, condition.disk
    reports = list(process_reports)
    completed = [row for row in (_upgrade_row(upgrade, condition.hand_over) for upgrade in at.completed) if row]
    return Heartbeat(
        class_name=settings.class_name,
        version=at.version,
        address=settings.address,
        attributes=dict(settings.attributes),
        phase=at.phase.value,
        target_version=_target(at),
        pid=pid,
        answers=next((tuple(report["answers"]) for report in reversed(reports) if report.get("answers")), ()),
        failure=at.failure,
        failure_details=at.failure_details,
        facts={name: value for report in reports for name, value in report["facts"].items()},
        usage=tuple(row for report in reports for row in _usage_rows(report)),
        upgrades=tuple(completed),
        hand_over=condition.hand_over,
        progress=_progress_row(progress) if progress else None,
        attempts=condition.attempts,
        attempts_limit=condition.attempts_limit,
        retry_at=condition.retry_at,
        waits_for_operator=condition.waits_for_operator,
        crashes=condition.crashes,
        disk=DiskRow(**asdict(disk)) if disk else None,
        agent=agent,
        holds={int(version): text for version, text in condition.holds.items()},
    )


def agent_row(run: Run, report_s: float) -> AgentRow:
    """Say which agent it is that reports, every `report_s` seconds at least."""
    return AgentRow(folder=run.folder, starts=run.starts, run=run.run, report_s=report_s)


def _progress_row(progress: Progress) -> ProgressRow:
    """Return it as it is reported: an author may count anything, and a report must not fail by that."""

    def amount(value: int | None) -> int | None:
        return None if value is None else min(int(value), AMOUNT_LIMIT)

    return ProgressRow(
        items_done=amount(progress.items_done) or 0,
        items_total=amount(progress.items_total),
        bytes_done=amount(progress.bytes_done) or 0,
        bytes_total=amount(progress.bytes_total),
        seconds_left=progress.seconds_left,
    )


def _target(at: Journey) -> Version | None:
    """Return where the node goes: to the end of its upgrade, else to what it fetches or installs."""
    if at.upgrade:
        return at.upgrade.release.version
    return at.learning[-1].version if at.learning else None


def kept_reports(folder: Path) -> dict[Path, dict[str, Any]]:
    """Return the last reports of processes that ended: `{file: report}`."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            found[path] = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            logger.error("%s: the last counts of a process cannot be read (%s)", path, error)
    return found


def _usage_rows(report: dict[str, Any]) -> Iterable[UsageRow]:
    # A process from before callers were counted said its version once, and left its rows without a caller.
    once = {"node_version": report["node_version"], "caller": OTHERS} if "node_version" in report else {}
    return (UsageRow(incarnation=report["incarnation"], **{**once, **call}) for call in report.get("calls", ()))


def _upgrade_row(upgrade: Upgrade, hand_over: str) -> UpgradeRow | None:
    """Return the upgrade as it is reported; None if a crash took away one of its figures."""
    facts = (
        upgrade.old_pid,
        upgrade.new_pid,
        upgrade.quiesced_at,
        upgrade.serving_at,
        upgrade.install_future_ms,
        upgrade.transform_ms,
        upgrade.transform_bytes,
    )
    match facts:
        case (int(old), int(new), quiesced_at, serving_at, float(install_ms), float(transform_ms), int(size)) if (
            quiesced_at and serving_at
        ):
            return UpgradeRow(
                from_version=upgrade.way[0].version - 1,
                to_version=upgrade.release.version,
                hand_over=hand_over,
                probation_failed=upgrade.failure is not None,
                pids=(old, new),
                pause_ms=(serving_at - quiesced_at).total_seconds() * 1000,
                install_future_ms=install_ms,
                transform_ms=transform_ms,
                transform_bytes=size,
                quiesced_at=quiesced_at,
                serving_at=serving_at,
            )
        case _:
            return None
