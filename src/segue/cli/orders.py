"""`segue restart` and `segue retry`: tell the agent of a node on this machine what to do."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from segue.errors import OperatorError
from segue.node.orders import Order, Restart, Retry, give_order

_State = Annotated[Path, typer.Option(help="The node's state folder, as its agent has it.")]
_Timeout = Annotated[
    float, typer.Option(help="Seconds to wait; an order that the agent has not come to by then is withdrawn.")
]


def add_to(app: typer.Typer) -> None:
    """Give `app` these commands."""
    app.command("restart")(restart)
    app.command("retry")(retry)


def restart(state: _State, timeout_s: _Timeout = 600.0) -> None:
    """Replace the process of a node by a new one of the same version, without a failed call.

    The port passes to it as in an upgrade; calls wait while the object ends in the one process and starts in the
    other. During an upgrade it waits for the end of that. Give the order on the node's machine, as the user that
    the agent runs as.

    Exits with 0 once the new process serves. Otherwise the old one serves on.
    """
    _give(state, Restart(), timeout_s)


def retry(state: _State, timeout_s: _Timeout = 60.0) -> None:
    """Have a node try the release again that it rejected, gave up, or put off after a failure.

    For a failure whose cause was not the release, or is mended: a disk that was full, a service that was away. Give
    the order on the node's machine, as the user that the agent runs as.

    Exits with 0 once the agent has begun anew: `segue status` shows how it goes on.
    """
    _give(state, Retry(), timeout_s)


def _give(state: Path, order: Order, timeout_s: float) -> None:
    if timeout_s <= 0:
        raise OperatorError(f"--timeout-s is {timeout_s:g}: it must be more than 0 seconds")
    typer.echo(asyncio.run(give_order(state, order, timeout_s=timeout_s)).text)
