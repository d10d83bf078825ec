"""The ways through the journey that are crashed on; together they lead through every phase that has a command."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from segue.journey import Phase
from segue.model.ids import Version
from segue.testing.crashing.points import Moment, Point, Step, Victim

#: Ends the first attempt of an upgrade, which is then made again.
SETBACK = Point(step=Step(phase=Phase.TRANSFORMING, event="Transformed"), moment=Moment.DURING, victim=Victim.TRANSFORM)
#: Ends the first attempt of a restart, which is then ordered again.
NOT_RESTARTED = Point(
    step=Step(phase=Phase.RESTART_STARTING, event="Started"), moment=Moment.BEFORE, victim=Victim.APPLICATION
)
#: What a way through several releases has that one to the next has not.
_OF_SEVERAL = frozenset({Phase.WARMING, Phase.TRANSFORMING, Phase.COMMITTING})


def _all(steps: Sequence[Step]) -> Sequence[Step]:
    return steps


def _given_up(steps: Sequence[Step]) -> Sequence[Step]:
    """Return the steps from the failure to the permit for the next attempt."""
    failed = next(index for index, step in enumerate(steps) if step.event == "TransformFailed")
    granted = next(index for index, step in enumerate(steps) if index > failed and step.event == "PermitGranted")
    return steps[failed + 1 : granted]


def _through_several(steps: Sequence[Step]) -> Sequence[Step]:
    return [step for step in steps if step.phase in _OF_SEVERAL]


def _of_a_restart(steps: Sequence[Step]) -> Sequence[Step]:
    return [step for step in steps if step.phase.is_restart or step.event == "RestartOrdered"]


def _resumed(steps: Sequence[Step]) -> Sequence[Step]:
    return [step for step in steps if step.phase is Phase.RESTART_RESUMING]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way of a node.

    Attributes:
        name: what it is called.
        ran: the version that the node runs at its begin, with values; 0 if it never ran.
        target: the version that it must reach; all releases up to it are published.
        first: where it is crashed in any case, since that is what makes it this way.
        crashed: of the steps of the way, those that crashes are about.
        away: whether the node is away while the releases after `ran` are published.
        restarts: whether its process is to be replaced, once it runs `ran`; this is ordered until it is done.
    """

    name: str
    ran: Version
    target: Version
    first: tuple[Point, ...] = ()
    crashed: Callable[[Sequence[Step]], Sequence[Step]] = field(default=_all)
    away: bool = False
    restarts: bool = False


WAYS = (
    Way(name="first-start", ran=Version(0), target=Version(1)),
    Way(name="upgrade", ran=Version(1), target=Version(2)),
    Way(name="setback", ran=Version(1), target=Version(2), first=(SETBACK,), crashed=_given_up),
    Way(name="catch-up", ran=Version(1), target=Version(4), crashed=_through_several, away=True),
    Way(name="restart", ran=Version(2), target=Version(2), crashed=_of_a_restart, restarts=True),
    Way(name="no-restart", ran=Version(2), target=Version(2), first=(NOT_RESTARTED,), crashed=_resumed, restarts=True),
)
