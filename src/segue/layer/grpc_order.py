"""Order: what a call of a chain claims, so that it and the hooks that it triggers are one step.

Pure: it reads a chain and the hooks in it. Who waits for whom is in `steps`.

Source: docs/decisions/0014.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from segue.layer.chain import Chain, Link, Place
from segue.layer.grpc_hooks import Hooks, Methods


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """The simulations that a call must be in order with, each by where it stands.

    Attributes:
        reads: those that the call passes through, or whose hooks change nothing: such calls run together.
        writes: those that follow the call: no other call that claims them runs meanwhile.
    """

    reads: frozenset[Place] = frozenset()
    writes: frozenset[Place] = frozenset()

    def __or__(self, other: "Claims") -> "Claims":
        """Return the claims of both: what one of them writes, both do."""
        writes = self.writes | other.writes
        return Claims(reads=(self.reads | other.reads) - writes, writes=writes)

    def __bool__(self) -> bool:
        return bool(self.reads or self.writes)


class Order:
    """What the calls of one chain claim: each simulation that has hooks is claimed by where it stands.

    Args:
        chain: the node's objects.
        methods: what they registered.
        hooks: what is around their methods.
    """

    def __init__(self, chain: Chain, methods: Methods, hooks: Hooks) -> None:
        self._chain = chain
        self._methods = methods
        self._hooks = hooks
        self._hooking = {hook.place for around in hooks.values() for hook in around}

    def call(self, link: Link, method: str, *, unary: bool) -> Claims | None:
        """Return what a caller's call of an object's method claims from its beginning to its end.

        Returns:
            None if there is nothing to be in order with. Empty claims if the call may come to a hooked
            method on its way: it then claims what it needs there, holding nothing yet. A streaming
            call, which may never end, holds nothing either.
        """
        way = self._chain.way_in(link)
        passed = Claims(reads=frozenset(map(self._chain.place_of, way)) & self._hooking)
        triggered = self.triggered(link, method, asker=None)
        later = self._later(way)
        if unary and (passed or triggered):
            return passed | triggered | later
        return Claims() if later else None

    def triggered(self, link: Link, method: str, asker: Link | None) -> Claims:
        """Return which simulations a call of an object's method claims by the hooks around that method.

        Those beyond one that follows the call are among them, as it may tell them; and those that follow what
        these may call in turn.

        Args:
            link: the object.
            method: the method's path.
            asker: the simulation that calls its delegate, whose own hooks are passed by; None for other callers.
        """
        claims = Claims()
        seen = {(self._chain.place_of(link), method, None if asker is None else self._chain.place_of(asker))}
        look_at = list(seen)
        while look_at:
            place, path, asking = look_at.pop()
            for hook in self._hooks.get((place, path), ()):
                if hook.place == asking:
                    continue
                followed = frozenset({hook.place} | (self._beyond(hook.place) if hook.changes else set()))
                claims |= Claims(writes=followed) if hook.changes else Claims(reads=followed)
                # A hook may call its delegate, which others follow; so may those whom it tells.
                calls = {call for following in followed for call in self._calls_of(following)}
                look_at += calls - seen
                seen |= calls
        return claims

    def _beyond(self, place: Place) -> set[Place]:
        """Return the simulations with hooks that one of them may tell, directly or through others."""
        return {beyond for beyond in self._hooking if abs(beyond) > abs(place) and beyond * place > 0}

    def _calls_of(self, place: Place) -> Iterator[tuple[Place, str, Place]]:
        """Yield the calls that may follow from a simulation's: (delegate's place, method, simulation's place)."""
        simulation = next(link for link in self._chain.links if self._chain.place_of(link) == place)
        for asker, delegate in pairwise(self._chain.way_in(simulation)):
            at = self._chain.place_of(delegate)
            for method in self._methods[at]:
                yield at, method, self._chain.place_of(asker)

    def _later(self, way: Iterable[Link]) -> Claims:
        """Return what a call may claim on its way in, after its own object's method."""
        claims = Claims()
        for asker, delegate in pairwise(way):
            for method in self._methods[self._chain.place_of(delegate)]:
                claims |= self.triggered(delegate, method, asker)
        return claims
