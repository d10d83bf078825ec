"""`segue node` has a part of its help for each option, and the page on upgrades knows the defaults."""

import re
from pathlib import Path
from typing import Any, cast

from typer.main import get_command

from segue.cli import app_of

PAGE = (Path(__file__).parents[2] / "docs" / "what-happens-when-a-node-upgrades.md").read_text()
ROW = re.compile(r"^\| `(?P<option>--[a-z-]+)` \| (?P<default>[^|]+) \| (?P<when>[^|]+) \|$", re.MULTILINE)


def options() -> dict[str, Any]:
    """Return the options of `segue node`, by name."""
    command = cast("Any", get_command(app_of())).commands["node"]
    return {option.opts[0]: option for option in command.params}


def words(default: object) -> str:
    """Write a default as the page does."""
    if default is None:
        return "none"
    return f"{default:g}" if isinstance(default, float) else str(default)


def test_each_option_has_its_part_of_the_help() -> None:
    assert [name for name, option in options().items() if option.rich_help_panel is None] == []


def test_the_page_has_the_options_that_concern_upgrades_with_their_defaults() -> None:
    there = options()
    page = {found["option"]: found["default"] for found in ROW.finditer(PAGE)}
    assert page == {name: words(there[name].default) for name in page}
    assert {name for name, option in there.items() if option.rich_help_panel == "Upgrades"} <= set(page)


def test_the_page_names_no_option_that_is_not_there() -> None:
    named = set(re.findall(r"`(--[a-z-]+)", PAGE))
    assert named - set(options()) <= {"--json", "--verbose", "--state"}
