"""`segue node`: be the agent of one node."""

import asyncio
import json
import logging
import signal
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from segue.errors import OperatorError, SegueError
from segue.layer.tls import TlsFiles
from segue.model.clock import SystemClock
from segue.model.ids import class_name, node_id, system_name
from segue.node.agent import run_agent
from segue.node.first_process import step_aside_as_first_process
from segue.node.logs import LogFormat, LogLevel, LogSettings, set_up
from segue.node.plan import HandOver
from segue.node.requirements import InstallSettings
from segue.node.settings import NodeSettings
from segue.node.supervisor import Supervisor

logger = logging.getLogger(__name__)

#: As in sysexits.h: a fault of the program. A supervisor does well to start it again.
_OWN_FAULT = 70
#: Signals to end that come so soon after the first, in seconds, are that one.
_SAME_S = 1.0

#: The parts of the command's help, in the order of their options below.
_NODE, _LISTEN, _CALLS, _UPGRADES, _REQUIREMENTS, _LOGS = (
    "The node", "Where it listens", "Calls", "Upgrades", "What releases require", "Logs and metrics",
)  # fmt: skip


def add_to(app: typer.Typer) -> None:
    """Give `app` this command."""
    app.command("node")(node)


def node(
    system: Annotated[str, typer.Option(help="The system that the node belongs to.", rich_help_panel=_NODE)],
    class_: Annotated[
        str,
        typer.Option("--class", help="What the node runs: a class of the system's releases.", rich_help_panel=_NODE),
    ],
    name: Annotated[str, typer.Option("--id", help="The node's id, unique in its system.", rich_help_panel=_NODE)],
    listen: Annotated[
        list[str],
        typer.Option(
            help="Where the node's clients reach it: HOST:PORT, [IPV6]:PORT or unix:/PATH; may be given again.",
            rich_help_panel=_LISTEN,
        ),
    ],
    state: Annotated[
        Path,
        typer.Option(
            help="The node's own folder: its persistent state, its journal, its releases.", rich_help_panel=_NODE
        ),
    ],
    server: Annotated[
        str, typer.Option(help="The upgrade server's URL.", rich_help_panel=_NODE)
    ] = "http://127.0.0.1:7000",
    attribute: Annotated[
        list[str] | None,
        typer.Option(help="NAME=VALUE, such as zone=a, for schedules; may be given again.", rich_help_panel=_NODE),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="A TOML file with the application's settings: the object's node.config.", rich_help_panel=_NODE
        ),
    ] = None,
    poll_s: Annotated[
        float, typer.Option(help="Seconds between reports to the upgrade server.", rich_help_panel=_NODE)
    ] = 2.0,
    advertise: Annotated[
        str | None,
        typer.Option(
            help="Where others reach the node: the object's node.address; the first --listen if not given.",
            rich_help_panel=_LISTEN,
        ),
    ] = None,
    tls_cert: Annotated[
        str | None,
        typer.Option(
            help="The node's certificate and its chain, a PEM file: all its ports are then TLS.",
            rich_help_panel=_LISTEN,
        ),
    ] = None,
    tls_key: Annotated[
        str | None,
        typer.Option(help="The key of that certificate, a PEM file without a passphrase.", rich_help_panel=_LISTEN),
    ] = None,
    tls_client_ca: Annotated[
        str | None,
        typer.Option(
            help="Whose clients may call, a PEM file of authorities: each must then show a certificate.",
            rich_help_panel=_LISTEN,
        ),
    ] = None,
    tls_ca: Annotated[
        str | None,
        typer.Option(
            help="Whose nodes the object calls, a PEM file of authorities: node.channel is then TLS, "
            "and shows the node's own certificate.",
            rich_help_panel=_LISTEN,
        ),
    ] = None,
    hand_over: Annotated[
        HandOver,
        typer.Option(
            help="How the ports pass to the next process: auto, without a gap where the kernel can; "
            "stop-and-start, with one.",
            rich_help_panel=_LISTEN,
        ),
    ] = HandOver.AUTO,
    unlabelled: Annotated[
        str,
        typer.Option(
            help="Which version a call without a label speaks, if several have its method: "
            "a number, or current, the one that the node runs.",
            rich_help_panel=_CALLS,
        ),
    ] = "current",
    max_connection_age_s: Annotated[
        float,
        typer.Option(
            help="Seconds that a client's connection lives before gRPC renews it; "
            "a process that was replaced stays about that long to forward calls.",
            rich_help_panel=_CALLS,
        ),
    ] = 30.0,
    max_message_mib: Annotated[
        int,
        typer.Option(
            help="The largest message that the node receives, in MiB: a caller's request, or another node's reply. "
            "Clients say the same of their own channels. Give all nodes the same.",
            rich_help_panel=_CALLS,
        ),
    ] = 4,
    park_limit_s: Annotated[
        float,
        typer.Option(
            help="Seconds that a call waits, if its deadline allows, for a version that the node does not answer yet: "
            "so long it has to fetch the release and install the simulation.",
            rich_help_panel=_CALLS,
        ),
    ] = 30.0,
    park_calls: Annotated[
        int,
        typer.Option(
            help="How many calls may wait at once, in a pause or for their version; each takes about 25 KiB besides "
            "its request. More are refused as UNAVAILABLE, and told when to try again.",
            rich_help_panel=_CALLS,
        ),
    ] = 10_000,
    park_mib: Annotated[
        int,
        typer.Option(
            help="How much the requests of waiting calls may hold, all together, in MiB: at least the largest message.",
            rich_help_panel=_CALLS,
        ),
    ] = 64,
    quiesce_timeout_s: Annotated[
        float,
        typer.Option(
            help="Seconds that calls in progress have to end when the node upgrades.", rich_help_panel=_UPGRADES
        ),
    ] = 30.0,
    stream_grace_s: Annotated[
        float,
        typer.Option(
            help="Seconds that streams have to end before the node's pause begins; unary calls are answered meanwhile. "
            "Then they are ended as UNAVAILABLE, and their clients call again.",
            rich_help_panel=_UPGRADES,
        ),
    ] = 10.0,
    drain_limit_s: Annotated[
        float,
        typer.Option(
            help="Seconds that a process which was replaced forwards calls, at most, if connections are renewed by "
            "then (--max-connection-age-s). It leaves before, with its last connection; only a call that does not end "
            "keeps it so long. Then calls have --stream-grace-s to end, and are ended as UNAVAILABLE.",
            rich_help_panel=_UPGRADES,
        ),
    ] = 600.0,
    transform_timeout_s: Annotated[
        float, typer.Option(help="Seconds that a transform may take.", rich_help_panel=_UPGRADES)
    ] = 3600.0,
    transform_memory_mib: Annotated[
        int | None,
        typer.Option(
            help="Memory that each process of a transform may have, in MiB; no limit by default.",
            rich_help_panel=_UPGRADES,
        ),
    ] = None,
    disk_reserve_mib: Annotated[
        int,
        typer.Option(
            help="Room on the disk that an upgrade leaves free beside the new state, in MiB; else it does not begin.",
            rich_help_panel=_UPGRADES,
        ),
    ] = 256,
    retries: Annotated[
        int,
        typer.Option(
            help="How often a release that failed on this node is tried again, later each time (--retry-s); "
            "then it waits for `segue retry` or for the next release.",
            rich_help_panel=_UPGRADES,
        ),
    ] = 3,
    retry_s: Annotated[
        float,
        typer.Option(
            help="Seconds until a release that failed on this node is tried again; twice as many after each "
            "further failure, up to 300.",
            rich_help_panel=_UPGRADES,
        ),
    ] = 5.0,
    probation_s: Annotated[
        float,
        typer.Option(
            help="Seconds after an upgrade in which the end of the new process counts as the release's failure. "
            "As long, the node holds its permit.",
            rich_help_panel=_UPGRADES,
        ),
    ] = 10.0,
    keep_old_s: Annotated[
        float,
        typer.Option(
            help="Seconds that the old version's state is kept after an upgrade; one at most is.",
            rich_help_panel=_UPGRADES,
        ),
    ] = 3600.0,
    index: Annotated[
        str | None,
        typer.Option(
            help="The URL of the package index for what releases require and do not ship; "
            "by default what uv's own settings say.",
            rich_help_panel=_REQUIREMENTS,
        ),
    ] = None,
    offline: Annotated[
        bool,
        typer.Option(
            "--offline",
            help="Install what releases require without any network: from their wheels.",
            rich_help_panel=_REQUIREMENTS,
        ),
    ] = False,
    install_timeout_s: Annotated[
        float,
        typer.Option(
            help="Seconds that the installation of what a release requires may take.", rich_help_panel=_REQUIREMENTS
        ),
    ] = 600.0,
    log_format: Annotated[
        LogFormat,
        typer.Option(help="Logs go to standard error: for people, or a JSON object a line.", rich_help_panel=_LOGS),
    ] = LogFormat.HUMAN,
    log_level: Annotated[
        LogLevel, typer.Option(help="What is logged: this and what is graver.", rich_help_panel=_LOGS)
    ] = LogLevel.INFO,
    metrics: Annotated[
        str | None,
        typer.Option(
            help="Where Prometheus finds the agent's metrics, HOST:PORT such as 127.0.0.1:9100, at /metrics; "
            "nowhere by default. It asks nobody who they are.",
            rich_help_panel=_LOGS,
        ),
    ] = None,
) -> None:
    """Run one node: the application's process, and the agent that upgrades it.

    On an empty state folder the node starts with the newest release. On a folder that it used before it
    goes on where it was, in the middle of an upgrade too. From then on it learns of releases by itself.

    It stays in the foreground, and ends with Ctrl-C or SIGTERM, and the application's process with it: with 0; told
    again, it does not wait for calls. It exits with 1 if somebody must act, as the last line of the log says, with 2
    after a wrong option, and with 70 after a fault of its own. See docs/under-a-supervisor.md, and
    docs/what-happens-when-a-node-upgrades.md.
    """
    with _as_wrong_words():
        settings = NodeSettings(
            server_url=server,
            system=system_name(system),
            class_name=class_name(class_),
            node_id=node_id(name),
            address=advertise or listen[0],
            state=state,
            attributes=dict(_attribute(text) for text in attribute or ()),
            config=_read_config(config) if config else {},
            unlabelled=unlabelled,
            poll_s=poll_s,
            max_connection_age_s=max_connection_age_s,
            max_message_mib=max_message_mib,
            park_limit_s=park_limit_s,
            quiesce_timeout_s=quiesce_timeout_s,
            transform_timeout_s=transform_timeout_s,
            retries=retries,
            retry_s=retry_s,
            probation_s=probation_s,
            keep_old_s=keep_old_s,
            install=InstallSettings(index_url=index, offline=offline, timeout_s=install_timeout_s),
            transform_memory_mib=transform_memory_mib,
            disk_reserve_mib=disk_reserve_mib,
            listen=tuple(listen),
            tls=TlsFiles(cert=tls_cert, key=tls_key, client_ca=tls_client_ca, ca=tls_ca),
            hand_over=hand_over,
            park_calls=park_calls,
            park_mib=park_mib,
            stream_grace_s=stream_grace_s,
            drain_limit_s=drain_limit_s,
            metrics=metrics,
        )
    log = LogSettings(format=log_format, level=log_level, system=settings.system, node=settings.node_id)
    raise typer.Exit(_run(settings, log))


