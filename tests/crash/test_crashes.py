"""A node that is killed anywhere arrives by itself, with its state as it is without a crash, and every Put there.

What is checked of each node is in `segue.testing.crashing.trial`. To look into one crash:

    pytest -m crash tests/crash --crash-only transforming-Transformed-1/during/agent
    pytest -m crash tests/crash --crash-only 'random 7' --crash-seed 20260301
"""

import asyncio
from collections.abc import Sequence

import pytest

from segue.journey.steps import COMMANDS
from segue.testing.crashing.plans import one_of_each_moment, one_of_each_step
from segue.testing.crashing.points import Moment, Victim
from segue.testing.crashing.trials import Trials
from segue.testing.crashing.ways import WAYS, Way

pytestmark = [pytest.mark.end_to_end, pytest.mark.alone, pytest.mark.asyncio(loop_scope="module")]

#: Random trials of a node on its way, and the crashes in each.
RANDOM_TRIALS, RANDOM_CRASHES = 20, 4
UPGRADE, CATCH_UP, RESTART = (
    next(way for way in WAYS if way.name == name) for name in ("upgrade", "catch-up", "restart")
)


@pytest.mark.timeout(300)
async def test_every_command_is_crashed_on(trials: Trials) -> None:
    """The agent, and all at once, at every moment of each: a new command that no way leads through is found here."""
    for victim in (Victim.AGENT, Victim.ALL):
        points = [point for way in WAYS for point in trials.points(way, victim)]
        crashed = {(point.step.phase, point.moment) for point in points}
        assert crashed >= {(phase, moment) for phase in COMMANDS for moment in Moment}
    phases = {
        victim: {point.step.phase for point in trials.points(UPGRADE, victim)}
        for victim in (Victim.AGENT, Victim.APPLICATION)
    }
    assert phases[Victim.APPLICATION] == phases[Victim.AGENT]
    assert trials.points(UPGRADE, Victim.TRANSFORM)


@pytest.mark.timeout(300)
async def test_a_crash_in_each_step(trials: Trials) -> None:
    """Each victim is killed once in each step, at one moment or another; the others are for the long run.

    So are most victims on ways that have little that an upgrade has not.
    """
    before = len(trials.failures)
    async with asyncio.TaskGroup() as tasks:
        for turn, (way, victim) in enumerate((one, victim) for one in WAYS for victim in _victims_of(one)):
            points = one_of_each_step(trials.points(way, victim), turn)
            if points:
                tasks.create_task(trials.crash_at(way, points, f"{way.name}, {victim}, each step"))
        tasks.create_task(trials.crash_at_random_times(UPGRADE, "random", RANDOM_CRASHES))
    assert not trials.failures[before:], "\n\n".join(trials.failures[before:])


def _victims_of(way: Way) -> Sequence[Victim]:
    if way is UPGRADE:
        return list(Victim)
    return (Victim.AGENT, Victim.ALL) if way in (CATCH_UP, RESTART) else (Victim.ALL,)


@pytest.mark.crash
@pytest.mark.timeout(1200)
async def test_every_crash(trials: Trials, crash_only: str) -> None:
    """Each victim is killed at every moment of every step, and at random times: 200 crashes at least."""
    async with asyncio.TaskGroup() as tasks:
        for way in WAYS:
            for victim in Victim:
                _crash_at_each_moment(trials, way, victim, crash_only, tasks)
        for number in range(RANDOM_TRIALS):
            way = (UPGRADE, CATCH_UP, UPGRADE, RESTART)[number % 4]
            name = f"random {number}"
            if not crash_only or crash_only == name:
                tasks.create_task(trials.crash_at_random_times(way, name, RANDOM_CRASHES))
    assert not trials.failures, "\n\n".join(trials.failures)
    assert crash_only or trials.count >= 200


def _crash_at_each_moment(trials: Trials, way: Way, victim: Victim, only: str, tasks: asyncio.TaskGroup) -> None:
    wanted = [point for point in trials.points(way, victim) if only in str(point)]
    for points in one_of_each_moment(wanted):
        name = f"{way.name}, {victim}, {points[0].moment}"
        tasks.create_task(trials.crash_at(way, points, name))
