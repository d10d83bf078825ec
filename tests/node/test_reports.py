"""A heartbeat can be sent, whatever processes left and authors' code said."""

import json
from pathlib import Path

import pytest

from segue import journey
from segue.journey import Phase
from segue.model.ids import ClassName, NodeId, SystemName
from segue.model.usage import OTHERS
from segue.node.control import AuthorCodeError, details_of, one_line
from segue.node.reports import Reports, heartbeat
from segue.node.settings import NodeSettings

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
