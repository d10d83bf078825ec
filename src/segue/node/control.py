"""How the agent speaks to an application's process: one question and one answer a connection.

Lines of JSON over a Unix socket in a folder that only the node's user can open. A process that dies
closes its connections, so a question that is left open also tells of the other end's death.
"""

import asyncio
import json
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeAlias

from segue.errors import PeerError, SegueError

#: What answers a question: takes its name and its arguments, returns what crosses as JSON.
Answer: TypeAlias = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]

#: A line holds counts of calls, or a traceback: far below this.
LINE_LIMIT_BYTES = 16 * 2**20


class HostError(SegueError):
    """The application's process answered that it could not.

    Args:
        message: one line.
        details: the traceback of what happened there, for the log; may be empty.
    """

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


async def ask(socket: Path, question: str, *, wait_s: float | None, **arguments: Any) -> dict[str, Any]:
    """Ask the process that listens on `socket`, and return its answer.

    Args:
        socket: the process's control socket.
        question: what is asked, a name that the process knows.
        wait_s: seconds to wait for the answer; None for a question that is answered when something happens.
        arguments: what crosses as JSON.

    Raises:
        HostError: the process could not do it; the message is what it says.
        PeerError: no process answers: it is not there, it died, or the time is over.
    """
    try:
        async with asyncio.timeout(wait_s):
            reader, writer = await asyncio.open_unix_connection(str(socket), limit=LINE_LIMIT_BYTES)
            try:
                writer.write(json.dumps({"ask": question, **arguments}).encode() + b"\n")
                await writer.drain()
                line = await reader.readline()
            finally:
                writer.close()
    except TimeoutError:
        raise PeerError(f"the application's process did not answer {question!r} within {wait_s} s") from None
    except OSError as error:
        raise PeerError(f"the application's process cannot be asked {question!r}: {error}") from error
    if not line.endswith(b"\n"):
        raise PeerError(f"the application's process ended while it was asked {question!r}")
    reply = json.loads(line)
    if "error" in reply:
        raise HostError(reply["error"], reply["details"])
    answer: dict[str, Any] = reply["answer"]
    return answer


async def listen(socket: Path, answer: Answer) -> asyncio.Server:
    """Answer questions that come to `socket`, taking the place of a process that died.

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

    socket.unlink(missing_ok=True)
    return await asyncio.start_unix_server(converse, str(socket), limit=LINE_LIMIT_BYTES)


async def _reply(answer: Answer, question: str, arguments: dict[str, Any]) -> dict[str, Any]:
    try:
        return {"answer": await answer(question, arguments)}
    except Exception as error:
        # Whatever the author's code raises must reach the agent as an answer, never as silence.
        return {"error": one_line(error), "details": traceback.format_exc()}


def one_line(error: BaseException) -> str:
    """Say what `error` is in one line: our own errors by their message, others with their type first."""
    text = " ".join(str(error).split())
    return text if isinstance(error, SegueError) and text else f"{type(error).__name__}: {text}".rstrip(": ")
