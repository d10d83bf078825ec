"""Gates: where calls go in to the objects of a chain and come out, and can be held back."""

import asyncio


class Gate:
    """Lets the calls of one kind of caller in, and knows how many are inside.

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
