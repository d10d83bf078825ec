"""Clients hear of what others put: at once, but of private blocks only when every node knows their version."""

from collections.abc import Sequence

import pytest

from segue.demo.hearsay import Hearsay
from segue.model.ids import Version
from segue.wire.messages import NodeStatus, SystemStatus

ONE, TWO, THREE = Version(1), Version(2), Version(3)


class Hearer:
    def __init__(self, version: Version) -> None:
        self.version = version
        self.heard: list[tuple[int, list[int], bool]] = []

    def hear_of(self, version: Version, numbers: Sequence[int], private: bool) -> None:
        self.heard.append((version, list(numbers), private))


@pytest.fixture
def hearers() -> dict[Version, Hearer]:
    return {version: Hearer(version) for version in (ONE, TWO, THREE)}


@pytest.fixture
def hearsay(hearers: dict[Version, Hearer]) -> Hearsay:
    made = Hearsay()
    for hearer in hearers.values():
        made.add(hearer)
    return made


def nodes(status: SystemStatus, *answered_3: int, version: int = 2) -> list[NodeStatus]:
    return [
        node.model_copy(update={"version": version, "answered": {1: 9, 2: 9, 3: count}})
        for node, count in zip(status.nodes, answered_3, strict=False)
    ]


def test_of_public_blocks_the_others_hear_at_once(hearsay: Hearsay, hearers: dict[Version, Hearer]) -> None:
    hearsay.pass_on(TWO, [1, 2], False)
    assert [hearer.heard for hearer in hearers.values()] == [[(2, [1, 2], False)], [], [(2, [1, 2], False)]]


def test_of_private_blocks_they_hear_once_every_node_has_answered(
    hearsay: Hearsay, hearers: dict[Version, Hearer], status: SystemStatus
) -> None:
    """A node that does not know the version would rightly say NOT_FOUND, and those that know it Disallowed."""
    hearsay.pass_on(THREE, [1], True)
    hearsay.see(nodes(status, 1, 1, 1, 0), 4)
    hearsay.see(nodes(status, 1, 1, 1), 4)
    assert hearers[TWO].heard == []
    hearsay.pass_on(THREE, [2, 3], True)
    hearsay.see(nodes(status, 1, 1, 1, 1), 4)
    assert hearers[ONE].heard == hearers[TWO].heard == [(3, [1], True), (3, [2, 3], True)]
    hearsay.see(nodes(status, 1, 1, 1, 1), 4)
    hearsay.pass_on(THREE, [4], True)
    assert hearers[TWO].heard[2:] == [(3, [4], True)]
    assert hearers[THREE].heard == []


def test_a_node_that_runs_the_version_knows_it(
    hearsay: Hearsay, hearers: dict[Version, Hearer], status: SystemStatus
) -> None:
    hearsay.pass_on(THREE, [1], True)
    hearsay.see([*nodes(status, 5, 5), *nodes(status, 0, 0, version=3)], 4)
    assert hearers[TWO].heard == [(3, [1], True)]
