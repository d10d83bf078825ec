"""The table is whole: every phase is reached, every command's answers have a row, and nothing else has."""

import re
from collections.abc import Callable
from typing import get_args

import pytest

from segue import journey as j
from segue.journey.steps import COMMANDS, TABLE

Routes = dict[j.Phase, list[j.Event]]
Example = Callable[[j.Journey, type[j.Event]], j.Event]

RESTS = {j.Phase.NEW, j.Phase.SERVING}
LEARNING = {j.Phase.FETCHING_FIRST, j.Phase.STARTING_FIRST, j.Phase.FETCHING, j.Phase.INSTALLING}
EVENTS: tuple[type[j.Event], ...] = get_args(j.Event)


def test_every_phase_is_reached(routes: Routes) -> None:
    assert set(routes) == set(j.Phase)


def test_only_rests_have_no_command() -> None:
    assert set(j.Phase) - set(COMMANDS) == RESTS


def test_every_phase_leads_to_a_rest() -> None:
    leads = set(RESTS)
    for _ in j.Phase:
        leads |= {phase for (phase, _), (after, _) in TABLE.items() if callable(after) or after in leads}
    assert leads == set(j.Phase)


@pytest.mark.parametrize("phase", j.Phase)
def test_a_phase_takes_just_the_answers_to_its_command(phase: j.Phase, routes: Routes) -> None:
    at, commands = j.fold(routes[phase])
    answers = {answer for command in commands for answer in j.ANSWERS[type(command)]}
    assert at.phase is phase
    orders = {j.RestartOrdered, j.RetryOrdered} if phase is j.Phase.SERVING else set()
    assert {kind for start, kind in TABLE if start is phase} == (answers or {j.Learned} | orders)


def test_every_command_has_its_answers_and_every_event_its_command() -> None:
    assert set(j.ANSWERS) == set(get_args(j.Command))
    answers = [answer for kinds in j.ANSWERS.values() for answer in kinds]
    assert len(answers) == len(set(answers))
    assert set(answers) == set(EVENTS)


@pytest.mark.parametrize("command", j.ANSWERS)
def test_a_commands_docstring_names_its_answers(command: type[j.Command]) -> None:
    named = re.search(r": `([A-Za-z |]+)`\.", command.__doc__ or "")
    assert named is not None
    assert named[1].split(" | ") == [answer.__name__ for answer in j.ANSWERS[command]]


@pytest.mark.parametrize(("phase", "kind"), TABLE, ids=lambda part: getattr(part, "__name__", str(part)))
def test_every_row_leads_where_it_says_and_names_what_is_next(
    phase: j.Phase, kind: type[j.Event], routes: Routes, example: Example
) -> None:
    at, _ = j.fold(routes[phase])
    following, commands = j.advance(at, example(at, kind))
    after = TABLE[phase, kind][0]
    assert following.phase is (after(following) if callable(after) else after)
    assert commands == j.pending(following)
    assert bool(commands) == (following.phase not in RESTS)
    assert bool(following.learning) == (following.phase in LEARNING)
    if following.phase not in LEARNING and not following.phase.is_restart:
        assert (following.upgrade is None) == (following.phase in RESTS)


@pytest.mark.parametrize("phase", j.Phase)
def test_what_has_no_row_is_refused(phase: j.Phase, routes: Routes, example: Example) -> None:
    at, _ = j.fold(routes[phase])
    for kind in EVENTS:
        if (phase, kind) not in TABLE:
            with pytest.raises(j.UnexpectedEventError, match=f"{kind.__name__}.* while {phase.value}"):
                j.advance(at, example(at, kind))


@pytest.mark.parametrize(("phase", "kind"), TABLE, ids=lambda part: getattr(part, "__name__", str(part)))
def test_an_event_that_is_told_twice_is_refused(
    phase: j.Phase, kind: type[j.Event], routes: Routes, example: Example
) -> None:
    at, _ = j.fold(routes[phase])
    event = example(at, kind)
    following, _ = j.advance(at, event)
    if kind is j.RetryOrdered:  # an order that changes nothing the second time
        assert j.advance(following, event)[0] == following
        return
    with pytest.raises(j.UnexpectedEventError):
        j.advance(following, event)
