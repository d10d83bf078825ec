"""A heartbeat can be sent, whatever processes left and authors' code said."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import pytest

from segue import journey
from segue.journey import Phase
from segue.model.disk import Disk
from segue.model.ids import ClassName, NodeId, SystemName
from segue.model.progress import Progress
from segue.model.usage import OTHERS
from segue.node.control import AuthorCodeError, details_of, one_line
from segue.node.reports import Condition, Reports, heartbeat
from segue.node.settings import NodeSettings
from segue.wire.messages import Heartbeat

#: As a process left its last counts before callers were counted.
LEFT = {
    "pid": 1, "phase": "ending", "incarnation": "abc", "node_version": 1, "answers": [1], "facts": {},
    "calls": [{
        "caller_version": 1, "method": "/s/Get", "answered_by": "current", "from_node": False, "outcome": "OK",
        "count": 3,
    }],
}  # fmt: skip


@pytest.fixture
def settings(tmp_path: Path) -> NodeSettings:
    return NodeSettings(
        server_url="http://segue", system=SystemName("s"), class_name=ClassName("C"), node_id=NodeId("n1"),
        address="h:1", state=tmp_path,
    )  # fmt: skip


async def test_counts_of_a_process_of_an_older_segue_are_reported(settings: NodeSettings, tmp_path: Path) -> None:
    (tmp_path / "abc.json").write_text(json.dumps(LEFT))
    gathered = await Reports(tmp_path).gather(())
    said = heartbeat(settings, journey.Journey(), pid=None, process_reports=gathered.reports)
    (row,) = said.usage
    assert (row.node_version, row.caller, row.count) == (1, OTHERS, 3)


def test_a_traceback_that_no_encoding_takes_is_reported(settings: NodeSettings) -> None:
    """Python reads a file's name that is no UTF-8 into half characters."""
    error = AuthorCodeError("it broke", "cannot read \udc80")
    at = journey.Journey(phase=Phase.SERVING, failure=one_line(error), failure_details=details_of(error))
    said = heartbeat(settings, at, pid=None, process_reports=()).model_dump_json()
    assert "cannot read" in said


def test_how_a_node_is_arrives_as_it_is(settings: NodeSettings) -> None:
    noon = datetime(2030, 1, 1, 12, tzinfo=UTC)
    disk = Disk(state_bytes=5, old_bytes=4, releases_bytes=3, free_bytes=2, measured_at=noon)
    condition = Condition(
        hand_over="stop and start", progress=Progress(items_done=1, items_total=4), attempts=2, attempts_limit=3,
        retry_at=noon, waits_for_operator=True, crashes=7, disk=disk,
    )  # fmt: skip
    said = heartbeat(settings, journey.Journey(), pid=None, process_reports=(), condition=condition)
    arrived = Heartbeat.model_validate_json(said.model_dump_json())
    assert (arrived.hand_over, arrived.attempts, arrived.attempts_limit) == ("stop and start", 2, 3)
    assert (arrived.retry_at, arrived.waits_for_operator, arrived.crashes) == (noon, True, 7)
    assert arrived.progress is not None
    assert arrived.progress.share == 0.25
    assert arrived.disk is not None
    assert arrived.disk.model_dump() == asdict(disk)


def test_whatever_an_author_counts_can_be_reported(settings: NodeSettings) -> None:
    """A count that no column holds must not end the reports."""
    condition = Condition(progress=Progress(items_done=10**30, items_total=10**40))
    said = heartbeat(settings, journey.Journey(), pid=None, process_reports=(), condition=condition)
    assert Heartbeat.model_validate_json(said.model_dump_json()).progress is not None
