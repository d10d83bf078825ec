"""Whether all that the demo promises was observed: from facts to checks, pure.

A check about which nothing was observed is not held.
"""

from dataclasses import dataclass
from itertools import pairwise

from segue.demo.away import absences, loosest, max_away, max_away_per_group, without_permit
from segue.demo.broken import AT_WORK, SAID, has_halted
from segue.demo.facts import Facts, Reading
from segue.model.ids import NodeId, Version
from segue.model.usage import AnsweredBy
from segue.wire.messages import NodeStatus

#: Names in a detail; more than these are counted only.
_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that must have been observed.

    Attributes:
        name: what must hold, as a sentence.
        held: whether it did.
        detail: what was seen.
    """

    name: str
    held: bool
    detail: str


def judge(facts: Facts) -> tuple[Check, ...]:
    """Return every check of the demo, in the order in which they are shown."""
    if facts.broken:
        return _judge_halt(facts)
    return (
        _upgraded(facts),
        _no_failed_call(facts),
        *(_read_back(facts, version) for version in facts.versions),
        *(_sampled(facts, version) for version in facts.versions),
        *_private(facts),
        _replaced_once(facts),
        _few_away(facts),
        *(check for version in facts.versions[1:] for check in _canaries(facts, version)),
        *(_mixed(facts, version, "past", from_node=one) for version in facts.versions[:-1] for one in (False, True)),
        *(_mixed(facts, version, "future", from_node=one) for version in facts.versions[1:] for one in (False, True)),
        *_through_several(facts),
    )


def _judge_halt(facts: Facts) -> tuple[Check, ...]:
    """Return the checks of a rollout that had to halt."""
    return (
        _halted(facts),
        _tried_by_one(facts),
        _still_serve(facts),
        _no_failed_call(facts),
        *(_read_back(facts, version) for version in facts.versions),
        _few_away(facts),
        _mixed(facts, facts.to_version, "future", from_node=False),
    )


def _halted(facts: Facts) -> Check:
    why = sorted({node.waits_for for node in _nodes(facts).values() if node.waits_for})
    name = f"the rollout of version {facts.to_version} has halted, and says why"
    return Check(name=name, held=has_halted(facts.status), detail=_some(why) or "no node waits")


def _tried_by_one(facts: Facts) -> Check:
    permits = facts.status.permits if facts.status else ()
    tried, nodes = sorted({permit.node for permit in permits}), _nodes(facts)
    causes = [f"{node}: {nodes[NodeId(node)].failure or 'did not fail'}" for node in tried]
    name = "one node tried it, failed its self-test, and went back"
    held = len(tried) == 1 and SAID in causes[0] and all(permit.returned_at and permit.failure for permit in permits)
    return Check(name=name, held=held, detail=_some(causes) or "no node tried")


def _still_serve(facts: Facts) -> Check:
    nodes, version = _nodes(facts), facts.from_version
    serving = [
        node for node in facts.nodes
        if node in nodes and (nodes[node].version, nodes[node].phase in AT_WORK) == (version, True)
    ]  # fmt: skip
    detail = f"{len(serving)} of {len(facts.nodes)} nodes"
    return Check(name=f"every node serves version {version}", held=len(serving) == len(facts.nodes), detail=detail)


def _upgraded(facts: Facts) -> Check:
    nodes = _nodes(facts)
    behind = [
        f"{node} runs {nodes[node].version}" if node in nodes else f"{node} was not seen"
        for node in facts.nodes
        if node not in nodes or nodes[node].version != facts.to_version
    ]
    detail = _some(behind) if behind else f"{len(facts.nodes)} of {len(facts.nodes)} nodes"
    return Check(name=f"every node runs version {facts.to_version}", held=not behind, detail=detail)


def _no_failed_call(facts: Facts) -> Check:
    silent = [f"version {row.version} clients made no call" for row in facts.calls if row.calls == 0]
    failed = sum(row.failed for row in facts.calls)
    by_version = ", ".join(f"{row.calls:,} of version {row.version}" for row in facts.calls)
    if failed:
        first = next((failure for row in facts.calls for failure in row.failures), None)
        detail = f"{failed:,} failed" + (f", first {first.call}: {first.status} {first.text}" if first else "")
    else:
        detail = _some(silent) or f"calls: {by_version}"
    held = not failed and not silent and {row.version for row in facts.calls} == set(facts.versions)
    return Check(name="no client call failed", held=held, detail=detail or "no client call was made")


def _read_back(facts: Facts, version: Version) -> Check:
    readings = [reading for reading in facts.readings if reading.version == version]
    mismatches = [text for reading in readings for text in reading.mismatches]
    files = sum(reading.files for reading in readings)
    detail = f"{files - len(mismatches):,} of {facts.files:,} files" + (f"; {_some(mismatches)}" if mismatches else "")
    return Check(
        name=f"all files read back bit for bit through version {version}",
        held=not mismatches and files == facts.files > 0,
        detail=detail,
    )


def _sampled(facts: Facts, version: Version) -> Check:
    readings = [reading for reading in facts.samples if reading.version == version and _during(facts, reading)]
    mismatches = [text for reading in readings for text in reading.mismatches]
    files = sum(reading.files for reading in readings)
    detail = f"{files - len(mismatches):,} of {files:,}" if files else "no file was read while nodes upgraded"
    return Check(
        name=f"a sample read back bit for bit through version {version} meanwhile",
        held=files > 0 and not mismatches,
        detail=detail + (f"; {_some(mismatches)}" if mismatches else ""),
    )


def _during(facts: Facts, reading: Reading) -> bool:
    """Say whether the reading began after the first node went away, and ended before the last was back."""
    rows = [row for node in _nodes(facts).values() for row in node.upgrades]
    if not rows:
        return False
    first, last = min(row.quiesced_at for row in rows), max(row.serving_at for row in rows)
    return first <= reading.started_at and reading.ended_at <= last


def _private(facts: Facts) -> tuple[Check, ...]:
    """Check that private blocks came to those who may read them alone: no check where there can be none."""
    if not facts.private:
        return ()
    rows = {row.version: row for row in facts.calls}
    admitted = sum(row.admitted for row in facts.calls)
    own = Check(
        name="private blocks came back to their owners and readers", held=admitted > 0, detail=f"{admitted:,} calls"
    )
    checks = [own]
    for version in facts.versions:
        refused = dict(rows[version].refused) if version in rows else {}
        leaked = rows[version].leaked if version in rows else 0
        seen = [f"{count:,} {status}" for status, count in sorted(refused.items())] or ["no try was made"]
        leaks = [f"{leaked:,} came back"] if leaked else []
        name = f"version {version} clients were refused others' private blocks"
        checks.append(Check(name=name, held=bool(refused) and not leaked, detail=_some(leaks + seen)))
    return tuple(checks)


def _replaced_once(facts: Facts) -> Check:
    nodes = _nodes(facts)
    wrong = [text for node in facts.nodes if (text := _replacement_fault(facts, node, nodes.get(node)))]
    upgrades = sum(len(node.upgrades) for node in nodes.values())
    others = " and ".join([f"{len(facts.nodes)} others"] * (len(facts.versions) - 1))
    if upgrades != len(facts.nodes) * (len(facts.versions) - 1):  # some went through several releases at once
        others = f"{upgrades} others"
    detail = _some(wrong) if wrong else f"{len(facts.nodes)} before, {others} after"
    held = not wrong and bool(facts.nodes)
    return Check(name="each node's process was replaced exactly once per upgrade", held=held, detail=detail)


def _replacement_fault(facts: Facts, node: NodeId, status: NodeStatus | None) -> str | None:
    before = facts.pids_before.get(node)
    if status is None or before is None or status.pid is None:
        return f"{node}'s process was not seen"
    steps = [(row.from_version, row.to_version) for row in status.upgrades]
    stops = [*(old for old, _ in steps), *(new for _, new in steps[-1:])]
    goes_on = all(one[1] == two[0] for one, two in pairwise(steps))
    if not (goes_on and stops[:1] == [facts.versions[0]] and stops[-1:] == [facts.versions[-1]] and len(stops) > 1):
        seen = ", ".join(f"{old} to {new}" for old, new in steps) or "no upgrade"
        return f"{node} went through {seen}"
    pids = [before, *(row.pids[1] for row in status.upgrades)]
    reported = " to ".join(str(pid) for row in status.upgrades for pid in row.pids)
    if [row.pids[0] for row in status.upgrades] != pids[:-1] or pids[-1] != status.pid or len({*pids}) < len(pids):
        return f"{node} was process {before}, is {status.pid}, and reports {reported}"
    left = sorted(facts.pids_left.intersection(pids))
    if left:
        return f"{node}'s process {_some([str(pid) for pid in left])} has not ended"
    others = set(facts.pids_seen.get(node, ())) - set(pids)
    if others:
        return f"{node} was also process {_some([str(pid) for pid in sorted(others)])}"
    return None


def _few_away(facts: Facts) -> Check:
    permits, nodes = facts.status.permits if facts.status else (), _nodes(facts).values()
    away, free = absences(permits, nodes), without_permit(permits, nodes)
    held, seen = bool(permits) and not free, []
    for budget in loosest(facts.rules.values()):
        groups = max_away_per_group(away, nodes, budget)
        most = max(groups.values(), default=0)
        held = held and most <= budget.limit_of(len(nodes))
        seen.append(f"{most} of {budget.limit}" + (f" in one {budget.per}" if budget.per else ""))
    if free:
        seen.append(f"away outside of its permit: {_some(list(free))}")
    elif not permits:
        seen = ["no node was away"]
    detail = "; ".join(seen) or f"at most {max_away(away)} at once, any number allowed"
    return Check(name="never more nodes away than the schedule allows", held=held, detail=detail)


def _canaries(facts: Facts, version: Version) -> tuple[Check, ...]:
    """Check that the other nodes waited for a version's canaries: no check where its schedule has none."""
    canary = facts.rules[version].canary
    if canary is None:
        return ()
    assert isinstance(canary.nodes, int), canary  # so are the demo's releases
    name = f"the other nodes waited for the canary of version {version}"
    given = facts.status.permits if facts.status else ()
    permits = sorted((one for one in given if one.to_version == version), key=lambda permit: permit.granted_at)
    first, others = permits[: canary.nodes], permits[canary.nodes :]
    nodes = _nodes(facts)
    rows = [row for permit in first for row in nodes[NodeId(permit.node)].upgrades]
    serving = [row.serving_at for row in rows if row.to_version == version]
    if not others or not serving or len(serving) < len(first):
        return (Check(name=name, held=False, detail="no canary went and came back before others"),)
    soaked_s = (others[0].granted_at - max(serving)).total_seconds()
    who = ", ".join(permit.node for permit in first)
    detail = f"{who} served {soaked_s:.1f} s, {canary.soak_s:g} s asked for"
    return (Check(name=name, held=soaked_s >= canary.soak_s, detail=detail),)


