"""`segue build` and `segue publish`: from a release's folder to a bundle, and from a bundle to the fleet."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from segue.errors import OperatorError
from segue.release.bundle import build, content_hash, manifest_of
from segue.wire.client import UpgradeServer


def add_to(app: typer.Typer) -> None:
    """Give `app` these commands."""
    app.command("build")(build_bundle)
    app.command("publish")(publish)


def build_bundle(
    folder: Annotated[Path, typer.Argument(help="The release's folder, with its release.toml.")],
    previous: Annotated[
        Path | None,
        typer.Option(help="The release before it, as folder or bundle; needed from version 2 on."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The bundle's file; by default SYSTEM-VERSION.segue, here.")
    ] = None,
) -> None:
    """Make the bundle of a release: one file, the same bytes for the same folder on every machine.

    The manifest, the names in it and every module's syntax are checked; no code of the release runs.
    """
    bundle = build(folder, previous=previous)
    release = manifest_of(bundle).release
    target = output or Path(f"{release.system}-{release.version}.segue")
    try:
        target.write_bytes(bundle)
    except OSError as error:
        raise OperatorError(f"the bundle cannot be written: {error}; choose a file with --output") from error
    typer.echo(f"{target}: {release.system} {release.version}, {len(bundle):,} bytes, SHA-256 {content_hash(bundle)}")


def publish(
    bundle: Annotated[Path, typer.Argument(help="A bundle that `segue build` made.")],
    server: Annotated[str, typer.Option(help="The upgrade server's URL.")] = "http://127.0.0.1:7000",
) -> None:
    """Publish a release: the fleet learns of it by itself, and upgrades as its schedule allows.

    Its version must be the next one of its system. A release that was published never changes;
    publishing the same bundle again does nothing.
    """
    try:
        content = bundle.read_bytes()
    except OSError as error:
        raise OperatorError(f"the bundle cannot be read: {error}; `segue build FOLDER` makes one") from error
    asyncio.run(_publish(server, content))


async def _publish(url: str, content: bytes) -> None:
    release = manifest_of(content).release
    async with UpgradeServer(url) as server:
        notice = await server.publish(content)
    typer.echo(f"published {release.system} {notice.version}, SHA-256 {notice.sha256}")
