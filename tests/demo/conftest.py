"""Facts of a demo in which all went well, for tests to change one of."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from segue.demo.facts import ClientCalls, Facts, Reading
from segue.model.ids import NodeId, Version
from segue.model.usage import AnsweredBy
from segue.schedule.rules import Budget, Canary, Rules
from segue.wire.messages import NodeStatus, PermitStatus, ReleaseNotice, SystemStatus, UpgradeRow, UsageStatus

BEGIN = datetime(2025, 6, 1, 12, 0, 0, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


RULES = Rules(budgets=(Budget(limit=2), Budget(limit=1, per="zone")), canary=Canary(nodes=1, soak_s=3.0))

#: `{node: (zone, quiesced, serving)}`; seconds since the publication. n1 is the canary and soaks 3 s.
TIMES = {"n1": ("a", 2.0, 2.3), "n2": ("b", 8.0, 8.3), "n3": ("c", 8.5, 8.8), "n4": ("a", 12.0, 12.3)}


def node_status(index: int, name: str) -> NodeStatus:
    zone, quiesced_s, serving_s = TIMES[name]
    upgrade = UpgradeRow(
        from_version=1,
        to_version=2,
        pids=(100 + index, 200 + index),
        pause_ms=300.0,
        install_future_ms=40.0,
        transform_ms=250.0,
        transform_bytes=12345,
        quiesced_at=at(quiesced_s),
        serving_at=at(serving_s),
    )
    return NodeStatus(
        id=name,
        class_name="BlockNode",
        version=2,
        address=f"127.0.0.1:{9000 + index}",
        attributes={"zone": zone},
        phase="serving",
        target_version=None,
        away=False,
        waits_for=None,
        pid=200 + index,
        failure=None,
        facts={},
        last_seen=at(60),
        answered={1: 1000, 2: 500},
        upgrades=(upgrade,),
    )


def permit_status(name: str) -> PermitStatus:
    _, quiesced_s, serving_s = TIMES[name]
    return PermitStatus(
        permit=f"permit-{name}",
        node=name,
        class_name="BlockNode",
        from_version=1,
        to_version=2,
        granted_at=at(quiesced_s - 1),
        returned_at=at(serving_s + 0.2),
        failure=None,
    )


def usage() -> tuple[UsageStatus, ...]:
    rows: tuple[tuple[int, int, AnsweredBy, bool, int], ...] = (
        (1, 1, "current", False, 5000),
        (1, 2, "future", False, 30),
        (1, 2, "future", True, 20),
        (2, 1, "past", False, 700),
        (2, 1, "past", True, 400),
        (2, 2, "current", False, 900),
    )
    return tuple(
        UsageStatus(
            node_version=node,
            caller_version=caller,
            caller=who,
            method=method,
            answered_by=by,
            from_node=from_node,
            outcome="OK",
            count=count // 2,
            last_at=at(50),
        )
        for node, caller, by, from_node, count in rows
        for who, method in (("127.0.0.1", "/s/Get"), ("n1", "/s/Put"))
    )


def reading(version: int, *, began_s: float, files: int, mismatches: tuple[str, ...] = ()) -> Reading:
    return Reading(
        version=Version(version),
        files=files,
        mismatches=mismatches,
        started_at=at(began_s),
        ended_at=at(began_s + 0.2),
    )


# The facts are frozen, so that all tests may share them.


@pytest.fixture(scope="session")
def status() -> SystemStatus:
    """The last status of a demo in which all went well."""
    return SystemStatus(
        system="blockstore",
        at=at(60),
        releases=tuple(
            ReleaseNotice(version=version, sha256=f"{version}" * 64, size_bytes=1000, published_at=at(moment))
            for version, moment in ((1, -30), (2, 0))
        ),
        nodes=tuple(node_status(index, name) for index, name in enumerate(TIMES)),
        permits=tuple(permit_status(name) for name in TIMES),
        usage=usage(),
    )


@pytest.fixture(scope="session")
def facts(status: SystemStatus) -> Facts:
    """All that is observed in a demo in which all goes well."""
    return Facts(
        seed=7,
        duration_s=90.5,
        versions=(Version(1), Version(2)),
        private=False,
        nodes=tuple(NodeId(name) for name in TIMES),
        files=10,
        size_bytes=12_000,
        published_at={Version(2): at(0)},
        calls=(
            ClientCalls(version=Version(1), calls=6000, failed=0),
            ClientCalls(version=Version(2), calls=1000, failed=0),
        ),
        pids_before={NodeId(name): 100 + index for index, name in enumerate(TIMES)},
        pids_seen={NodeId(name): (100 + index, 200 + index) for index, name in enumerate(TIMES)},
        pids_left=frozenset(),
        samples=(reading(1, began_s=5, files=4), reading(2, began_s=5, files=4)),
        readings=(reading(1, began_s=40, files=10), reading(2, began_s=40, files=10)),
        rules={Version(2): RULES},
        status=status,
    )


@pytest.fixture(scope="session")
def facts_of_3(facts: Facts, status: SystemStatus) -> Facts:
    """All that is observed when each node goes on to version 3, twenty seconds after it went to version 2."""
    later = timedelta(seconds=20)
    nodes, permits = [], list(status.permits)
    for index, node in enumerate(status.nodes):
        (second,) = node.upgrades
        times = {"quiesced_at": second.quiesced_at + later, "serving_at": second.serving_at + later}
        third = second.model_copy(
            update={"from_version": 2, "to_version": 3, "pids": (200 + index, 300 + index), **times}
        )
        nodes.append(node.model_copy(update={"version": 3, "pid": 300 + index, "upgrades": (second, third)}))
    for permit in status.permits:
        assert permit.returned_at is not None
        times = {"granted_at": permit.granted_at + later, "returned_at": permit.returned_at + later}
        permits.append(
            permit.model_copy(update={"permit": f"{permit.permit}-3", "from_version": 2, "to_version": 3, **times})
        )
    more: tuple[tuple[int, int, AnsweredBy], ...] = (
        (3, 2, "past"), (2, 3, "future"), (3, 1, "past"),
    )  # fmt: skip
    usage_3 = tuple(
        UsageStatus(
            node_version=node,
            caller_version=caller,
            caller="app",
            method="/blockstore.BlockStore/Get",
            answered_by=by,
            from_node=one,
            outcome="OK",
            count=50,
            last_at=at(3),
        )
        for node, caller, by in more
        for one in (False, True)
    )
    private = ((0, {"NOT_FOUND": 40}), (0, {"DISALLOWED": 30}), (80, {"PERMISSION_DENIED": 20}))
    return replace(
        facts,
        versions=(Version(1), Version(2), Version(3)),
        private=True,
        published_at={Version(2): at(0), Version(3): at(3)},
        calls=tuple(
            ClientCalls(version=Version(number), calls=1000, failed=0, admitted=admitted, refused=refused)
            for number, (admitted, refused) in enumerate(private, start=1)
        ),
        pids_seen={NodeId(name): (100 + index, 200 + index, 300 + index) for index, name in enumerate(TIMES)},
        samples=(*facts.samples, reading(3, began_s=5, files=4)),
        readings=(*facts.readings, reading(3, began_s=60, files=10)),
        rules={Version(2): RULES, Version(3): RULES},
        status=status.model_copy(
            update={"nodes": tuple(nodes), "permits": tuple(permits), "usage": (*status.usage, *usage_3)}
        ),
    )


@pytest.fixture
def with_status(facts: Facts) -> Callable[..., Facts]:
    """The facts with fields of their last status changed."""

    def change(**changes: object) -> Facts:
        assert facts.status is not None
        return replace(facts, status=facts.status.model_copy(update=changes))

    return change


@pytest.fixture
def read() -> Callable[..., Reading]:
    """Make a reading of `files` files that begins `began_s` seconds after the publication."""
    return reading


@pytest.fixture
def moment() -> Callable[[float], datetime]:
    """Give the moment that many seconds after the publication."""
    return at