def _mixed(facts: Facts, caller: Version, answered_by: AnsweredBy, *, from_node: bool) -> Check:
    callers = "nodes" if from_node else "clients"
    answerers = "upgraded nodes" if answered_by == "past" else "nodes not yet upgraded"
    rows = facts.status.usage if facts.status else ()
    count = sum(
        row.count
        for row in rows
        if (row.caller_version, row.answered_by, row.from_node, row.outcome) == (caller, answered_by, from_node, "OK")
    )
    name = f"version {caller} {callers} were answered by {answerers}"
    return Check(name=name, held=count > 0, detail=f"{count:,} calls")


def _through_several(facts: Facts) -> tuple[Check, ...]:
    """Look for calls of the oldest version at nodes of the newest, where others lie between.

    The other way round is not asked for: on a fast machine all nodes may have left the oldest version before
    clients of the newest make their first call.
    """
    oldest, newest = facts.versions[0], facts.versions[-1]
    if newest - oldest == 1:
        return ()
    rows = facts.status.usage if facts.status else ()
    count = sum(
        row.count for row in rows if (row.caller_version, row.node_version, row.outcome) == (oldest, newest, "OK")
    )
    name = f"version {oldest} was answered at version {newest}, through {newest - oldest} simulations"
    return (Check(name=name, held=count > 0, detail=f"{count:,} calls"),)


def _nodes(facts: Facts) -> dict[NodeId, NodeStatus]:
    return {NodeId(node.id): node for node in facts.status.nodes} if facts.status else {}


def _some(texts: list[str]) -> str:
    more = f" and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return "; ".join(texts[:_NAMED]) + more
