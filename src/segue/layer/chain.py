"""The chain: a node's objects in version order. What each of them answers is in `grpc_table`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NewType

from segue.model.ids import Version
from segue.model.usage import AnsweredBy

#: Where an object stands: 0 is the current one, -1 the nearest past simulation, 1 the nearest future one. While
#: simulations come and go at the ends, and versions with them, it stays.
Place = NewType("Place", int)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One object of a chain.

    Attributes:
        version: the version whose calls it answers, the newest of them if there are several.
        role: the current object, or a past or future simulation.
        instance: the author's object; its `register(server)` names its methods.
        since: the oldest version whose calls it answers: an object whose class was left untouched by
            releases carries their numbers. None for `version` alone.
        delegate: what a simulation was given as its delegate, to be bound to the chain as it is; None if
            that was the neighbour itself.
        ready: False while a simulation starts: it observes already, and calls of its version wait.
    """

    version: Version
    role: AnsweredBy
    instance: object
    since: Version | None = None
    delegate: object | None = None
    ready: bool = True

    @property
    def oldest(self) -> Version:
        """The oldest version whose calls it answers."""
        return self.version if self.since is None else self.since

    @property
    def versions(self) -> tuple[Version, ...]:
        """The versions whose calls it answers, oldest first."""
        return tuple(Version(number) for number in range(self.oldest, self.version + 1))


@dataclass(frozen=True, slots=True)
class Chain:
    """A node's objects, oldest version first: past simulations, the current object, future simulations.

    Raises:
        ValueError: versions are not in order without gaps, or roles do not fit around one current object.
    """

    links: tuple[Link, ...]
    #: `{id of a link: its index}`: to search for each method of each object takes most of the time of building a table.
    _index: Mapping[int, int] = field(init=False, repr=False, compare=False)
    _current: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        roles = [link.role for link in self.links]
        if roles.count("current") != 1:
            raise ValueError(f"chain {self}: give it exactly one current object")
        gaps = any(above.oldest != below.version + 1 for below, above in pairwise(self.links))
        if gaps or any(link.oldest > link.version for link in self.links):
            raise ValueError(f"chain {self}: give its objects in version order, no version left out")
        at = roles.index("current")
        if roles != ["past"] * at + ["current"] + ["future"] * (len(roles) - at - 1):
            raise ValueError(f"chain {self}: put past simulations below the current object and future ones above")
        object.__setattr__(self, "_index", {id(link): index for index, link in enumerate(self.links)})
        object.__setattr__(self, "_current", at)

    @property
    def current(self) -> Link:
        """The object that the node runs."""
        return self.links[self._current]

    @property
    def oldest(self) -> Version:
        """The oldest version that is answered."""
        return self.links[0].oldest

    @property
    def newest(self) -> Version:
        """The newest version that is answered, or will be once it is ready."""
        return self.links[-1].version

    def place_of(self, link: Link) -> Place:
        """Return where one of the chain's objects stands."""
        return Place(self._index[id(link)] - self._current)

    def delegate_of(self, simulation: Link) -> Link:
        """Return the simulation's neighbour towards the current object."""
        step = 1 if simulation.role == "past" else -1
        return self.links[self._index[id(simulation)] + step]

    def way_in(self, link: Link) -> tuple[Link, ...]:
        """Return what a call of `link`'s version may pass: `link`, its delegate, and so on to the current object."""
        at, current = self._index[id(link)], self._current
        if at <= current:
            return self.links[at : current + 1]
        return tuple(reversed(self.links[current : at + 1]))

    def __str__(self) -> str:
        names = (
            f"{link.version} {link.role}"
            if link.oldest == link.version
            else f"{link.oldest} to {link.version} {link.role}"
            for link in self.links
        )
        return ", ".join(names) or "of nothing"
