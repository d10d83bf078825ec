"""A history of systems in memory, for tests of who reads one."""

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from segue.errors import PeerError
from segue.model.ids import NodeId, SystemName, Version

_START = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryChange:
    """One thing that happened, as `segue.server.events.Change` has it."""

    number: int
    at: datetime
    kind: str
    node: NodeId | None = None
    version: Version | None = None
    who: str = ""
    text: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


class MemoryChanges:
    """A history that any thread may read and add to.

    Attributes:
        is_away: True for a database that does not answer.
        reads: how often it was read from.
        refusals: how often it did not answer.
    """

    def __init__(self) -> None:
        self.is_away = False
        self.reads = 0
        self.refusals = 0
        self._lock = threading.Lock()
        self._of: defaultdict[SystemName, list[MemoryChange]] = defaultdict(list)
        self._numbers: Counter[SystemName] = Counter()

    def happen(self, system: SystemName, kind: str, **fields: Any) -> MemoryChange:
        """Add what happened, a second after what happened before it."""
        with self._lock:
            self._numbers[system] += 1
            number = self._numbers[system]
            change = MemoryChange(number=number, at=_START + timedelta(seconds=number), kind=kind, **fields)
            self._of[system].append(change)
            return change

    def forget(self, system: SystemName, kind: str) -> None:
        """Remove what is of that kind; the others keep their numbers."""
        with self._lock:
            self._of[system] = [change for change in self._of[system] if change.kind != kind]

    def history(self, system: SystemName, *, after: int = 0, limit: int = 1000) -> Sequence[MemoryChange]:
        """Return what has greater numbers than `after`, the oldest first, `limit` of it at most."""
        with self._lock:
            if self.is_away:
                self.refusals += 1
                raise PeerError("the upgrade database does not answer: it is away")
            self.reads += 1
            return tuple(islice((change for change in self._of[system] if change.number > after), limit))

    def __repr__(self) -> str:
        return f"MemoryChanges({ {system: len(changes) for system, changes in self._of.items()} })"
