"""What an object that gives a call up raises, and how that becomes the call's status."""

from typing import Any, Never

import grpc
import grpc.aio

#: {number on the wire: status}
_STATUSES: dict[object, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


class AbortError(grpc.aio.AbortError):
    """An object ended the call with a status that is not OK, by `context.abort`.

    Nothing has been sent when it is raised: a simulation may catch what its delegate aborts with, and answer
    otherwise. If nobody catches it, the caller gets its status. It is read like the errors that channels raise.

    Args:
        code: the status, or its number; OK becomes UNKNOWN, as in gRPC.
        details: the text that is sent with the status.
        trailing_metadata: what is sent with the status; if empty, what was set in the context is.
    """

    def __init__(self, code: grpc.StatusCode | int, details: str = "", trailing_metadata: Any = ()) -> None:
        status = status_of(code)
        self._code = grpc.StatusCode.UNKNOWN if status is grpc.StatusCode.OK else status
        self._details = details
        self._trailing_metadata: tuple[tuple[str, str | bytes], ...] = tuple(trailing_metadata or ())
        super().__init__(f"{self._code.name}: {details}")

    def code(self) -> grpc.StatusCode:
        """Return the status."""
        return self._code

    def details(self) -> str:
        """Return the text that is sent with the status."""
        return self._details

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """Return what is sent with the status; if empty, what was set in the context is."""
        return self._trailing_metadata


def status_of(code: object) -> grpc.StatusCode:
    """Return a status, which gRPC takes as its enumeration's member or as its number."""
    return code if isinstance(code, grpc.StatusCode) else _STATUSES.get(code, grpc.StatusCode.UNKNOWN)


async def send(aborted: AbortError, context: "grpc.aio.ServicerContext[Any, Any]") -> Never:
    """End the call with the status that an object aborted with, once nobody caught it.

    Args:
        aborted: what came out of the object.
        context: gRPC's own.

    Raises:
        grpc.aio.AbortError: always, as gRPC's `context.abort` does.
    """
    await context.abort(aborted.code(), aborted.details(), aborted.trailing_metadata())
