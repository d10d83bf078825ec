"""Gates: where calls go in to the objects of a chain and come out, and can be held back."""

import asyncio
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from segue.layer.stay import Stays, end_all


class Gate:
    """Lets the calls of one kind of caller in to one chain's objects, and knows how many are inside.

    `enter` and `leave` never await, so what they read is what they change.

    Attributes:
        is_open: whether calls may go in.
        inside: calls that went in and have not come out.
        stays: those of them that can be ended: the streaming ones.
    """

    def __init__(self) -> None:
        self.is_open = True
        self.inside = 0
        self.stays: Stays = set()
        self._emptied = asyncio.Event()

    def enter(self) -> bool:
        """Go in, and return True; or return False because the gate is closed."""
        if not self.is_open:
            return False
        self.inside += 1
        return True

    def leave(self) -> None:
        """Come out."""
        self.inside -= 1
        if not self.inside:
            self._emptied.set()

    def open(self) -> None:
        """Let calls in."""
        self.is_open = True

    def close(self) -> None:
        """Let no more calls in; those inside go on."""
        self.is_open = False

    async def emptied(self) -> None:
        """Return once nobody is inside."""
        while self.inside:
            self._emptied.clear()
            await self._emptied.wait()

    def __repr__(self) -> str:
        return f"Gate({'open' if self.is_open else 'closed'}, {self.inside} inside)"


class Pair(NamedTuple):
    """The gates to one chain's objects for one kind of caller.

    Attributes:
        unary: of unary calls.
        streams: of streaming calls that simulations answer.
        own: of streaming calls that the current object answers, which come to no simulation.
    """

    unary: Gate
    streams: Gate
    own: Gate

    @property
    def inside(self) -> int:
        """Calls that are inside, of all kinds."""
        return sum(gate.inside for gate in self)


def new_pair() -> Pair:
    """Return a pair of open gates that nobody has passed."""
    return Pair(Gate(), Gate(), Gate())


class Gates:
    """The gates of the chain that is shown, and those of the chains before it while calls are inside.

    Attributes:
        is_open: whether calls of all kinds may go in.
    """

    def __init__(self) -> None:
        self.is_open = True
        self._pair = new_pair()
        self._replaced: list[Pair] = []

    @property
    def inside(self) -> int:
        """Calls that went in through any of the gates and have not come out."""
        return self._pair.inside + sum(pair.inside for pair in self._replaced)

    @property
    def streams_inside(self) -> int:
        """The streaming ones of them."""
        return sum(gate.inside for gate in self._streams())

    @property
    def lets_any_in(self) -> bool:
        """Whether calls of some kind may go in."""
        return any(gate.is_open for gate in self._pair)

    def replace(self, pair: Pair) -> None:
        """Let calls in through `pair` from now on, if they may go in at all; those that are inside go on."""
        for new, old in zip(pair, self._pair, strict=True):
            new.is_open = old.is_open
            old.close()
        self._replaced = [old for old in (*self._replaced, self._pair) if old.inside]
        self._pair = pair

    def open(self) -> None:
        """Let calls in."""
        self.is_open = True
        for gate in self._pair:
            gate.open()

    def close(self) -> None:
        """Let no more calls in; those inside go on."""
        self.is_open = False
        for gate in self._pair:
            gate.close()

    def open_to_streams(self) -> None:
        """Let streaming calls in."""
        self._pair.streams.open()
        self._pair.own.open()
        self.is_open = self._pair.unary.is_open

    def close_to_streams(self) -> None:
        """Let no more streaming calls in; those inside go on, and unary calls come and go."""
        self.is_open = False
        self._pair.streams.close()
        self._pair.own.close()

    def end_streams(self) -> None:
        """Cancel the streaming calls that are inside."""
        for gate in self._streams():
            end_all(gate.stays)

    async def emptied(self) -> None:
        """Return once nobody is inside."""
        while self.inside:
            await _each_emptied(gate for pair in (*self._replaced, self._pair) for gate in pair)

    async def unary_emptied(self) -> None:
        """Return once no unary call is inside."""
        await _each_emptied(pair.unary for pair in (*self._replaced, self._pair))

    async def streams_emptied(self) -> None:
        """Return once no streaming call is inside."""
        while self.streams_inside:
            await _each_emptied(self._streams())

    async def replaced_emptied(self, *, streams: bool) -> None:
        """Return once nobody is inside who went in before the last `replace`, but for the current object's own streams.

        Args:
            streams: whether streaming calls that simulations answer are waited for, too.
        """
        for pair in self._replaced:
            await pair.unary.emptied()
            if streams:
                await pair.streams.emptied()

    def _streams(self) -> Iterator[Gate]:
        for pair in (*self._replaced, self._pair):
            yield pair.streams
            yield pair.own

    def __repr__(self) -> str:
        return f"Gates({self._pair!r}, replaced {self._replaced})"


async def _each_emptied(gates: Iterable[Gate]) -> None:
    for gate in tuple(gates):
        await gate.emptied()
