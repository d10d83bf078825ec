"""What clients of different versions hear of each other, past the nodes: which random blocks were put."""

from collections.abc import Collection, Sequence
from typing import Protocol

from segue.model.ids import Version
from segue.wire.messages import NodeStatus


class Hearer(Protocol):
    """Clients of one version.

    Attributes:
        version: theirs.
    """

    version: Version

    def hear_of(self, version: Version, numbers: Sequence[int], private: bool) -> None:
        """Take note of random blocks that clients of another version have put."""
        ...


class Hearsay:
    """Tells clients of what those of other versions have put.

    Of private blocks they hear once every node knows the version that has them. A node that has not heard of it yet
    answers older callers as if there were none such, which is right: nothing that a node told them says otherwise.
    """

    def __init__(self) -> None:
        self._hearers: list[Hearer] = []
        self._known: set[Version] = set()
        #: Of private blocks: (version, numbers)
        self._kept: list[tuple[Version, Sequence[int]]] = []

    def add(self, hearer: Hearer) -> None:
        """Have these clients hear of what is put from now on."""
        self._hearers.append(hearer)

    def pass_on(self, version: Version, numbers: Sequence[int], private: bool) -> None:
        """Tell the others what clients of a version have put, now or when they may know."""
        if private and version not in self._known:
            self._kept.append((version, numbers))
        else:
            self._tell(version, numbers, private)

    def see(self, nodes: Collection[NodeStatus], count: int) -> None:
        """Look which versions all nodes know: they run them, or have answered a call of them.

        Args:
            nodes: those of the last status.
            count: how many nodes there are.
        """
        if len(nodes) < count:
            return
        for version in {kept for kept, _ in self._kept}:
            if all(node.version >= version or node.answered.get(version, 0) for node in nodes):
                self._known.add(version)
        told = [(version, numbers) for version, numbers in self._kept if version in self._known]
        self._kept = [(version, numbers) for version, numbers in self._kept if version not in self._known]
        for version, numbers in told:
            self._tell(version, numbers, private=True)

    def _tell(self, version: Version, numbers: Sequence[int], private: bool) -> None:
        for hearer in self._hearers:
            if hearer.version != version:
                hearer.hear_of(version, numbers, private)
