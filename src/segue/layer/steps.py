"""Steps: a call and the observers and interceptors that it triggers, as one towards other calls of its chain.

Here is who may go in when, and how a step learns that it waits for another node. What a call reads and
writes is known where calls are answered; which calls go to nodes, where channels are made.

Source: docs/decisions/0014.
"""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any, Protocol

from segue.layer.chain import Place


class Step:
    """One call's stay in a chain; `Steps` makes it.

    Attributes:
        reads: simulations that the call passes through, and that must not be told of another call meanwhile.
        writes: simulations that are told of the call.
        from_node: whether a node calls.
        away: calls to nodes that the step has open. While there is one, it waits for another node.
    """

    __slots__ = ("_steps", "away", "from_node", "reads", "writes")

    def __init__(self, steps: "Steps", reads: frozenset[Place], writes: frozenset[Place], from_node: bool) -> None:
        self._steps = steps
        self.reads = reads
        self.writes = writes
        self.from_node = from_node
        self.away = 0

    @property
    def claims_anything(self) -> bool:
        """Whether it is inside and reads or writes: all that may follow from it is claimed."""
        return bool(self.reads or self.writes) and self in self._steps._inside

    def leave_for_node(self) -> None:
        """Say that a call to a node was begun. Nothing comes of it if the step has ended."""
        self.away += 1
        if self.away == 1:
            self._steps._went_away(self)

    def back_from_node(self) -> None:
        """Say that a call to a node is over. Nothing comes of it if the step has ended."""
        self.away -= 1
        if self.away == 0:
            self._steps._came_back(self)

    def __repr__(self) -> str:
        caller = "node" if self.from_node else "client"
        return f"Step({caller}, reads {_listed(self.reads)}, writes {_listed(self.writes)}{', away' * bool(self.away)})"


class Steps:
    """Lets the calls of one chain in so that none sees another's step half done.

    Two steps conflict if one writes what the other reads or writes; those that do not run together. A step
    gets all that it reads and writes at once, or waits and has nothing. It waits for each conflicting step
    inside, and behind each conflicting call that came before it, so that nobody starves. A call from a node,
    though, never waits for a step that is away, nor behind a client's call that such a step holds up.

    So nodes do not wait for each other in a circle. Say that a step inside that is not away ends or goes away
    by itself, and look at nodes where nothing moves: all steps inside are away. The first waiting call that
    no away step holds up has then nothing left to wait for, so there is none: in particular no call from a
    node waits. Hence what an away step waits for is inside, and away in turn, and so on without end; but
    calls that wait for calls that they made are finitely many. So no step is inside, and nobody waits.

    It belongs to one event loop. Only `begin` awaits, so what the other methods read is what they change.
    """

    def __init__(self) -> None:
        self._inside: dict[Step, None] = {}
        #: What the steps inside claim: those at work here, and those that wait for another node.
        self._here = _Claims()
        self._away = _Claims()
        #: {step: done when it has gone in}, in the order in which they came.
        self._waiting: dict[Step, asyncio.Future[None]] = {}
        #: All that is claimed by those waiting, and may be more.
        self._wanted: set[Place] = set()

    def try_begin(self, reads: frozenset[Place], writes: frozenset[Place], from_node: bool) -> Step | None:
        """Begin a step if it can be begun at once; else return None, and leave no trace.

        Args:
            reads: simulations that the call passes through.
            writes: simulations that are told of the call.
            from_node: whether a node calls.
        """
        step = Step(self, reads, writes, from_node)
        if not self._is_free(step, self._let_in() if self._waiting else _NOBODY):
            return None
        self._go_in(step)
        return step

    async def begin(self, reads: frozenset[Place], writes: frozenset[Place], from_node: bool) -> Step:
        """Begin a step as soon as it may be begun; `end` ends it.

        Once for each call, for all of it: a step that begins another waits for itself. If it is
        cancelled, it was never here.

        Args:
            reads: simulations that the call passes through.
            writes: simulations that are told of the call.
            from_node: whether a node calls.
        """
        at_once = self.try_begin(reads, writes, from_node)
        if at_once is not None:
            return at_once
        step = Step(self, reads, writes, from_node)
        went_in: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[step] = went_in
        self._wanted |= reads | writes
        try:
            await went_in
        except asyncio.CancelledError:
            if step in self._inside:  # it went in, and was cancelled before it heard of that
                self.end(step)
            else:
                self._no_longer_waits(step)
                self._let_in()
            raise
        return step

    def end(self, step: Step) -> None:
        """End a step, even one that is away, and let in those that it held up.

        Raises:
            AssertionError: it is not inside.
        """
        assert step in self._inside, f"{step} is not inside {self}"
        del self._inside[step]
        (self._away if step.away else self._here).remove(step)
        self._let_in()

    def _went_away(self, step: Step) -> None:
        if step in self._inside:
            self._here.remove(step)
            self._away.add(step)
            self._let_in()

    def _came_back(self, step: Step) -> None:
        if step in self._inside:  # nobody goes in for that
            self._away.remove(step)
            self._here.add(step)

    def _let_in(self) -> "_Ahead":
        """Let in, in the order in which they came, those who may go in, and say who still waits."""
        ahead = _Ahead()
        free: list[Step] = []
        for step, went_in in self._waiting.items():
            if went_in.cancelled():  # its task is about to learn of it
                continue
            if self._is_free(step, ahead):
                self._go_in(step)
                free.append(step)
                went_in.set_result(None)
            elif not step.from_node and (self._away.conflict(step) or ahead.held.conflict(step)):
                ahead.held.add(step)
            else:
                ahead.unheld.add(step)
                if ahead.unheld.writes_all(self._wanted):  # nobody further back can go in: a long queue costs nothing
                    break
        for step in free:
            self._no_longer_waits(step)
        return ahead

    def _is_free(self, step: Step, ahead: "_Ahead") -> bool:
        if self._here.conflict(step) or ahead.unheld.conflict(step):
            return False
        return step.from_node or not (self._away.conflict(step) or ahead.held.conflict(step))

    def _go_in(self, step: Step) -> None:
        self._inside[step] = None
        self._here.add(step)

    def _no_longer_waits(self, step: Step) -> None:
        del self._waiting[step]
        if not self._waiting:
            self._wanted.clear()

    def __repr__(self) -> str:
        return f"Steps(inside {list(self._inside)}, waiting {list(self._waiting)})"


