"""The context that plain functions get, which is `grpc.ServicerContext` over a context of the event loop."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Never

import grpc

from segue.layer.grpc_abort import AbortError
from segue.layer.grpc_context import Context
from segue.layer.threads.grpc_bridge import Bridge, CallOverError


class SyncContext(grpc.ServicerContext):
    """A context for authors' plain functions, which run in threads.

    What gRPC's own context answers at once is asked of it from the thread, as gRPC itself does for
    plain functions; what waits, waits in the loop.

    Args:
        below: the call's context in the event loop.
        bridge: of the call; None if a thread calls a delegate without being in a call.

    Attributes:
        below: the call's context in the event loop.
        bridge: of the call.
    """

    def __init__(self, below: Context, bridge: Bridge | None) -> None:
        self.below = below
        self.bridge = bridge
        self._is_cancelled = False

    def is_active(self) -> bool:
        """Return whether somebody still waits for the call."""
        return not ((self.bridge is not None and self.bridge.is_over) or self.below.done())

    def time_remaining(self) -> Any:
        """Return seconds until the caller's deadline, None without one."""
        return self.below.time_remaining()

    def cancel(self) -> bool:
        """End the call with CANCELLED once the method has returned, if it is active; what waits ends now."""
        if not self.is_active():
            return False
        self._is_cancelled = True
        if self.bridge is not None:
            self.bridge.tell(self.bridge.end)
        return True

    def raise_if_cancelled(self) -> None:
        """Give the call up if `cancel` was called.

        Raises:
            AbortError: it was.
        """
        if self._is_cancelled:
            raise AbortError(grpc.StatusCode.CANCELLED, "cancelled by the server")

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Have `callback` called in a thread when the call is over; return False if it is already."""
        if self.bridge is None or self.below.done() or not self.bridge.add_callback(callback):
            return False
        call_back: Any = self._call_back
        self.bridge.tell(self.below.add_done_callback, call_back)
        return True

    def _call_back(self, _: object) -> None:
        if self.bridge is not None:
            self.bridge.call_back()

    def send_initial_metadata(self, initial_metadata: Any) -> None:
        """Send the initial metadata now."""
        if self.bridge is None:
            raise CallOverError("there is no call here: no metadata can be sent")
        self.bridge.wait(partial(self.below.send_initial_metadata, tuple(initial_metadata)))

    def set_trailing_metadata(self, trailing_metadata: Any) -> None:
        """Set what is sent with the status."""
        self.below.set_trailing_metadata(tuple(trailing_metadata))

    def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> Never:
        """End the call with a status that is not OK, unless a simulation catches this and answers otherwise.

        Raises:
            AbortError: always.
        """
        raise AbortError(code, details or self.details() or "", trailing_metadata)

    def abort_with_status(self, status: grpc.Status) -> Never:
        """End the call with a status that is not OK, unless a simulation catches this and answers otherwise.

        Raises:
            AbortError: always.
        """
        raise AbortError(status.code, status.details or "", status.trailing_metadata)

    def invocation_metadata(self) -> Any:
        """Return what the caller sent, the label included."""
        return self.below.invocation_metadata()

    def set_code(self, code: grpc.StatusCode) -> None:
        """Set the status that is sent at the end."""
        self.below.set_code(code)

    def set_details(self, details: str) -> None:
        """Set the text that is sent with the status."""
        self.below.set_details(details)

    def set_compression(self, compression: grpc.Compression) -> None:
        """Compress what is sent."""
        self.below.set_compression(compression)

    def disable_next_message_compression(self) -> None:
        """Send the next message as it is."""
        self.below.disable_next_message_compression()

    def peer(self) -> str:
        """Return the caller's address."""
        return self.below.peer()

    def peer_identities(self) -> Iterable[bytes] | None:
        """Return who the caller has shown to be."""
        return self.below.peer_identities()

    def peer_identity_key(self) -> str | None:
        """Return by which property the caller has shown who it is."""
        return self.below.peer_identity_key()

    def auth_context(self) -> Mapping[str, Any]:
        """Return what is known of the connection's ends."""
        return self.below.auth_context()

    def trailing_metadata(self) -> Any:
        """Return what will be sent with the status."""
        return self.below.trailing_metadata()

    def code(self) -> Any:
        """Return the status that was set, None if none was."""
        return self.below.code()

    def details(self) -> Any:
        """Return the text that will be sent with the status."""
        return self.below.details()
