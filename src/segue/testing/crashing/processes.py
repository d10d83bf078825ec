"""The processes of a node on trial, found by a mark in their environment, and killed as a crash would."""

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from segue.testing.crashing.points import Victim

#: The variable that all that an agent on trial starts inherits: its value is the folder of the trial.
MARK = "SEGUE_CRASHING"

_APPLICATION = b"segue.node.host"
_TRANSFORM = b"segue.release.transform"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The ids of the processes that an agent on trial has started, and that are there at this moment."""

    application: Sequence[int]
    transform: Sequence[int]
    others: Sequence[int]

    def of(self, victim: Victim) -> Sequence[int]:
        """Return those that are killed with `victim`; the agent itself is not among them."""
        match victim:
            case Victim.AGENT:
                return ()
            case Victim.APPLICATION:
                return self.application
            case Victim.TRANSFORM:
                return self.transform
            case Victim.ALL:
                return (*self.application, *self.transform, *self.others)

    def counts(self, victim: Victim) -> dict[str, int]:
        """Say how many of each kind are killed with `victim`: `{kind: count}`."""
        killed = set(self.of(victim))
        agent = {"agent": 1} if victim in (Victim.AGENT, Victim.ALL) else {}
        kinds = {"application": self.application, "transform": self.transform, "others": self.others}
        return agent | {kind: len(pids) for kind, pids in kinds.items() if killed.intersection(pids)}


def find(trial: Path) -> Found:
    """Look for the processes of a trial; those that have ended and were not reaped are not there."""
    mark = f"{MARK}={trial}".encode()
    application: list[int] = []
    transform: list[int] = []
    others: list[int] = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            if mark not in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                continue
            words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
        except OSError:  # it has ended, or is not ours
            continue
        kind = application if _APPLICATION in words else transform if _TRANSFORM in words else others
        kind.append(int(name))
    return Found(application=application, transform=transform, others=others)


def kill(pids: Sequence[int]) -> None:
    """Kill these processes."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