class _Claims:
    """What a group of steps reads and writes: `{place: steps}`, without zeros."""

    __slots__ = ("_reads", "_writes")

    def __init__(self) -> None:
        self._reads: dict[Place, int] = {}
        self._writes: dict[Place, int] = {}

    def add(self, step: Step) -> None:
        for counts, places in ((self._reads, step.reads), (self._writes, step.writes)):
            for place in places:
                counts[place] = counts.get(place, 0) + 1

    def remove(self, step: Step) -> None:
        for counts, places in ((self._reads, step.reads), (self._writes, step.writes)):
            for place in places:
                counts[place] -= 1
                if not counts[place]:
                    del counts[place]

    def conflict(self, step: Step) -> bool:
        """Say whether a step conflicts with one of the group."""
        return not (
            step.reads.isdisjoint(self._writes)
            and step.writes.isdisjoint(self._writes)
            and step.writes.isdisjoint(self._reads)
        )

    def writes_all(self, places: set[Place]) -> bool:
        return self._writes.keys() >= places


class _Ahead:
    """What those who wait claim, by whether a step that is away holds them up, directly or through others."""

    __slots__ = ("held", "unheld")

    def __init__(self) -> None:
        self.held = _Claims()
        self.unheld = _Claims()


_NOBODY = _Ahead()

#: The step that the running code is part of; tasks that it starts are part of it, too.
current_step: ContextVar[Step | None] = ContextVar("segue_current_step", default=None)


def current() -> Step | None:
    """Return the step that the running code is part of; it may have ended."""
    return current_step.get()


def enter(step: Step) -> Token[Step | None]:
    """Make the code that runs from here on part of `step`, until `leave`."""
    return current_step.set(step)


def leave(token: Token[Step | None]) -> None:
    """Undo `enter`, in the task that called it."""
    current_step.reset(token)


class Call(Protocol):
    """A call to a node: gRPC's call objects of all kinds, and asyncio's tasks."""

    def add_done_callback(self, callback: Callable[[Any], None], /) -> None:
        """Have `callback` called when the call is over, however it ended; at once or soon if it is."""


def note_call(call: Call) -> None:
    """Let the current step, if there is one, be away until `call` is over.

    Who awaits the call is not asked: a step counts as away while a task that it started calls a node.
    """
    step = current_step.get()
    if step is not None:
        step.leave_for_node()
        call.add_done_callback(lambda _: step.back_from_node())


def _listed(places: frozenset[Place]) -> str:
    return "{" + ", ".join(map(str, sorted(places))) + "}"
