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
    to: Annotated[int, typer.Option(help="The version to go to: 2, or 3 for two upgrades, one hard on the other.")] = 2,
    data: Annotated[
        Path | None, typer.Option(help="Store the files of this folder; by default the source of Python's library.")
    ] = None,
    nodes: Annotated[int, typer.Option(help="How many nodes the block store has.")] = 6,
    report: Annotated[Path, typer.Option(help="Where report.json and timeline.png go.")] = Path("demo-report"),
    seed: Annotated[int | None, typer.Option(help="Repeat an earlier run's choices; by default drawn anew.")] = None,
    broken: Annotated[
        bool, typer.Option("--break", help="Publish a version 2 whose self-test fails: it halts on its canary.")
    ] = False,
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open the picture at the end.")] = False,
) -> None:
    """Upgrade a block store of real processes to version 2, or on to 3, while clients of each version use it.

    Starts an upgrade server and the nodes on loopback, stores the files through version 1 clients, and
    publishes version 2, which speaks another protocol and stores its data in another way. With --to 3,
    version 3 comes while nodes still go to version 2: it has private blocks, which its clients get if they
    may read them, and which others and older clients are refused. To version 2 it takes less than three
    minutes. It leaves nothing behind but the report.

    With --break, version 2 is a build that fails its own test: one node, the canary, tries it, goes back and
    gives up; no other node gets leave to go, and `segue status` says why; all clients are served meanwhile.

    Exits with 0 only if no call failed, every file reads back bit for bit through each version, and each
    of the other checks in the report held.
    """
    raise typer.Exit(
        run(DemoOptions(to=to, data=data, nodes=nodes, report=report, seed=seed, no_open=no_open, broken=broken))
    )
