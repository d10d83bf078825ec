"""Gates: where calls go in to the objects of a chain and come out, and can be held back."""

import asyncio


class Gate:
    """Lets the calls of one kind of caller in to one chain's objects, and knows how many are inside.

    `enter` and `leave` never await, so what they read is what they change.

    Attributes:
        is_open: whether calls may go in.
        inside: calls that went in and have not come out.
    """

    def __init__(self) -> None:
        self.is_open = True
        self.inside = 0
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


class Gates:
    """The gate of the chain that is shown, and those of the chains before it while calls are inside."""

    def __init__(self) -> None:
        self._gate = Gate()
        self._replaced: list[Gate] = []

    @property
    def is_open(self) -> bool:
        """Whether calls may go in."""
        return self._gate.is_open

    @property
    def inside(self) -> int:
        """Calls that went in through any of the gates and have not come out."""
        return self._gate.inside + sum(gate.inside for gate in self._replaced)

    def replace(self, gate: Gate) -> None:
        """Let calls in through `gate` from now on, if they may go in at all; those that are inside go on."""
        gate.is_open = self._gate.is_open
        self._gate.close()
        self._replaced = [old for old in (*self._replaced, self._gate) if old.inside]
        self._gate = gate

    def open(self) -> None:
        """Let calls in."""
        self._gate.open()

    def close(self) -> None:
        """Let no more calls in; those inside go on."""
        self._gate.close()

    async def emptied(self) -> None:
        """Return once nobody is inside."""
        while self.inside:
            await self.replaced_emptied()
            await self._gate.emptied()

    async def replaced_emptied(self) -> None:
        """Return once nobody is inside who went in before the last `replace`."""
        for gate in self._replaced:
            await gate.emptied()

    def __repr__(self) -> str:
        return f"Gates({self._gate!r}, replaced {self._replaced})"
