"""The `segue` command: one thin file per noun, which takes words apart and calls the room that does the work.

Every error that a person can cause leaves as one line on standard error and a status that is not zero.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, cast

import typer
from typer.main import get_group

from segue.errors import SegueError

#: `{module: its commands}`, in the order of the help. What a module needs may take a second to load, as the upgrade
#: server and the demo do: `segue status` must not wait for that.
MODULES = {
    "demo": ("demo",),
    "release": ("build", "publish"),
    "status": ("status",),
    "node_status": ("node-status",),
    "history": ("history",),
    "hand": ("pause", "resume", "abort", "approve", "skip", "force", "forget", "retire"),
    "server": ("server",),
    "node": ("node",),
    "orders": ("restart", "retry"),
}


#: What all of Typer's errors about wrong words have in common; it exports the particular ones alone.
_UsageError = cast("type[Exception]", typer.BadParameter.__base__)


def app_of(words: Sequence[str] = ()) -> typer.Typer:
    """Return the command with what `words` need of it: all commands, unless they begin with the name of one.

    Args:
        words: the arguments.
    """
    app = typer.Typer(
        help="Upgrade a long-lived distributed system while it runs.",
        epilog="Start with `segue demo`: it upgrades a block store of six nodes under load, on this machine.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode="markdown",  # joins the lines of a paragraph
        pretty_exceptions_enable=False,
    )
    named = [module for module, commands in MODULES.items() if words and words[0] in commands]
    for module in named or MODULES:
        import_module(f"segue.cli.{module}").add_to(app)
    return app


def main() -> None:
    """Run the command that the arguments name."""
    words = sys.argv[1:]
    command = get_group(app_of(words))  # a group of one command is one, too
    try:
        # In its standalone mode Typer puts usage errors into boxes; without a word it shows the help, by such an error.
        status = command(prog_name="segue", standalone_mode=not words)
    except SegueError as error:
        print(f"segue: {error}", file=sys.stderr)
        sys.exit(1)
    except _UsageError as error:
        print(f"segue: {_usage_words(error)}", file=sys.stderr)
        sys.exit(2)
    sys.exit(status)


def _usage_words(error: Any) -> str:
    """Return what is wrong with the words of a command, in one line."""
    command = error.ctx.command_path if error.ctx else "segue"
    return f"{' '.join(error.format_message().split()).rstrip('.')}: see `{command} --help`"
