"""The `segue` command: one thin file per noun, which takes words apart and calls the room that does the work.

Every error that a person can cause leaves as one line on standard error and a status that is not zero.
"""

import sys
from typing import Any, cast

import typer

from segue.cli import demo, hand, history, node, node_status, orders, release, server, status
from segue.errors import SegueError

app = typer.Typer(
    help="Upgrade a long-lived distributed system while it runs.",
    epilog="Start with `segue demo`: it upgrades a block store of six nodes under load, on this machine.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",  # joins the lines of a paragraph
    pretty_exceptions_enable=False,
)
demo.add_to(app)
release.add_to(app)
status.add_to(app)
node_status.add_to(app)
history.add_to(app)
hand.add_to(app)
server.add_to(app)
node.add_to(app)
orders.add_to(app)


#: What all of Typer's errors about wrong words have in common; it exports the particular ones alone.
_UsageError = cast("type[Exception]", typer.BadParameter.__base__)


def main() -> None:
    """Run the command that the arguments name."""
    try:
        # In its standalone mode Typer puts usage errors into boxes; without a word it shows the help, by such an error.
        status = app(prog_name="segue", standalone_mode=not sys.argv[1:])
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
