"""An operator's hand on a rollout: `segue pause`, `resume`, `abort`, `approve`, `skip`, `force`, `forget`, `retire`."""

import asyncio
import getpass
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from segue.errors import OperatorError
from segue.model.hand import Deed
from segue.model.ids import node_id, system_name
from segue.wire.client import UpgradeServer
from segue.wire.hand import UNUSED_S, ActionRequest

#: Under this heading `segue --help` has them.
PANEL = "A rollout by hand"

System = Annotated[str, typer.Option(help="Which system.")]
Server = Annotated[str, typer.Option(help="The upgrade server's URL.")]
Who = Annotated[
    str | None,
    typer.Option("--as", metavar="NAME", envvar="SEGUE_OPERATOR", help="Who does it; by default your login name."),
]
Why = Annotated[str, typer.Option(help="The reason, which the history keeps.")]
Release = Annotated[
    int | None, typer.Option(min=1, help="Which release; by default the next one that the node would go to.")
]
NodeName = Annotated[str, typer.Argument(metavar="NODE", help="The node's id.")]
URL = "http://127.0.0.1:7000"
#: Options of `ActionRequest`'s fields, for what is said of a wrong value.
_OPTIONS = {"who": "--as", "why": "--why", "gate": "GATE", "version": "--release", "unused_s": "--unused-s"}


def add_to(app: typer.Typer) -> None:
    """Give `app` these commands."""
    for command in (pause, resume, abort, approve, skip, force, forget, retire):
        app.command(command.__name__, rich_help_panel=PANEL)(command)


def pause(system: System, server: Server = URL, why: Why = "", who: Who = None) -> None:
    """Grant no permit to any node of a system, until `segue resume`.

    Nodes that hold a permit go on to the end of it, and every node serves on.
    """
    act(system, server, deed=Deed.PAUSE, who=who, why=why)


def resume(system: System, server: Server = URL, why: Why = "", who: Who = None) -> None:
    """Let a rollout go on that was paused, or that halted by itself as its failure budget was spent.

    Failures until now count against no failure budget any more: somebody has looked at them. A release that was
    aborted stays so.
    """
    act(system, server, deed=Deed.RESUME, who=who, why=why)


def abort(
    system: System,
    server: Server = URL,
    release: Annotated[
        int | None, typer.Option(min=1, help="Which release; by default the newest that is on its way to nodes.")
    ] = None,
    why: Why = "",
    who: Who = None,
) -> None:
    """End the rollout of a release for good: no node gets a permit to stop at it any more.

    Says what the mixed fleet now means, and who holds a permit and goes on. Nothing goes back: nodes that run the
    release serve on, and work with the others through simulations. The way out is the next release, which leads all
    of them on.
    """
    act(system, server, deed=Deed.ABORT, version=release, who=who, why=why)


def approve(
    gate: Annotated[str, typer.Argument(help="The gate's name, as the release's schedule has it.")],
    system: System,
    server: Server = URL,
    release: Annotated[
        int | None, typer.Option(min=1, help="Which release; by default the newest that waits at this gate.")
    ] = None,
    why: Why = "",
    who: Who = None,
) -> None:
    """Open a gate at which a release waits for an operator; `segue status` names it."""
    act(system, server, deed=Deed.APPROVE, gate=gate, version=release, who=who, why=why)


def skip(
    node: NodeName,
    system: System,
    server: Server = URL,
    release: Annotated[
        int | None,
        typer.Option(min=1, help="Which release; by default the newest, or that the node is on its way to."),
    ] = None,
    why: Why = "",
    who: Who = None,
) -> None:
    """Leave a node out of the rollout of a release: nobody waits for it, and it gets no permit.

    It stays on the version that it runs, and works with the others. One that died on its way to the release, or that
    runs it and is dead or unwell, then holds nobody by a rule but max_unavailable. `segue retry NODE` takes it in
    again.
    """
    act(system, server, deed=Deed.SKIP, node=node, version=release, who=who, why=why)


def force(
    node: NodeName,
    system: System,
    why: Annotated[str, typer.Option(help="The reason: an override of the rules needs one.")],
    server: Server = URL,
    release: Release = None,
    who: Who = None,
) -> None:
    """Have a node get its permit to a release when it next asks, whatever the rules say.

    This may put more nodes away at once than the release allows. The history has it as an override, for one permit: if
    the attempt fails, the next goes by the rules. A pause that comes later holds the node.
    """
    act(system, server, deed=Deed.FORCE, node=node, version=release, who=who, why=why)


def forget(node: NodeName, system: System, server: Server = URL, why: Why = "", who: Who = None) -> None:
    """Take a node out of the fleet that will not come back: it counts in no limit, and its permit is closed.

    Refused while the node is heard of. If it speaks again, it is a node as before.
    """
    act(system, server, deed=Deed.FORGET, node=node, who=who, why=why)


def retire(
    version: Annotated[int, typer.Argument(min=1, help="The version; those before it go with it.")],
    system: System,
    server: Server = URL,
    unused_s: Annotated[
        float, typer.Option(min=0, help="For so many seconds nobody may have called with it, or with an older one.")
    ] = UNUSED_S,
    force_it: Annotated[bool, typer.Option("--force", help="Retire it though it is in use; needs --why.")] = False,
    why: Why = "",
    who: Who = None,
) -> None:
    """Give up a version: its calls are refused as RETIRED_VERSION, its simulations are removed from all nodes.

    Refused while somebody calls with it or a node needs it to catch up; says who. Nodes that join later begin without
    it. This is for good.
    """
    act(system, server, deed=Deed.RETIRE, version=version, unused_s=unused_s, force=force_it, who=who, why=why)


def act(system: str, server: str, *, who: str | None, **fields: Any) -> None:
    """Do it, and say what it means now.

    Args:
        system: which system.
        server: the upgrade server's URL.
        who: the operator's name; None for the login name.
        fields: those of `ActionRequest`.

    Raises:
        OperatorError: the upgrade server refuses it, or a value is wrong.
        PeerError: the upgrade server does not answer.
    """
    if fields.get("node") is not None:
        node_id(fields["node"])
    try:
        request = ActionRequest(who=who or _login_name(), **fields)
    except ValidationError as error:
        wrong = error.errors()[0]
        name = str(wrong["loc"][0])
        raise OperatorError(f"{_OPTIONS.get(name, name)} {wrong['input']!r}: {wrong['msg']}") from error
    typer.echo(asyncio.run(_act(system, server, request)))


async def _act(system: str, url: str, request: ActionRequest) -> str:
    async with UpgradeServer(url) as server:
        return (await server.act(system_name(system), request)).words


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise OperatorError("nobody knows who you are: give a name with --as, or as SEGUE_OPERATOR") from None
