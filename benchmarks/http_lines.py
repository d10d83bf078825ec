"""A client of HTTP that costs little: many connections that stay open, one request at a time on each.

What is measured is a server, so its client must not be what is waited for: it knows just what it needs of HTTP/1.1.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered: the status, and the body."""

    status: int
    body: bytes


class Line:
    """One connection. Made by `open_line`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, request: bytes) -> Answer:
        """Send a request, and return what is answered.

        Args:
            request: all of it, as `post` makes it.

        Raises:
            ConnectionError: the server has closed the connection.
        """
        self._writer.write(request)
        try:
            head = await self._reader.readuntil(_END)
            status = int(head[9:12])
            at = head.lower().find(_LENGTH)
            length = int(head[at + len(_LENGTH) : head.index(b"\r", at)]) if at >= 0 else 0
            return Answer(status, await self._reader.readexactly(length))
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("the server has closed the connection") from error

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()


@asynccontextmanager
async def open_line(host: str, port: int) -> AsyncIterator[Line]:
    """Open a connection for the time of the context."""
    line = Line(*await asyncio.open_connection(host, port))
    try:
        yield line
    finally:
        line.close()


def post(path: str, body: bytes) -> bytes:
    """Return a request that posts JSON."""
    kind, length = "content-type: application/json", f"content-length: {len(body)}"
    return "\r\n".join((f"POST {path} HTTP/1.1", "host: 127.0.0.1", kind, length, "", "")).encode() + body
