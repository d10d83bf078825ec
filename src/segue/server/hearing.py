"""Which heartbeats are taken: a node's id is one node's, its class stays, and it runs what was published. Pure.

Who is refused goes on serving its callers, and tries again: nothing here is about the node's own health.
"""

from segue.model.ids import SystemName, Version
from segue.model.silence import silent_after_s
from segue.server.facts import NodeRecord
from segue.server.refusals import ConflictError
from segue.wire.messages import AgentRow


def check_report(system: SystemName, before: NodeRecord | None, heard: NodeRecord, newest: Version) -> str | None:
    """Say what becomes of a permit that the node holds, when it reports.

    Args:
        system: the node's.
        before: what was last heard of it; None if nothing was, or if it is forgotten.
        heard: what it says now, with the time of that.
        newest: the newest release of the system, 0 if there is none.

    Returns:
        Why its permit ends, as the agent that has it is gone; None if it stays as it is.

    Raises:
        ConflictError: it runs what was never published here, it was of another class, or another agent speaks for the
            node.

    Source: docs/odd-input.md.
    """
    if heard.version > newest:
        raise ConflictError(_unknown_version(system, heard, newest))
    if before is None:
        return None
    was, now = before.said.class_name, heard.said.class_name
    if was != now and before.version:
        raise ConflictError(
            f"node {heard.id} of system {system} is of class {was}, and reports as {now}: a node stays of its class. "
            f"Give the one of class {now} an id of its own with --id, or forget the other first (`segue forget`)"
        )
    if not is_another(before, heard.said.agent):
        return None
    agent = before.said.agent
    assert agent is not None, before
    silent_s = silent_after_s(agent.report_s)
    gone_s = abs((heard.last_seen - before.last_seen).total_seconds())  # a clock that was put back says nothing
    if gone_s < silent_s:
        raise ConflictError(_two_agents(system, before, heard, gone_s=gone_s, silent_s=silent_s))
    return f"the node began on another state folder, at {heard.said.address}" if _moved(agent, heard) else None


def is_another(before: NodeRecord, agent: AgentRow | None) -> bool:
    """Say whether `agent` is another than the one that spoke for the node, and does not follow it on its state folder.

    An agent of a Segue from before does not say which it is, and is believed.
    """
    known = before.said.agent
    if known is None or agent is None:
        return False
    return agent.folder != known.folder or (agent.starts <= known.starts and agent.run != known.run)


def check_request(before: NodeRecord, agent: AgentRow | None) -> None:
    """Refuse a request for a permit by an agent whose heartbeats are not taken: two would go away on one permit.

    Raises:
        ConflictError: another agent speaks for the node.
    """
    if is_another(before, agent):
        raise ConflictError(
            f"another agent than this one speaks for node {before.id}, at {before.said.address}: see what the upgrade "
            "server answers to this one's reports"
        )


def _moved(agent: AgentRow, heard: NodeRecord) -> bool:
    return heard.said.agent is not None and heard.said.agent.folder != agent.folder


def _unknown_version(system: SystemName, heard: NodeRecord, newest: Version) -> str:
    first = newest + 1
    missing = f"release {first}" if first == heard.version else f"releases {first} to {heard.version}"
    there = f"the newest release of {system} here is {newest}" if newest else f"no release of {system} is here"
    return (
        f"node {heard.id} runs version {heard.version}, and {there}: if the upgrade database is older than the fleet, "
        f"publish {missing} again, the very same bundles; else the node is at the wrong upgrade server"
    )


def _two_agents(system: SystemName, before: NodeRecord, heard: NodeRecord, *, gone_s: float, silent_s: float) -> str:
    agent = before.said.agent
    assert agent is not None, before
    whose = "a state folder of its own" if _moved(agent, heard) else "a copy of the same state folder"
    return (
        f"node {heard.id} of system {system} is at {before.said.address}, seen {gone_s:.0f} s ago, and another agent "
        f"reports as {heard.id} from {heard.said.address}, on {whose}: end one of them, or give one another --id and "
        f"an empty --state. An agent takes the other's place when that was silent for {silent_s:g} s, or was forgotten "
        "(`segue forget`)"
    )
