"""Rule: whatever is sent, the answer is one that the OpenAPI document has, and no fault of the server's.

schemathesis reads the document, and thinks of requests for all that it has, right and wrong ones; what is new there is
tried without a line here. The seed is fixed: a failure comes again, with the command that sends the request.
"""

import asyncio
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance

from segue.model.ids import NAME_PATTERN, NodeId
from segue.release.bundle import content_hash
from segue.server.app import create_app
from segue.server.bundles import BundleFolder
from segue.server.sql import SqlStore
from segue.testing.server import SYSTEM, HeldClock, bundle_of
from segue.wire.client import UpgradeServer
from segue.wire.messages import Heartbeat, PermitRequest

pytestmark = pytest.mark.timeout(120)

FOLDER = tempfile.TemporaryDirectory()
STORE = SqlStore(Path(FOLDER.name) / "database.sqlite", clock=HeldClock())
APP = create_app(STORE, BundleFolder(Path(FOLDER.name) / "bundles"), limit_bytes=100_000)
CONFIG = SchemathesisConfig.from_dict(
    {"seed": 5, "generation": {"max-examples": 40, "deterministic": True, "no-shrink": True}}
)
#: What is there, to be found by requests: else most would be told that there is nothing.
KNOWN: dict[str, list[Any]] = {
    "system": [SYSTEM], "node": ["n1", "n2"], "class_name": ["BlockNode"], "version": [1], "from_version": [1],
    "to_version": [2, 3], "sha256": [content_hash(bundle_of(1))], "permit": [],
}  # fmt: skip


def _is_stream(context: Any) -> bool:
    """Say whether an operation answers with events, for ever."""
    answers = context.operation.definition.raw["responses"].values()
    return any("text/event-stream" in answer.get("content", {}) for answer in answers)


SCHEMA = schemathesis.openapi.from_asgi("/openapi.json", APP, config=CONFIG).exclude(_is_stream)


@SCHEMA.hook
def before_generate_case(context: Any, strategy: Any) -> Any:
    """Have every other request be about what is there, where it has something that could be."""

    def directed(case: Any, picks: dict[str, int] | None) -> Any:
        for place in (case.path_parameters, case.body) if picks else ():
            for name, pick in (picks or {}).items():
                if isinstance(place, dict) and _could_be(place.get(name)):
                    place[name] = KNOWN[name][pick % len(KNOWN[name])]
        return case

    return st.builds(directed, strategy, st.none() | st.fixed_dictionaries(dict.fromkeys(KNOWN, st.integers(0, 3))))


def _could_be(value: object) -> bool:
    if isinstance(value, str):
        return re.fullmatch(NAME_PATTERN, value) is not None
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31


async def _fill() -> None:
    """Put three releases and two nodes there, one of which is away."""
    async with UpgradeServer("http://segue", transport=httpx.ASGITransport(app=APP)) as server:
        for version in (1, 2, 3):
            await server.publish(bundle_of(version))
        for node in KNOWN["node"]:
            said = Heartbeat(class_name="BlockNode", version=1, address="127.0.0.1:9001", phase="waiting")
            await server.heartbeat(SYSTEM, NodeId(node), said)
        request = PermitRequest(class_name="BlockNode", from_version=1, to_version=2)
        answer = await server.ask_permit(SYSTEM, NodeId("n1"), request)
        assert answer.permit is not None
        KNOWN["permit"].append(answer.permit)


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    asyncio.run(_fill())
    yield
    STORE.close()
    FOLDER.cleanup()


@SCHEMA.parametrize()
def test_any_request(case: Any) -> None:
    # That the bytes are a bundle, and have the hash that goes with them, no document can say, nor which of the fields
    # an operator's deed takes: most are refused.
    is_more = case.media_type == "application/octet-stream" or case.path.endswith("/actions")
    case.call_and_validate(excluded_checks=[positive_data_acceptance] if is_more else [])


def test_all_but_endless_streams_are_tried() -> None:
    """What is left out is left out for what it answers, and nothing else is."""
    operations = [found.ok() for found in SCHEMA.get_all_operations() if isinstance(found, Ok)]
    tried = {f"{one.method.upper()} {one.path}" for one in operations}
    there = {
        f"{method.upper()} {path}": operation["responses"]
        for path, methods in APP.openapi()["paths"].items()
        for method, operation in methods.items()
    }
    assert "POST /v1/systems/{system}/nodes/{node}/heartbeat" in tried
    assert tried == {name for name, answers in there.items() if "text/event-stream" not in str(answers)}
