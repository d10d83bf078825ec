"""`segue restart` and `segue retry`: tell a node's agent what to do, on its machine or through the upgrade server."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from segue.cli.hand import PANEL, URL, Release, Server, Who, Why, act
from segue.errors import OperatorError
from segue.model.hand import Deed
from segue.node.orders import Order, Restart, Retry, give_order

_State = Annotated[Path, typer.Option(help="The node's state folder, as its agent has it.")]
_Timeout = Annotated[
    float, typer.Option(help="Seconds to wait; an order that the agent has not come to by then is withdrawn.")
]


def add_to(app: typer.Typer) -> None:
    """Give `app` these commands."""
    app.command("restart")(restart)
    app.command("retry", rich_help_panel=PANEL)(retry)


def restart(state: _State, timeout_s: _Timeout = 600.0) -> None:
    """Replace the process of a node by a new one of the same version, without a failed call.

    The port passes to it as in an upgrade; calls wait while the object ends in the one process and starts in the
    other. During an upgrade it waits for the end of that. Give the order on the node's machine, as the user that
    the agent runs as.

    Exits with 0 once the new process serves. Otherwise the old one serves on.
    """
    _give(state, Restart(), timeout_s)


def retry(
    node: Annotated[str | None, typer.Argument(metavar="NODE", help="The node's id, if not --state.")] = None,
    system: Annotated[str | None, typer.Option(help="Which system; with NODE.")] = None,
    server: Server = URL,
    release: Release = None,
    why: Why = "",
    who: Who = None,
    state: Annotated[
        Path | None, typer.Option(help="On the node's machine, instead of NODE: its state folder, as its agent has it.")
    ] = None,
    timeout_s: Annotated[float, typer.Option(help="With --state: seconds to wait for the agent.")] = 60.0,
) -> None:
    """Have a node try a release again that it rejected, gave up or put off after a failure, or was left out of.

    For a failure whose cause was not the release, or is mended: a disk that was full, a service that was away.
    `segue retry NODE --system SYSTEM` goes through the upgrade server: the node hears of it when it next reports.
    `segue retry --state FOLDER` is given on the node's machine, as the user that the agent runs as, and needs no
    upgrade server; it exits with 0 once the agent has begun anew.

    `segue status` shows how it goes on.
    """
    if (node is None) == (state is None):
        raise OperatorError("which node? Give NODE and --system, or on the node's machine --state, and not both")
    if state is not None:
        _give(state, Retry(), timeout_s)
    elif system is None:
        raise OperatorError(f"of which system is node {node}? Give --system")
    else:
        act(system, server, deed=Deed.RETRY, node=node, version=release, who=who, why=why)


def _give(state: Path, order: Order, timeout_s: float) -> None:
    if timeout_s <= 0:
        raise OperatorError(f"--timeout-s is {timeout_s:g}: it must be more than 0 seconds")
    typer.echo(asyncio.run(give_order(state, order, timeout_s=timeout_s)).text)
