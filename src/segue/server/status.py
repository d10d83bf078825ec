"""What an operator sees of a system, put together from what the store returns. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime

from segue.model.ids import NodeId, Version
from segue.model.usage import AnsweredBy
from segue.server.decisions import NO_ANSWERS, Answers, decisions, facts_of
from segue.server.facts import NodeRecord, Picture, UsageSum
from segue.server.publication import notice_of
from segue.server.refusals import NotThereError
from segue.wire.hand import NodeDetail
from segue.wire.messages import Condition, FleetNodeRow, FleetRow, NodeStatus, PermitStatus, SystemStatus, UsageStatus

#: What is said of a node that nothing holds up any more; it learns so when it asks.
FREE_TO_GO = "nothing any more: it goes when it next asks"


def status_of(
    picture: Picture, usage: Iterable[UsageSum], now: datetime, answers: Answers = NO_ANSWERS
) -> SystemStatus:
    """Put together a system at one moment.

    Args:
        picture: the system.
        usage: the calls that its nodes answered.
        now: UTC; what nodes wait for is decided as of now, not as of when they last asked.
        answers: what webhooks say.
    """
    usage = tuple(usage)
    answered: defaultdict[NodeId, Counter[int]] = defaultdict(Counter)
    for row in usage:
        answered[row.node][row.caller_version] += row.count
    away = {permit.node for permit in picture.permits if permit.returned_at is None}
    waits_for = waiting(picture, now, answers)
    return SystemStatus(
        system=picture.system,
        at=now,
        releases=tuple(notice_of(release) for release in picture.releases),
        nodes=tuple(
            _node(node, now, away=node.id in away, waits_for=waits_for.get(node.id), answered=answered[node.id])
            for node in picture.nodes
        ),
        permits=tuple(
            PermitStatus(
                permit=permit.id,
                node=permit.node,
                class_name=permit.class_name,
                from_version=permit.from_version,
                to_version=permit.to_version,
                granted_at=permit.granted_at,
                returned_at=permit.returned_at,
                failure=permit.failure,
                lapsed_at=permit.lapsed_at,
            )
            for permit in picture.permits
        ),
        usage=_sums(usage),
    )


def node_of(
    picture: Picture, usage: Iterable[UsageSum], node: NodeId, now: datetime, answers: Answers = NO_ANSWERS
) -> NodeDetail:
    """Put together one node at one moment.

    Args:
        picture: the system; of this node it has all that it said.
        usage: the calls that this node answered.
        node: which node.
        now: UTC.
        answers: what webhooks say.

    Raises:
        NotThereError: the system has no such node.
    """
    alone = replace(
        picture,
        nodes=tuple(one for one in picture.nodes if one.id == node),
        permits=tuple(permit for permit in picture.permits if permit.node == node),
        asks=(),
    )
    if not alone.nodes:
        raise NotThereError(f"system {picture.system} has no node {node}: look at `segue status`")
    told = status_of(alone, usage, now)
    (found,) = told.nodes
    waits_for = waiting(picture, now, answers).get(node)
    return NodeDetail(at=now, node=found.model_copy(update={"waits_for": waits_for}), permits=told.permits)


def waiting(picture: Picture, now: datetime, answers: Answers = NO_ANSWERS) -> Mapping[NodeId, str]:
    """Return `{node that waits: what it waits for, in words}`: what holds up its first step."""
    words: dict[NodeId, str] = {}
    for class_name in sorted({ask.class_name for ask in picture.asks}):
        for _target, decision in decisions(picture, class_name, now, answers=answers):
            dry = f" (a rule that is tried dry would hold it: {decision.dry_run.text})" if decision.dry_run else ""
            said = dict.fromkeys(decision.grants, FREE_TO_GO + dry)
            said |= {node: refusal.text + dry for node, refusal in decision.refusals.items()}
            words = said | words
    return words


def fleet_row(picture: Picture, version: Version, now: datetime) -> FleetRow:
    """Return a system as the own function of release `version` is to see it at `now`."""
    away = {permit.node for permit in picture.permits if permit.returned_at is None}
    return FleetRow(
        version=version,
        at=now,
        nodes=tuple(
            FleetNodeRow(
                id=node.id,
                class_name=node.said.class_name,
                version=node.version,
                attributes=node.said.attributes,
                facts=dict(facts_of(node)),
                away=node.id in away,
                silent=node.is_silent(now),
            )
            for node in picture.nodes
        ),
    )


def _node(
    node: NodeRecord, now: datetime, *, away: bool, waits_for: str | None, answered: Mapping[int, int]
) -> NodeStatus:
    said = node.said
    return NodeStatus(
        id=node.id,
        class_name=said.class_name,
        version=node.version,
        address=said.address,
        attributes=said.attributes,
        phase=said.phase,
        target_version=said.target_version,
        away=away,
        waits_for=waits_for,
        pid=said.pid,
        answers=said.answers,
        failure=said.failure,
        failure_details=said.failure_details,
        facts=said.facts,
        last_seen=node.last_seen,
        silent=node.is_silent(now),
        answered=dict(sorted(answered.items())),
        upgrades=said.upgrades,
        **{name: getattr(said, name) for name in Condition.model_fields},
    )


def _sums(usage: Iterable[UsageSum]) -> tuple[UsageStatus, ...]:
    """Add up what the nodes answered."""
    counts: Counter[tuple[int, int, str, str, AnsweredBy, bool, str]] = Counter()
    last: dict[tuple[int, int, str, str, AnsweredBy, bool, str], datetime] = {}
    for row in usage:
        kind = (
            row.node_version,
            row.caller_version,
            row.caller,
            row.method,
            row.answered_by,
            row.from_node,
            row.outcome,
        )
        counts[kind] += row.count
        last[kind] = max(row.last_at, last.get(kind, row.last_at))
    return tuple(
        UsageStatus(
            node_version=node_version,
            caller_version=caller_version,
            caller=caller,
            method=method,
            answered_by=answered_by,
            from_node=from_node,
            outcome=outcome,
            count=count,
            last_at=last[kind],
        )
        for kind, count in sorted(counts.items())
        for node_version, caller_version, caller, method, answered_by, from_node, outcome in (kind,)
    )
