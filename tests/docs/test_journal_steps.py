"""docs/the-journal.md has a row for each phase with its command, and one for each event that a phase takes."""

import json
import typing
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from segue import journey
from segue.journey import ANSWERS, Journey, Phase, Upgrade
from segue.journey.steps import COMMANDS, TABLE
from segue.model.ids import ContentHash, Version
from segue.model.release import Announcement
from segue.node.journal import decode

PAGE = (Path(__file__).parents[2] / "docs" / "the-journal.md").read_text()
UPGRADE = Upgrade(release=Announcement(version=Version(2), sha256=ContentHash("2" * 64), size_bytes=1))


def rows(heading: str, columns: int) -> Iterator[list[str]]:
    """Yield the cells of each row of the table below a heading."""
    _, _, rest = PAGE.partition(f"\n## {heading}\n")
    lines = [line for line in rest.partition("\n## ")[0].splitlines() if line.startswith("|")]
    for line in lines[2:]:
        cells = [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]
        assert len(cells) == columns, line
        yield cells


def code(word: str) -> str:
    """Return what stands in backquotes."""
    return word.removeprefix("`").removesuffix("`")


def places(phase: Phase, event: type[journey.Event]) -> set[str]:
    """Return the phases that an event may lead to."""
    following, _ = TABLE[phase, event]
    if isinstance(following, Phase):
        return {following.value}
    found = set()
    for upgrade in (None, UPGRADE, Upgrade(release=UPGRADE.release, transformed=1, answered=True)):
        with suppress(AssertionError):  # some ask an upgrade that there must be
            found.add(following(Journey(upgrade=upgrade)).value)
    return found


def test_each_phase_has_a_row_with_its_command() -> None:
    asked_for = {event: command.__name__ for command, events in ANSWERS.items() for event in events}
    commands = {phase: {asked_for[kind] for at, kind in TABLE if at is phase} for phase in COMMANDS}
    expected = [(phase.value, commands[phase] if phase in COMMANDS else {"none"}) for phase in Phase]
    page = [(row[0], {code(row[1])}) for row in rows("Phases", 6)]
    assert sorted(page, key=str) == sorted(expected, key=str)


def test_no_cell_of_a_phase_is_empty() -> None:
    """What is on disk before and after, what is done, and what after a crash."""
    assert all(all(row) for row in rows("Phases", 6))


def test_each_event_of_a_phase_has_a_row_that_says_where_it_leads() -> None:
    expected = [(phase.value, event.__name__, places(phase, event)) for phase, event in TABLE]
    page = [(row[0], code(row[1]), set(row[2].split(" or "))) for row in rows("Events", 4)]
    assert sorted(page, key=str) == sorted(expected, key=str)


def test_every_command_and_event_is_on_the_page() -> None:
    kinds = {kind.__name__ for union in (journey.Command, journey.Event) for kind in typing.get_args(union)}
    named = {code(row[1]) for row in (*rows("Phases", 6), *rows("Events", 4))} - {"none"}
    assert named == kinds


def test_the_lines_shown_are_of_a_journal() -> None:
    _, _, rest = PAGE.partition("```json\n")
    lines = rest.partition("```")[0].splitlines()
    assert [type(decode(json.loads(line))) for line in lines] == [journey.Quiesced, journey.Transformed]
