"""A call's stay somewhere, which can be ended before the call would end by itself."""

import asyncio
from types import TracebackType
from typing import Any, TypeAlias

#: The stays at one place; each adds itself when it begins, and takes itself out when it is over.
Stays: TypeAlias = "set[Stay]"


class EndedError(Exception):
    """A stay was ended: the caller is to be told so, whatever its method made of it."""


class Stay:
    """A stay of the call that the running task serves; a context manager.

    Args:
        stays: where it stays.
        method: the call's, by its path.

    Raises:
        EndedError: on leaving, if it was ended and nobody else cancelled the task; whatever was at work inside has
            ended by then.
    """

    __slots__ = ("_cancels", "_is_held", "_stays", "_task", "ended", "is_settled", "method")

    def __init__(self, stays: Stays, method: str) -> None:
        self._stays = stays
        self.method = method
        #: Whether it was ended.
        self.ended = False
        #: Whether it has come so far that it cannot begin anew elsewhere.
        self.is_settled = False
        self._is_held = False
        self._cancels = 0

    def __enter__(self) -> "Stay":
        task: asyncio.Task[Any] | None = asyncio.current_task()
        assert task is not None, "a call is served in a task"
        self._task = task
        self._stays.add(self)
        return self

    def end(self) -> None:
        """Cancel what is at work inside; what it raises or returns instead is not heard.

        If it is held, as soon as it is not any more. Where it was ended already, it is cancelled again only if it
        was held: what cleans up is not disturbed.
        """
        again, self.ended = self.ended, True
        if not self._cancels and (again or not self._is_held):
            self._cancel()

    def hold(self) -> None:
        """Have it not cancelled until `release`, unless it is ended twice."""
        self._is_held = True

    def release(self) -> None:
        """Have it cancelled if it is ended, or was meanwhile."""
        self._is_held = False
        if self.ended and not self._cancels:
            # Not from within the task itself: it would be cancelled at its next await, inside or after.
            self._task.get_loop().call_soon(self._cancel)

    def _cancel(self) -> None:
        if self in self._stays and not self._cancels:  # it may have been ended again since that was asked for
            self._cancels += 1
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stays.discard(self)
        if not self.ended:
            return
        others = self._task.uncancel() if self._cancels else self._task.cancelling()
        if others and isinstance(error, asyncio.CancelledError):
            return  # its caller has given up as well
        if error is None or isinstance(error, asyncio.CancelledError | Exception):
            raise EndedError from error

    def __repr__(self) -> str:
        return f"Stay({self.method}, {'ended' if self.ended else 'begun'})"


def end_all(stays: Stays) -> None:
    """End all that stay."""
    for stay in tuple(stays):
        stay.end()
