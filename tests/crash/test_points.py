"""Kill points come from the journal's own steps: a command that no way leads through is found here."""

from segue.journey import Phase
from segue.journey.steps import COMMANDS, TABLE
from segue.testing.crashing.points import Moment, Point, Step, Victim, moments_of


def test_a_point_is_read_as_it_is_written() -> None:
    """Notes and options name points."""
    for phase, event in TABLE:
        for moment in Moment:
            for victim in Victim:
                point = Point(step=Step(phase=phase, event=event.__name__, nth=2), moment=moment, victim=victim)
                assert Point.parse(str(point)) == point


def test_a_rest_has_no_command() -> None:
    """So nothing can be killed before or while it runs."""
    for phase in Phase:
        moments = moments_of(Step(phase=phase, event="Learned"))
        assert (Moment.DURING in moments) == (phase in COMMANDS)
