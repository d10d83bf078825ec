"""Whether a version can be given up: who still calls with it, and which nodes have yet to get past it. Pure."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from segue.model.ids import Version
from segue.server.facts import CallerSum, Picture
from segue.server.refusals import ConflictError
from segue.server.words import moment, named


def check_unused(
    picture: Picture, callers: Iterable[CallerSum], version: Version, *, unused_s: float, now: datetime
) -> None:
    """Make sure that nobody needs `version`, or an older one, which goes with it.

    Args:
        picture: the system.
        callers: who called with which version.
        version: the newest that is to be given up.
        unused_s: seconds in which nobody may have called.
        now: UTC.

    Raises:
        ConflictError: somebody called, or a node runs it or an older one and needs it to catch up; names them.
    """
    reasons = []
    calling = sorted(
        (row for row in callers if row.count and row.caller_version <= version and _within(row, unused_s, now)),
        key=lambda row: (row.last_at, row.count),
        reverse=True,
    )
    if calling:
        who = named(
            (f"{row.caller} with {row.caller_version}, last at {moment(row.last_at, now)}" for row in calling), 4
        )
        reasons.append(f"called within {unused_s:g} s by {who}")
    behind = [node for node in picture.nodes if 0 < node.version <= version]
    if behind:
        who = named(f"{node.id} at {node.version}" for node in behind)
        reasons.append(f"needed to catch up by {who}")
    if reasons:
        raise ConflictError(
            f"version {version} is in use: {'; '.join(reasons)}: move them first, "
            "or retire it all the same with --force and a reason (--why)"
        )


def _within(row: CallerSum, unused_s: float, now: datetime) -> bool:
    try:
        return now - row.last_at < timedelta(seconds=unused_s)
    except OverflowError:  # longer than there are dates
        return True
