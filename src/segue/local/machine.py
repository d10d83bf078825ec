"""What is asked of this machine: its ports, processes, folders and logs."""

import asyncio
import os
import random
import signal
import socket
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from segue.errors import SegueError
from segue.model.address import split_address

#: Below the ports that the system gives to outgoing connections, one of which could otherwise have ours.
_PORTS = range(18_000, 32_000)


def free_ports(count: int) -> Sequence[int]:
    """Return `count` loopback ports that nobody listens on at this moment.

    Raises:
        SegueError: there are not that many.
    """
    found: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        if len(found) == count:
            break
        if _can_listen(port):
            found.append(port)
    if len(found) < count:
        raise SegueError(f"there are no {count} free ports from {_PORTS.start} to {_PORTS.stop - 1} on 127.0.0.1")
    return found


def _can_listen(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


async def accepts(address: str) -> bool:
    """Say whether somebody takes connections at `address`, HOST:PORT."""
    host, port = split_address(address)
    try:
        _, writer = await asyncio.open_connection(host, port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


def is_alive(pid: int) -> bool:
    """Say whether there is a process of that id that runs or waits to be reaped."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def has_members(group: int) -> bool:
    """Say whether a process of ours is in the process group; without one, its id may soon be somebody else's."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def kill_group(group: int) -> None:
    """Kill all processes of a group, if there are any."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def runtime_folder() -> str | None:
    """Return this user's folder for sockets; None where there is none, as in containers and after `su`."""
    folder = Path(os.environ.get("XDG_RUNTIME_DIR", ""))
    return str(folder) if folder.is_absolute() and folder.is_dir() and os.access(folder, os.W_OK | os.X_OK) else None


def last_line(log: Path) -> str:
    """Return the last line of `log` that says something."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"it said nothing in {log}"
