"""A system in numbers, counted in SQL: for Prometheus, which asks every few seconds, however large the fleet is."""

from collections.abc import Mapping
from typing import cast

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from segue.model.ids import ClassName, SystemName, Version
from segue.model.usage import AnsweredBy
from segue.server.facts import CallKind
from segue.server.schema import CallsRow, PermitRow, table_of
from segue.server.sql_usage import SUM_IN_HALVES, whole

_PERMITS = table_of(PermitRow).c
_CALLS = table_of(CallsRow).c


def permits_granted(session: Session, system: SystemName) -> Mapping[ClassName, int]:
    """Return `{class: permits that nodes of it ever got}`."""
    counts = select(_PERMITS.class_name, func.count()).where(_PERMITS.system == system)
    return {ClassName(name): count for name, count in session.execute(counts.group_by(_PERMITS.class_name))}


def permits_returned(session: Session, system: SystemName) -> Mapping[tuple[ClassName, bool], int]:
    """Return `{(class, whether the node was upgraded): permits that came back}`."""
    kind = (_PERMITS.class_name, _PERMITS.failure.is_(None))
    counts = select(*kind, func.count()).where(_PERMITS.system == system, _PERMITS.returned_at.is_not(None))
    return {
        (ClassName(name), bool(upgraded)): count for name, upgraded, count in session.execute(counts.group_by(*kind))
    }


def calls_of(session: Session, system: SystemName) -> Mapping[CallKind, int]:
    """Return `{kind: calls that nodes answered}`."""
    kind = (_CALLS.caller_version, _CALLS.from_node, _CALLS.answered_by, _CALLS.outcome)
    sums = select(*kind, *SUM_IN_HALVES).where(_CALLS.system == system).group_by(*kind)
    return {
        CallKind(
            caller_version=Version(version),
            from_node=from_node,
            answered_by=cast(AnsweredBy, answered_by),
            outcome=outcome,
        ): whole(high, low)
        for version, from_node, answered_by, outcome, high, low in session.execute(sums)
    }
