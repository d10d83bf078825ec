"""What the agent tells the upgrade server: where the node is, and who called it with which version."""

import json
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from segue.journey import Journey, Upgrade
from segue.node.settings import NodeSettings
from segue.wire.messages import Heartbeat, UpgradeRow, UsageRow

logger = logging.getLogger(__name__)


def heartbeat(
    settings: NodeSettings, at: Journey, *, pid: int | None, process_reports: Iterable[dict[str, Any]]
) -> Heartbeat:
    """Put together what the node says of itself.

    Args:
        settings: who the node is.
        at: where it is on its journey.
        pid: the process that serves, if one does.
        process_reports: what the node's processes said last, those that have ended included.
    """
    reports = list(process_reports)
    completed = [row for row in (_upgrade_row(upgrade) for upgrade in at.completed) if row]
    return Heartbeat(
        class_name=settings.class_name,
        version=at.version,
        address=settings.address,
        attributes=dict(settings.attributes),
        phase=at.phase.value,
        target_version=at.upgrade.release.version if at.upgrade else None,
        pid=pid,
        failure=at.failure,
        facts={name: value for report in reports for name, value in report["facts"].items()},
        usage=tuple(row for report in reports for row in _usage_rows(report)),
        upgrades=tuple(completed),
    )


def kept_reports(folder: Path) -> dict[Path, dict[str, Any]]:
    """Return the last reports of processes that ended: `{file: report}`; remove a file once it is reported."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            found[path] = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            logger.error("%s: the last counts of a process cannot be read (%s)", path, error)
    return found


def _usage_rows(report: dict[str, Any]) -> Iterable[UsageRow]:
    return (UsageRow(incarnation=report["incarnation"], **call) for call in report["calls"])


def _upgrade_row(upgrade: Upgrade) -> UpgradeRow | None:
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
                from_version=upgrade.release.version - 1,
                to_version=upgrade.release.version,
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
