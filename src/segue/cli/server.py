"""`segue server`: run the upgrade server."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from segue.model.address import split_address
from segue.server.app import serve


def add_to(app: typer.Typer) -> None:
    """Give `app` this command."""
    app.command("server")(server)


def server(
    data: Annotated[Path, typer.Option(help="The server's own folder: the upgrade database, and the bundles.")],
    listen: Annotated[str, typer.Option(help="Where agents and people reach it, HOST:PORT.")] = "127.0.0.1:7000",
) -> None:
    """Run the upgrade server: it keeps the releases, grants permits, and knows the fleet.

    Its API is described at http://HOST:PORT/openapi.json. It asks nobody for a name or a password yet:
    let only the fleet and its operators reach it.
    """
    host, port = split_address(listen)
    with suppress(KeyboardInterrupt):
        serve(data, host=host, port=port, on_ready=lambda url: typer.echo(f"upgrade server at {url}"))
