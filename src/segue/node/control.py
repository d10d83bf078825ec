"""How the agent speaks to an application's process: one question and one answer a connection.

Lines of JSON over a Unix socket in a folder that only the node's user can open. A process that dies
closes its connections, so a question that is left open also tells of the other end's death.
"""

import asyncio
import fcntl
import json
import logging
import socket
import struct
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any, TypeAlias

from segue.errors import PeerError, ReleaseError, SegueError, is_passing

logger = logging.getLogger(__name__)

#: What answers a question: takes its name and its arguments, returns what crosses as JSON.
Answer: TypeAlias = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]

#: A line holds counts of calls, or a traceback: far below this.
LINE_LIMIT_BYTES = 16 * 2**20
#: For a process that was started for an agent which is no more to end: it does so as soon as it has come up.
_HELD_S = 5.0
_LOOK_S = 0.02
#: Of a traceback, so many characters are kept and reported.
_DETAILS_LIMIT = 16_000


class AuthorCodeError(ReleaseError):
    """The release's own code failed, in the application's process or in that of a transform.

    Args:
        message: one line.
        details: the traceback of what happened there, for the log.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class HostFaultError(PeerError):
    """The application's process, or that of a transform, could not, and the release is not to blame.

    Args:
        message: one line.
        details: the traceback of what happened there, for the log.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class HostGoneError(PeerError):
    """No process answers: there is none, or it died before it had answered."""


class HostSilentError(PeerError):
    """The process did not answer in time: it lives, and may still be doing what it was asked."""


async def ask(path: Path, question: str, *, wait_s: float | None, **arguments: Any) -> dict[str, Any]:
    """Ask the process that listens on the Unix socket at `path`, and return its answer.

    Args:
        path: the process's control socket.
        question: what is asked, a name that the process knows.
        wait_s: seconds to wait for the answer; None for a question that is answered when something happens.
        arguments: what crosses as JSON.

    Raises:
        AuthorCodeError: the release's code failed in it.
        HostFaultError: it could not, for another reason.
        HostGoneError: there is no process, or it died.
        HostSilentError: the time is over; it may still be at it.
    """
    try:
        async with asyncio.timeout(wait_s):
            reader, writer = await asyncio.open_unix_connection(str(path), limit=LINE_LIMIT_BYTES)
            try:
                writer.write(json.dumps({"ask": question, **arguments}).encode() + b"\n")
                await writer.drain()
                line = await reader.readline()
            finally:
                writer.close()
    except TimeoutError:
        raise HostSilentError(f"the application's process did not answer {question!r} within {wait_s} s") from None
    except OSError as error:
        raise HostGoneError(f"the application's process cannot be asked {question!r}: {error}") from error
    if not line.endswith(b"\n"):
        raise HostGoneError(f"the application's process ended while it was asked {question!r}")
    reply = json.loads(line)
    if "error" in reply:
        kind = AuthorCodeError if reply["author"] else HostFaultError
        raise kind(reply["error"], reply["details"])
    answer: dict[str, Any] = reply["answer"]
    return answer


@asynccontextmanager
async def holding(path: Path) -> AsyncIterator[None]:
    """Be the only process that may listen at `path`, for the time of the block; to be entered before `listen`.

    A process whose agent was killed while it came up may be there after the one that the next agent started in its
    stead, and would put that one out of reach.

    Raises:
        PeerError: another process has it, and keeps it.
    """
    # The kernel gives it up with the process, and does not pass it on to what that forks: hence lockf, not flock.
    with path.with_suffix(".lock").open("w") as lock:
        try:
            async with asyncio.timeout(_HELD_S):
                while not _try_lock(lock):  # noqa: ASYNC110 - the kernel does not tell
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            raise PeerError(f"another process of the node listens at {path}, and does not end") from None
        yield


def _try_lock(lock: IO[str]) -> bool:
    try:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


async def listen(path: Path, answer: Answer) -> asyncio.Server:
    """Answer questions that come to the Unix socket at `path`, taking the place of a process that died.

    Returns:
        The server, listening; whoever asked for it closes it.
    """

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            arguments = json.loads(await reader.readline())
            reply = await _reply(answer, arguments.pop("ask"), arguments)
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        except (OSError, ValueError):
            pass  # the agent went away in the middle; it asks again
        except asyncio.CancelledError:
            pass  # this process ends; the agent sees that by the closed connection
        finally:
            writer.close()

    path.unlink(missing_ok=True)
    return await asyncio.start_unix_server(converse, str(path), limit=LINE_LIMIT_BYTES)


async def _reply(answer: Answer, question: str, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"answer": await answer(question, arguments)}
    except Exception as error:
        # Whatever is raised must reach the agent as an answer, never as silence.
        return {"error": one_line(error), "author": not is_passing(error), "details": traceback.format_exc()}


def peer_pid(path: Path) -> int | None:
    """Return the id of the process that listens on the Unix socket at `path`, however busy it is; None if none does."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return None
        pid: int
        pid, _, _ = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
        return pid


def reason_of(error: Exception) -> str:
    """Log what is behind `error`, and return it in one line."""
    details = getattr(error, "details", "")
    logger.error("%s%s", error, f"\n{details}" if details else "")
    return one_line(error)


def details_of(error: Exception) -> str:
    """Return the end of the traceback in the process that failed, as any encoding takes it; "" if there is none."""
    details: str = getattr(error, "details", "")
    return details.encode("utf-8", "backslashreplace").decode()[-_DETAILS_LIMIT:]


def one_line(error: BaseException) -> str:
    """Say what `error` is in one line that any encoding takes: ours by their message, others with their type first."""
    text = " ".join(str(error).split()).encode("utf-8", "backslashreplace").decode()
    return text if isinstance(error, SegueError) and text else f"{type(error).__name__}: {text}".rstrip(": ")
