"""What is bulky and old is removed now and then: when. Pure."""

from datetime import datetime, timedelta

#: It is kept for days: to look for it each time that leases are looked at would cost more than it saves.
REMOVE_EVERY_S = 3600.0


def is_due(done_at: datetime | None, now: datetime) -> bool:
    """Say whether it is to be looked for.

    Args:
        done_at: when it was last; None if never. In the future, if the clock was set back since.
        now: the time.
    """
    return done_at is None or not done_at <= now < done_at + timedelta(seconds=REMOVE_EVERY_S)
