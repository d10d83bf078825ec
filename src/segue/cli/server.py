"""`segue server`: run the upgrade server."""

from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from segue.errors import OperatorError
from segue.model.address import split_address
from segue.server.app import KEEP_HISTORY, serve
from segue.server.webhooks import KEEP_S


def add_to(app: typer.Typer) -> None:
    """Give `app` this command."""
    app.command("server")(server)


def server(
    data: Annotated[
        Path | None,
        typer.Option(help="The server's own folder: the upgrade database in SQLite, and the bundles."),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            envvar="SEGUE_DATABASE",
            show_envvar=True,
            help="Instead of a folder, a database on PostgreSQL, postgresql://USER:PASSWORD@HOST:PORT/NAME, which "
            "several upgrade servers may use. In the environment, it is not seen by `ps`.",
        ),
    ] = None,
    listen: Annotated[str, typer.Option(help="Where agents and people reach it, HOST:PORT.")] = "127.0.0.1:7000",
    keep_history_days: Annotated[
        float,
        typer.Option(
            min=1 / 24,
            max=36500,
            help="How long phases of nodes, tracebacks, and calls of processes that are gone are kept. Releases, "
            "permits and what operators did are kept for ever.",
        ),
    ] = KEEP_HISTORY / timedelta(days=1),
    webhook_keep_s: Annotated[
        float,
        typer.Option(
            min=1.0,
            max=31_536_000,
            help="For how many seconds the answer of a webhook (a gate of a schedule) holds.",
        ),
    ] = KEEP_S,
) -> None:
    """Run the upgrade server: it keeps the releases, grants permits, and knows the fleet.

    Its API is described at http://HOST:PORT/openapi.json. It asks nobody for a name or a password yet:
    let only the fleet and its operators reach it.
    """
    where = _where(data, database)
    host, port = split_address(listen)
    with suppress(KeyboardInterrupt):
        serve(
            where,
            host=host,
            port=port,
            keep_history=timedelta(days=keep_history_days),
            webhook_keep_s=webhook_keep_s,
            on_ready=lambda url: typer.echo(f"upgrade server at {url}"),
        )


def _where(data: Path | None, database: str | None) -> Path | str:
    if data is not None and database:
        raise OperatorError(
            f"the upgrade database is in the folder {data} by --data, and on PostgreSQL by --database or "
            f"SEGUE_DATABASE: give one of them"
        )
    if database:
        return database
    if data is None:
        raise OperatorError("nobody says where the upgrade database is: give --data FOLDER, or --database URL")
    return data
