"""Rule: a wrong field is refused in one line that names the field, the value and what was expected."""

from typing import Any

import pytest

from segue.errors import SegueError
from segue.server.memory import MemoryStore
from segue.server.refusals import refusal_of
from segue.server.store import Store
from segue.testing.server import Bench, bundle_of


@pytest.fixture
def store() -> Store:
    """One store will do: what is refused here reaches none."""
    return MemoryStore()


HEARTBEAT: dict[str, Any] = {"class_name": "BlockNode", "version": 1, "address": "h:1", "phase": "serving"}
USAGE: dict[str, Any] = {
    "incarnation": "a",
    "node_version": 1,
    "caller_version": 1,
    "caller": "billing",
    "method": "/s/M",
    "answered_by": "current",
    "from_node": False,
    "outcome": "OK",
    "count": 1,
}
REQUEST: dict[str, Any] = {"class_name": "BlockNode", "from_version": 1, "to_version": 2}
_NAMES = "should be 1 to 63 letters, digits, dots, dashes or underscores, a letter or digit first"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"version": -1}, "version is -1: should be greater than or equal to 0"),
        ({"version": "one"}, "version is 'one': should be a valid integer"),
        ({"version": True}, "version is True: should be a valid integer"),
        ({"waits_for_operator": 1}, "waits_for_operator is 1: should be a valid boolean"),
        ({"retry_at": 1893499200},
         "retry_at is 1893499200: should be a time and its zone, such as 2030-01-01T12:00:00Z"),
        ({"retry_at": "1893499200"},
         "retry_at is '1893499200': should be a time and its zone, such as 2030-01-01T12:00:00Z"),
        ({"version": 10**30}, f"version is {10**30}: should be less than or equal to 2147483647"),
        ({"class_name": "no name"}, f"class_name is 'no name': {_NAMES}"),
        ({"address": None}, "address is None: should be a valid string"),
        ({"facts": {"free": "x"}}, "facts.free is 'x': should be a valid number"),
        ({"facts": {"free": 10**400}}, None),
        ({"usage": [USAGE, {**USAGE, "count": -3}]}, "usage[1].count is -3: should be greater than or equal to 0"),
        ({"usage": [{**USAGE, "answered_by": "me"}]},
         "usage[0].answered_by is 'me': should be 'current', 'past' or 'future'"),
        ({"upgrades": [{}]},
         "upgrades[0].from_version is missing: it must be given; upgrades[0].to_version is missing: it must be given; "
         "upgrades[0].pids is missing: it must be given; and 6 more"),
        ({"address": 7, "phase": ["x" * 99]}, f"address is 7: should be a valid string; "
                                               f"phase is ['{'x' * 58}…: should be a valid string"),
    ],
)  # fmt: skip
async def test_heartbeat(bench: Bench, wrong: dict[str, Any], message: str | None) -> None:
    path = "/v1/systems/blockstore/nodes/n1/heartbeat"
    status, refusal = await bench.error("POST", path, json={**HEARTBEAT, **wrong})
    assert (status, refusal["family"]) == (422, "operator")
    if message is not None:
        assert refusal["message"] == message
    assert "\n" not in refusal["message"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({**REQUEST, "to_version": 0}, "to_version is 0: should be greater than or equal to 1"),
        ({**REQUEST, "to_version": 2.5},
         "to_version is 2.5: should be a valid integer, got a number with a fractional part"),
        ({}, "class_name is missing: it must be given; from_version is missing: it must be given; "
             "to_version is missing: it must be given"),
        (["n1"], "the body is ['n1']: should be a valid dictionary or object to extract fields from"),
        (None, "the body is missing: it must be given"),
    ],
)  # fmt: skip
async def test_permit_request(bench: Bench, body: object, message: str) -> None:
    status, refusal = await bench.error("POST", "/v1/systems/blockstore/nodes/n1/permits", json=body)
    assert (status, refusal) == (422, {"family": "operator", "message": message})


@pytest.mark.parametrize(
    ("method", "path", "message"),
    [
        ("GET", "/v1/systems/-x/status", f"path parameter system is '-x': {_NAMES}"),
        ("GET", "/v1/bundles/ABC", "path parameter sha256 is 'ABC': should be 64 hexadecimal digits in lower case"),
        ("POST", "/v1/releases", "query parameter sha256 is missing: it must be given"),
    ],
)
async def test_address(bench: Bench, method: str, path: str, message: str) -> None:
    status, refusal = await bench.error(method, path)
    assert (status, refusal) == (422, {"family": "operator", "message": message})


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff", b"[" * 1000, b'{"class_name": "A", "version": 1, "address": "\\ud800", "phase": "x"}',
     b'{"class_name": "A", "version": 1, "address": "", "phase": "x", "facts": {"f": NaN}}'],
)  # fmt: skip
async def test_what_is_no_json_is_refused(bench: Bench, body: bytes) -> None:
    """Half a character or a NaN would be taken, stored, and then break the status for everybody."""
    headers = {"Content-Type": "application/json"}
    path = "/v1/systems/blockstore/nodes/n1/heartbeat"
    status, refusal = await bench.error("POST", path, content=body, headers=headers)
    assert (status, refusal["family"]) == (422, "operator")
    assert (await bench.http.get("/v1/systems/blockstore/status")).status_code == 404


async def test_fields_of_a_younger_node_are_taken(bench: Bench) -> None:
    await bench.server.publish(bundle_of(1))
    said = {**HEARTBEAT, "mood": "fine", "usage": [{**USAGE, "colour": "red"}]}
    response = await bench.http.post("/v1/systems/blockstore/nodes/n1/heartbeat", json=said)
    assert response.json() == {"newest": 1, "first": 0, "oldest": 0, "retry": None, "tag": "said-1", "full": False}
    assert (await bench.http.get("/v1/systems/blockstore/status")).json()["nodes"][0]["answered"] == {"1": 1}


async def test_a_path_that_is_not_there_is_refused(bench: Bench) -> None:
    status, refusal = await bench.error("GET", "/v2/releases")
    assert (status, refusal["family"]) == (404, "operator")
    assert "nothing answers GET /v2/releases here" in refusal["message"]
    await bench.server.publish(bundle_of(1))
    status, refusal = await bench.error("DELETE", "/v1/releases")
    assert status == 405


def test_every_family_has_a_status() -> None:
    """An error of ours that is of no family is a bug, and is not told as somebody's fault."""
    with pytest.raises(AssertionError, match="of no family"):
        refusal_of(SegueError("x"))
