"""What a process is told of a node's history: the releases that touch its class, and nothing of the others."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from segue.errors import ReleaseError
from segue.journey import Future, Journey
from segue.model.ids import ClassName, ContentHash, NodeId, SystemName, Version
from segue.model.release import Announcement
from segue.node.folders import Folders, Identity
from segue.node.placement import Placement
from segue.node.plan import Carry
from segue.node.settings import NodeSettings

UPGRADE = '[classes.Edge.upgrade]\ntransform = "up:transform"\npast = "up:Past"\nfuture = "up:Future"\n'
#: What each release says of the class: it came with version 2, and versions 4 and 7 touch it.
SAYS = {1: None, 2: "", 3: "", 4: UPGRADE, 5: "", 6: "", 7: UPGRADE, 8: ""}


def release(version: int) -> Announcement:
    return Announcement(version=Version(version), sha256=ContentHash(f"{version:064x}"), size_bytes=1)


@pytest.fixture
def placement(tmp_path: Path) -> Iterator[Placement]:
    identity = Identity(system=SystemName("edges"), class_name=ClassName("Edge"), node_id=NodeId("n1"))
    settings = NodeSettings(
        server_url="http://segue", system=identity.system, class_name=identity.class_name, node_id=identity.node_id,
        address="127.0.0.1:9001", state=tmp_path,
    )  # fmt: skip
    with closing(Folders(tmp_path, identity)) as folders:
        for version, says in SAYS.items():
            folder = folders.release(release(version).sha256)
            folder.mkdir()
            text = f'[release]\nsystem = "edges"\nversion = {version}\n[classes.Other]\nobject = "other:Other"\n'
            edge = "" if says is None else f'[classes.Edge]\nobject = "edge:Edge"\n{says}'
            (folder / "release.toml").write_text(text + edge)
        yield Placement(settings, folders)


def at(running: int, carried: int, futures: int) -> Journey:
    return Journey(
        running=release(running),
        carried=tuple(release(version) for version in range(running + 1, carried + 1)),
        past=tuple(release(version) for version in range(1, running)),
        futures=tuple(
            Future(release=release(version), install_ms=1.0 if SAYS[version] else None)
            for version in range(carried + 1, futures + 1)
        ),
    )


@pytest.mark.parametrize(("newest", "first"), [(2, 2), (3, 2), (4, 4), (6, 4), (8, 7)])
def test_a_new_node_runs_the_code_that_touched_its_class_last(newest: int, first: int, placement: Placement) -> None:
    assert placement.first([release(version) for version in range(1, newest + 1)]) == first


def test_a_class_that_no_release_has_cannot_start(placement: Placement) -> None:
    with pytest.raises(ReleaseError, match="has no class 'Edge'"):
        placement.first([release(1)])


@pytest.mark.parametrize(
    ("where", "loaded"), [(at(2, 3, 3), [2]), (at(4, 6, 6), [2, 4]), (at(7, 8, 8), [2, 4, 7]), (at(4, 4, 8), [2, 4])]
)
def test_a_process_loads_the_releases_that_touch_its_class(
    where: Journey, loaded: list[int], placement: Placement
) -> None:
    plan = placement.host_plan(where)
    assert [one.version for one in plan.releases] == loaded
    assert [one.past is None for one in plan.releases] == [True, *[False] * (len(loaded) - 1)]


def test_what_is_carried_above_the_object_is_no_simulation(placement: Placement) -> None:
    stage = placement.stage(at(2, 3, 8))
    assert stage.carries == 3
    assert [type(future).__name__ for future in stage.futures] == [
        "ReleasePlan", "Carry", "Carry", "ReleasePlan", "Carry",
    ]  # fmt: skip
    assert stage.futures[1] == Carry(version=Version(5))
    assert [one.version for one in placement.imports(at(2, 3, 8))] == [4, 7]
