"""Who calls with which version, summed in SQL."""

from typing import Any, cast

from sqlalchemy import func, literal_column, select
from sqlalchemy.orm import Session

from segue.model.ids import NodeId, SystemName, Version
from segue.model.usage import AnsweredBy
from segue.server.facts import CallerSum, UsageSum
from segue.server.schema import CallsRow, table_of

_CALLS = table_of(CallsRow).c
_KIND = (
    _CALLS.node,
    _CALLS.node_version,
    _CALLS.caller_version,
    _CALLS.caller,
    _CALLS.method,
    _CALLS.answered_by,
    _CALLS.from_node,
    _CALLS.outcome,
)
_HALF_BITS = 32


# SQLite refuses a sum beyond 63 bits, and would then have no status for anybody: the halves stay far below.
# As literals: PostgreSQL shifts by an integer, and would be told of a bigint.
_COUNT: Any = _CALLS["count"]
#: What sums of counts are asked for by; `whole` puts them together.
SUM_IN_HALVES = (
    func.sum(_COUNT.op(">>")(literal_column(str(_HALF_BITS)))),
    func.sum(_COUNT.op("&")(literal_column(str((1 << _HALF_BITS) - 1)))),
)


def whole(high: int, low: int) -> int:
    """Return the sum whose halves a database has returned, each as a number of its own."""
    return (int(high) << _HALF_BITS) + int(low)


def callers_of(session: Session, system: SystemName) -> tuple[CallerSum, ...]:
    """Return who called in `system` with which version, in the order of the fields."""
    kind = (_CALLS.caller_version, _CALLS.caller, _CALLS.from_node)
    sums = select(*kind, *SUM_IN_HALVES, func.max(_CALLS.last_at)).where(_CALLS.system == system)
    # Sorted here, as each database has an order of its own for text.
    return tuple(
        CallerSum(
            caller_version=Version(version),
            caller=caller,
            from_node=from_node,
            count=whole(high, low),
            last_at=last_at,
        )
        for version, caller, from_node, high, low, last_at in sorted(map(tuple, session.execute(sums.group_by(*kind))))
    )


def usage_of(session: Session, system: SystemName, node: NodeId | None) -> tuple[UsageSum, ...]:
    """Return the calls that were answered in `system`, or by one node of it, in the order of the fields."""
    sums = select(*_KIND, *SUM_IN_HALVES, func.max(_CALLS.last_at)).where(_CALLS.system == system)
    if node is not None:
        sums = sums.where(_CALLS.node == node)
    return tuple(
        UsageSum(
            node=NodeId(node),
            node_version=Version(node_version),
            caller_version=Version(caller_version),
            caller=caller,
            method=method,
            answered_by=cast(AnsweredBy, answered_by),
            from_node=from_node,
            outcome=outcome,
            count=whole(high, low),
            last_at=last_at,
        )
        for (
            node,
            node_version,
            caller_version,
            caller,
            method,
            answered_by,
            from_node,
            outcome,
            high,
            low,
            last_at,
        ) in session.execute(sums.group_by(*_KIND).order_by(*_KIND))
    )
