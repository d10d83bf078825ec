"""Where a node can be killed: before, while and after each command, and when its event is in the journal.

The steps are those of a journal that a node wrote on its way without a crash, so that no step can be forgotten.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from segue import journey
from segue.journey import Phase
from segue.journey.steps import COMMANDS
from segue.node.journal import decode


class Moment(StrEnum):
    """When, around one command; a rest has no command, and so only the last two."""

    BEFORE = "before"
    DURING = "during"
    #: It has run, and its event is not in the journal.
    AFTER = "after"
    #: Its event is in the journal, and nothing has followed from it.
    JOURNALLED = "journalled"


class Victim(StrEnum):
    """Who is killed: the agent, every process of the application, the transform's, or all of them at once."""

    AGENT = "agent"
    APPLICATION = "application"
    TRANSFORM = "transform"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One entry of a journal by its place.

    Attributes:
        phase: where the node was.
        event: the name of the event that led on.
        nth: how often it had led on from that phase, this time included.
    """

    phase: Phase
    event: str
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.phase.name.lower()}-{self.event}-{self.nth}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A moment of a step, and who is killed then."""

    step: Step
    moment: Moment
    victim: Victim

    def __str__(self) -> str:
        return f"{self.step}/{self.moment}/{self.victim}"

    @classmethod
    def parse(cls, text: str) -> "Point":
        """Return the point that `str` was asked for."""
        step, moment, victim = text.split("/")
        phase, event, nth = step.split("-")
        return cls(
            step=Step(phase=Phase[phase.upper()], event=event, nth=int(nth)),
            moment=Moment(moment),
            victim=Victim(victim),
        )


def read_journal(path: Path) -> list[journey.Event]:
    """Return the events of a journal that are whole; none if it is not there."""
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    return [decode(json.loads(line)) for line in lines if line.endswith(b"\n")]


def steps_of(events: Iterable[journey.Event]) -> list[Step]:
    """Return the step that each event of a journal is."""
    at, seen, steps = journey.Journey(), Counter[tuple[Phase, str]](), []
    for event in events:
        key = at.phase, type(event).__name__
        seen[key] += 1
        steps.append(Step(phase=at.phase, event=key[1], nth=seen[key]))
        at, _ = journey.advance(at, event)
    return steps


def moments_of(step: Step) -> tuple[Moment, ...]:
    """Return the moments that a step has."""
    return tuple(Moment) if step.phase in COMMANDS else (Moment.AFTER, Moment.JOURNALLED)


def is_next(step: Step, done: Sequence[Step], phase: Phase) -> bool:
    """Say whether a node in `phase`, with `done` in its journal, may be about to take `step`."""
    before = sum(1 for one in done if (one.phase, one.event) == (step.phase, step.event))
    return step.phase is phase and step.nth == before + 1
