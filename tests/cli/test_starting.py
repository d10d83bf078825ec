"""A command loads what it needs and no more: one that is asked often must answer at once."""

import subprocess
import sys
from typing import Any, cast

import pytest
from typer.main import get_group

from segue.cli import MODULES, app_of

#: What takes long to load, and the commands that do without.
_HEAVY = (
    "sqlalchemy",
    "fastapi",
    "uvicorn",
    "alembic",
    "prometheus_client",
    "segue.demo",
    "segue.server",
    "segue.node",
)
_QUICK = ("status", "node-status", "history", "pause")


def commands(*words: str) -> dict[str, Any]:
    """Return the commands that are there if these are the arguments."""
    return dict(cast("Any", get_group(app_of(words))).commands)


def test_each_module_has_the_commands_that_it_is_loaded_for() -> None:
    listed = [command for names in MODULES.values() for command in names]
    assert sorted(commands()) == sorted(listed)
    assert len(set(listed)) == len(listed)
    for names in MODULES.values():
        for name in names:
            assert set(commands(name)) == set(names)


@pytest.mark.parametrize("words", [(), ("--help",), ("statu",), ("--system", "status")])
def test_without_the_name_of_a_command_all_are_there(words: tuple[str, ...]) -> None:
    """The help lists them, and a wrong name is compared with them."""
    assert "demo" in commands(*words)


@pytest.mark.parametrize("command", _QUICK)
def test_a_look_at_a_fleet_does_not_load_the_server(command: str) -> None:
    code = (
        "import sys; from segue.cli import app_of; app_of(sys.argv[1:]);"
        f"print([name for name in {_HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, command], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
