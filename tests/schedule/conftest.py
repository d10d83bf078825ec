"""Facts for the schedule's tests, short to write."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

import pytest

from segue.model.fleet import NodeFact
from segue.model.ids import ClassName, NodeId, Version

NOON = datetime(2024, 5, 2, 12, 0, 0, tzinfo=UTC)

Fact = Callable[..., NodeFact]


def fact(
    node: str,
    *,
    cls: str = "BlockNode",
    version: int = 1,
    seen: float = 0,
    away: float | None = None,
    away_over: tuple[int, int] | None = None,
    waits: float | None = None,
    granted: float | None = None,
    upgraded: float | None = None,
    failed: bool = False,
    failed_at: float | None = None,
    facts: Mapping[str, float] | None = None,
    holds: str | None = None,
    report_s: float = 0,
    **attributes: str,
) -> NodeFact:
    """Make a fact; times are seconds before noon."""

    def ago(seconds: float | None) -> datetime | None:
        return None if seconds is None else NOON - timedelta(seconds=seconds)

    return NodeFact(
        id=NodeId(node),
        class_name=ClassName(cls),
        version=Version(version),
        attributes=attributes,
        last_seen=NOON - timedelta(seconds=seen),
        away_since=ago(away),
        waits_since=ago(waits),
        granted_at=ago(granted),
        upgraded_at=ago(upgraded),
        failed=failed or failed_at is not None,
        failed_at=ago(failed_at),
        facts=facts or {},
        holds=holds,
        report_s=report_s,
        away_from=Version(away_over[0]) if away_over else None,
        away_to=Version(away_over[1]) if away_over else None,
    )


@pytest.fixture(name="fact")
def fact_fixture() -> Fact:
    return fact


@pytest.fixture
def noon() -> datetime:
    return NOON
