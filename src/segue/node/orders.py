"""Orders of an operator to a node's agent, given on the machine where it runs.

They come by a Unix socket in the node's run folder. The agent takes an order when it has time for one, and answers it
when it is done; whoever gave it waits meanwhile. Nothing of this is kept: an order that was not taken is gone with the
agent, and one that was goes on as far as the journal has it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, assert_never

from segue.errors import OperatorError, PeerError
from segue.node.control import HostFaultError, HostGoneError, HostSilentError, ask, listen
from segue.node.folders import find_run_folder

#: The agent says itself that the time is over; after this long more it is given up.
_ANSWER_S = 5.0
#: The socket's name in the node's run folder.
SOCKET = "agent.control"


@dataclass(frozen=True, slots=True)
class Restart:
    """Replace the process of the application by a new one of the same version, without a failed call."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Try the release again that the node rejected, gave up, or put off after a failure."""


Order: TypeAlias = Restart | Retry


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The order was carried out.

    Attributes:
        text: what is so now, in one line.
        pid: of the process that serves; None if the order was not about one.
    """

    text: str
    pid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The order was not carried out.

    Attributes:
        reason: why, and what to do, in one line.
    """

    reason: str


Outcome: TypeAlias = Done | Refused


@dataclass(eq=False)
class _Given:
    order: Order
    taken: bool = False
    waiting: int = 0
    outcome: Outcome | None = None
    answered: asyncio.Event = field(default_factory=asyncio.Event)


class Orders:
    """The orders that wait for one agent. An order that is given again while it waits is the same order.

    Args:
        wake: is called when an order has come, so that an agent that rests looks for it.
        where: says in a few words what the agent is at, for those whose order it does not come to.
    """

    def __init__(self, *, wake: Callable[[], None], where: Callable[[], str]) -> None:
        self._wake = wake
        self._where = where
        #: In the order of their coming; one of a kind.
        self._given: dict[type[Order], _Given] = {}

    @asynccontextmanager
    async def listening(self, run: Path) -> AsyncIterator[None]:
        """Take orders at the socket in the node's run folder for the time of the block."""
        server = await listen(run / SOCKET, self._answer)
        try:
            yield
        finally:
            server.close()

    def take(self) -> Order | None:
        """Return the order that has waited longest, which is to be answered then; None if none waits."""
        for given in self._given.values():
            if not given.taken:
                given.taken = True
                return given.order
        return None

    def answer(self, order: Order, outcome: Outcome) -> None:
        """Tell those who gave the order that was taken what became of it."""
        given = self._given.pop(type(order))
        given.outcome = outcome
        given.answered.set()

    async def _answer(self, question: str, arguments: dict[str, Any]) -> dict[str, Any]:
        match question:
            case "restart":
                return await self._give(Restart(), arguments["timeout_s"])
            case "retry":
                return await self._give(Retry(), arguments["timeout_s"])
            case _:
                raise PeerError(f"the agent knows no order {question!r}: it may be of an older Segue; start it anew")

    async def _give(self, order: Order, timeout_s: float) -> dict[str, Any]:
        given = self._given.setdefault(type(order), _Given(order))
        given.waiting += 1
        self._wake()
        try:
            async with asyncio.timeout(timeout_s):
                await given.answered.wait()
        except TimeoutError:
            if given.taken:
                return {"late": f"it is at it ({self._where()}): order it again to hear how it ends"}
            return {"late": f"it did not come to it ({self._where()}), and it is withdrawn: order it later"}
        finally:
            given.waiting -= 1
            if not given.waiting and not given.taken and self._given.get(type(order)) is given:
                del self._given[type(order)]
        match given.outcome:
            case Done(text=text, pid=pid):
                return {"done": text, "pid": pid}
            case Refused(reason=reason):
                return {"refused": reason}
            case None:
                raise AssertionError("an order was answered without an outcome")
            case _:
                assert_never(given.outcome)

    def __repr__(self) -> str:
        waiting = ", ".join(f"{given.order}{' taken' * given.taken}" for given in self._given.values())
        return f"Orders({waiting})"


async def give_order(state: Path, order: Order, *, timeout_s: float) -> Done:
    """Have the agent of the node at `state` carry out an order, and return how it went.

    Args:
        state: the node's state folder.
        order: what the agent is to do.
        timeout_s: seconds to wait; an order that the agent has not come to by then is withdrawn.

    Raises:
        OperatorError: it is no node's folder, no agent runs there, or the agent refused.
        PeerError: the agent was not done in time, or ended meanwhile.
    """
    name = type(order).__name__.lower()
    socket = find_run_folder(state) / SOCKET
    try:
        answer = await ask(socket, name, wait_s=timeout_s + _ANSWER_S, timeout_s=timeout_s)
    except HostGoneError as error:
        match error.__cause__:
            case PermissionError():
                raise OperatorError(f"the agent of {state} is another user's: give the order as that user") from error
            case FileNotFoundError() | ConnectionRefusedError():
                raise OperatorError(f"no agent runs on {state}: start it with `segue node`") from error
            case _:
                raise PeerError(f"the agent of {state} ended before it had answered: see its log") from error
    except HostSilentError as error:
        raise PeerError(f"the agent of {state} does not answer: see its log") from error
    except HostFaultError as error:
        raise PeerError(str(error)) from error
    if "refused" in answer:
        raise OperatorError(answer["refused"])
    if "late" in answer:
        raise PeerError(f"the agent was not done within {timeout_s:g} s: {answer['late']}")
    return Done(text=answer["done"], pid=answer["pid"])
