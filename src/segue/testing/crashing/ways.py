"""The ways through the journey that are crashed on; together they lead through every phase that has a command."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from segue.journey import Phase
from segue.model.ids import Version
from segue.testing.crashing.points import Moment, Point, Step, Victim

#: Ends the first attempt of an upgrade, which is then made again.
SETBACK = Point(step=Step(phase=Phase.TRANSFORMING, event="Transformed"), moment=Moment.DURING, victim=Victim.TRANSFORM)


def _all(steps: Sequence[Step]) -> Sequence[Step]:
    return steps


def _given_up(steps: Sequence[Step]) -> Sequence[Step]:
    """Return the steps from the failure to the permit for the next attempt."""
    failed = next(index for index, step in enumerate(steps) if step.event == "TransformFailed")
    granted = next(index for index, step in enumerate(steps) if index > failed and step.event == "PermitGranted")
    return steps[failed + 1 : granted]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way of a node.

    Attributes:
        name: what it is called.
        ran: the version that the node runs at its begin, with values; 0 if it never ran.
        target: the version that it must reach; all releases up to it are published.
        first: where it is crashed in any case, since that is what makes it this way.
        crashed: of the steps of the way, those that crashes are about.
    """

    name: str
    ran: Version
    target: Version
    first: tuple[Point, ...] = ()
    crashed: Callable[[Sequence[Step]], Sequence[Step]] = field(default=_all)


WAYS = (
    Way(name="first-start", ran=Version(0), target=Version(1)),
    Way(name="upgrade", ran=Version(1), target=Version(2)),
    Way(name="setback", ran=Version(1), target=Version(2), first=(SETBACK,), crashed=_given_up),
)
