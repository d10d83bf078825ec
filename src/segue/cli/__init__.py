"""The `segue` command: one thin file per noun, which takes words apart and calls the room that does the work.

Every error that a person can cause leaves as one line on standard error and a status that is not zero.
"""

import sys

import typer

from segue.cli import demo, node, release, server, status
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
server.add_to(app)
node.add_to(app)


def main() -> None:
    """Run the command that the arguments name."""
    try:
        app()
    except SegueError as error:
        print(f"segue: {error}", file=sys.stderr)
        sys.exit(1)
