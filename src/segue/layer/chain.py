"""The chain: a node's objects in version order. What each of them answers is in `grpc_table`."""

from dataclasses import dataclass

from segue.model.ids import Version
from segue.model.usage import AnsweredBy


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One object of a chain.

    Attributes:
        version: the version whose calls it answers.
        role: the current object, or a past or future simulation.
        instance: the author's object; its `register(server)` names its methods.
        ready: False while a simulation starts: it observes already, and calls of its version wait.
    """

    version: Version
    role: AnsweredBy
    instance: object
    ready: bool = True


@dataclass(frozen=True, slots=True)
class Chain:
    """A node's objects, oldest version first: past simulations, the current object, future simulations.

    Raises:
        ValueError: versions are not in order without gaps, or roles do not fit around one current object.
    """

    links: tuple[Link, ...]

    def __post_init__(self) -> None:
        roles = [link.role for link in self.links]
        if roles.count("current") != 1:
            raise ValueError(f"chain {self}: give it exactly one current object")
        if [link.version for link in self.links] != list(range(self.oldest, self.newest + 1)):
            raise ValueError(f"chain {self}: give its objects in version order, no version left out")
        at = roles.index("current")
        if roles != ["past"] * at + ["current"] + ["future"] * (len(roles) - at - 1):
            raise ValueError(f"chain {self}: put past simulations below the current object and future ones above")

    @property
    def current(self) -> Link:
        """The object that the node runs."""
        return next(link for link in self.links if link.role == "current")

    @property
    def oldest(self) -> Version:
        """The oldest version that is answered."""
        return self.links[0].version

    @property
    def newest(self) -> Version:
        """The newest version that is answered, or will be once it is ready."""
        return self.links[-1].version

    def delegate_of(self, simulation: Link) -> Link:
        """Return the simulation's neighbour towards the current object."""
        step = 1 if simulation.role == "past" else -1
        return self.links[self.links.index(simulation) + step]

    def __str__(self) -> str:
        return ", ".join(f"{link.version} {link.role}" for link in self.links) or "of nothing"
