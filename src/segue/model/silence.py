"""Silence: when a node that says nothing counts as away, and when it is taken to be lost. Pure.

A node says itself how often it reports, so one rule fits all: what is usual for it is no silence.
"""

from datetime import datetime, timedelta

#: No node is silent before that many seconds. Agents report every two seconds unless they are told otherwise; less
#: would call a node away over a pause of its machine.
STALE_S = 15.0
#: No node is lost before that many seconds: less would call a fleet lost whose upgrade server was started anew.
LEASE_S = 60.0
#: Reports that a node has missed when it is silent, and when it is lost.
_MISSED_SILENT, _MISSED_LOST = 3, 6
#: However seldom a node says that it reports, it is silent after an hour and lost after two: else one that said a
#: number that is far too large could never be told from one that is gone.
_LONGEST_SILENT_S, _LONGEST_LOST_S = 3600.0, 7200.0


def silent_after_s(report_s: float, least_s: float = STALE_S) -> float:
    """Return after how many seconds without a word a node is silent: it missed three reports, and not before `least_s`.

    Args:
        report_s: seconds between its reports, as it said; 0 if nobody knows.
        least_s: no node is silent before.
    """
    return max(least_s, min(_MISSED_SILENT * report_s, _LONGEST_SILENT_S))


def lost_after_s(report_s: float, least_s: float = LEASE_S) -> float:
    """Return after how many seconds without a word a node is lost: it missed six reports, and not before `least_s`.

    Args:
        report_s: as `silent_after_s` takes it.
        least_s: no node is lost before.
    """
    return max(least_s, min(_MISSED_LOST * report_s, _LONGEST_LOST_S))


def is_silent(last_seen: datetime, now: datetime, report_s: float, least_s: float = STALE_S) -> bool:
    """Say whether a node that was last heard of at `last_seen` is silent, also when the clock was put back since.

    Args:
        last_seen: aware, by the clock that `now` is of.
        now: aware.
        report_s: as `silent_after_s` takes it.
        least_s: as `silent_after_s` takes it.
    """
    return abs((now - last_seen).total_seconds()) >= silent_after_s(report_s, least_s)


def unheard(last_seen: datetime, now: datetime, listens_since: datetime | None) -> timedelta:
    """Return for how long a node could have been heard, and was not.

    Args:
        last_seen: aware, by the clock that `now` is of.
        now: aware.
        listens_since: since when somebody was there to hear it without a gap; None if that was always so.
    """
    silence = now - last_seen
    return silence if listens_since is None else min(abs(silence), now - listens_since)
