"""`segue demo`: see a running system upgraded, on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from segue.demo.options import DemoOptions
from segue.demo.script import run


def add_to(app: typer.Typer) -> None:
    """Give `app` this command."""
    app.command("demo")(demo)


def demo(
    data: Annotated[
        Path | None, typer.Option(help="Store the files of this folder; by default the source of Python's library.")
    ] = None,
    nodes: Annotated[int, typer.Option(help="How many nodes the block store has.")] = 6,
    report: Annotated[Path, typer.Option(help="Where report.json and timeline.png go.")] = Path("demo-report"),
    seed: Annotated[int | None, typer.Option(help="Repeat an earlier run's choices; by default drawn anew.")] = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open the picture at the end.")] = False,
) -> None:
    """Upgrade a block store of real processes from version 1 to version 2 while clients of both use it.

    Starts an upgrade server and the nodes on loopback, stores the files through version 1 clients, and
    publishes version 2, which speaks another protocol and stores its data in another way. It takes less
    than three minutes, and leaves nothing behind but the report.

    Exits with 0 only if no call failed, every file reads back bit for bit through both versions, and each
    of the other checks in the report held.
    """
    raise typer.Exit(run(DemoOptions(data=data, nodes=nodes, report=report, seed=seed, no_open=no_open)))