@contextmanager
def _as_wrong_words() -> Iterator[None]:
    """Have a value that no node can have end as a wrong option does: to start again does not mend it."""
    try:
        yield
    except OperatorError as error:
        raise typer.BadParameter(str(error)) from error


def _run(settings: NodeSettings, log: LogSettings) -> int:
    """Be the agent until told to end, and return the exit status.

    Raises:
        SegueError: the agent cannot go on.
    """
    step_aside_as_first_process()
    set_up(log, "agent")
    log.pass_on()
    try:
        with suppress(asyncio.CancelledError):
            asyncio.run(_until_told(settings))
    except SegueError as error:
        if log.format is LogFormat.HUMAN:
            raise
        logger.critical("%s", error)
        return 1
    except Exception:
        logger.critical("the agent ends by a fault of its own; the application goes on", exc_info=True)
        return _OWN_FAULT
    return 0


async def _until_told(settings: NodeSettings) -> None:
    supervisor, loop, task = Supervisor.of_environment(), asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    told_at: list[float] = []

    def end(name: str) -> None:
        # What started us may have passed on a Ctrl-C that the terminal told us as well.
        if told_at and loop.time() - told_at[0] < _SAME_S:
            return
        logger.info("%s: %s", name, "told to end again: waits for no call" if told_at else "told to end")
        told_at.append(loop.time())
        supervisor.stopping()
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number.name)
    loop.add_signal_handler(signal.SIGHUP, logger.info, "SIGHUP: settings are read at the start; it goes on as it is")
    await run_agent(settings, SystemClock(), supervisor)


def _attribute(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals and value):
        raise OperatorError(f"--attribute {text!r}: write NAME=VALUE, such as zone=a")
    return name, value


def _read_config(path: Path) -> dict[str, Any]:
    try:
        settings = tomllib.loads(path.read_text())
        json.dumps(settings)  # they cross to the application's process so
        return settings
    except (OSError, UnicodeDecodeError) as error:
        raise OperatorError(f"--config {path}: {error}") from error
    except TypeError as error:
        raise OperatorError(f"--config {path}: write dates and times as text: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise OperatorError(f"--config {path}: not TOML: {error}") from error
