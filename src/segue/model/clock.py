"""The clock as a port: what keeps time is handed in, so that tests can hold it still."""

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time, and nothing else."""

    def now(self) -> datetime:
        """Return the time: aware, UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the machine's time: aware, UTC."""
        return datetime.now(UTC)

    def __repr__(self) -> str:
        return "SystemClock()"
