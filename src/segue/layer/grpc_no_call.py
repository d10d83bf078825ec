"""The context of a method that a simulation calls where there is no call, as in its `start()`."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import grpc
import grpc.aio

from segue.layer.grpc_context import AuthorContext, Context


class _NoCall:
    """Stands where gRPC's own context would be; what is set is kept, and goes nowhere."""

    def __init__(self) -> None:
        self._code: grpc.StatusCode | None = None
        self._details = ""
        self._trailing_metadata: tuple[Any, ...] = ()

    async def read(self) -> Any:
        return grpc.aio.EOF

    async def write(self, _: Any) -> None:
        raise grpc.aio.UsageError("there is no call here: nobody reads what is written")

    async def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Nobody is there to get it."""

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        self._trailing_metadata = tuple(trailing_metadata)

    def trailing_metadata(self) -> tuple[Any, ...]:
        return self._trailing_metadata

    def invocation_metadata(self) -> tuple[Any, ...]:
        return ()

    def set_code(self, code: grpc.StatusCode) -> None:
        self._code = code

    def code(self) -> grpc.StatusCode | None:
        return self._code

    def set_details(self, details: str) -> None:
        self._details = details

    def details(self) -> str:
        return self._details

    def set_compression(self, compression: grpc.Compression) -> None:
        """Nothing is sent."""

    def disable_next_message_compression(self) -> None:
        """Nothing is sent."""

    def peer(self) -> str:
        return ""

    def peer_identities(self) -> Iterable[bytes] | None:
        return None

    def peer_identity_key(self) -> str | None:
        return None

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        return {}

    def time_remaining(self) -> None:
        return None

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """No call will end."""

    def cancelled(self) -> bool:
        return False

    def done(self) -> bool:
        return False


def no_call() -> AuthorContext:
    """Return a context that says of everything that there is none: no metadata, no deadline, no peer.

    To abort raises, as ever; a code that is set is kept, to be read.
    """
    return AuthorContext(cast(Context, _NoCall()))
