"""Rule: the OpenAPI document says all that can be asked and answered, in words for people."""

from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, Response

from segue.server.app import create_app
from segue.server.bundles import BundleFolder
from segue.server.memory import MemoryStore
from segue.testing.declared import DeclaredTransport, UndeclaredError
from segue.testing.server import Bench, open_bench
from segue.wire.messages import ReleaseNotice


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return create_app(MemoryStore(), BundleFolder(tmp_path))


def test_every_operation_is_described(app: FastAPI) -> None:
    operations = [
        (path, operation) for path, methods in app.openapi()["paths"].items() for operation in methods.values()
    ]
    assert sorted(operation["operationId"] for _, operation in operations) == [
        "act",
        "ask_for_permit",
        "fetch_bundle",
        "list_releases",
        "publish_release",
        "report_alive",
        "report_heartbeat",
        "return_a_permit",
        "show_history",
        "show_metrics",
        "show_node",
        "show_status",
        "show_summary",
        "watch_events",
    ]
    for path, operation in operations:
        assert operation["summary"], path
        assert operation["description"], path
        assert all(parameter["description"] for parameter in operation.get("parameters", [])), path
        for status in ("422", "500", "503"):
            schema = operation["responses"][status]["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/Refusal"}, (path, status)
        assert "HTTPValidationError" not in str(operation), path


def test_bundles_are_declared_as_bytes(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    binary = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    assert paths["/v1/releases"]["post"]["requestBody"]["content"] == binary
    assert paths["/v1/bundles/{sha256}"]["get"]["responses"]["200"]["content"] == binary


@pytest.fixture
def odd() -> FastAPI:
    app = FastAPI()

    @app.get("/status")
    def status(response: Response) -> int:
        response.status_code = 202
        return 1

    @app.get("/body")
    def body() -> Response:
        return Response("text", media_type="text/plain")

    @app.get("/field", response_model=ReleaseNotice)
    def field() -> Response:
        return Response('{"version": "1"}', media_type="application/json")

    return app


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/status", "declared are 200"),
        ("/body", "a body of text/plain"),
        ("/field", "missing"),
        ("/docs", "no such path"),
    ],
)
async def test_the_checker_sees_what_is_not_declared(odd: FastAPI, path: str, message: str) -> None:
    async with httpx.AsyncClient(transport=DeclaredTransport(odd), base_url="http://odd") as http:
        with pytest.raises(UndeclaredError, match=message):
            await http.get(path)


class BrokenStore(MemoryStore):
    """A store with a bug."""

    def history_of(self, system: object) -> tuple[()]:
        raise RuntimeError("a secret of the server")


async def test_the_servers_own_fault_is_told_as_such(tmp_path: Path) -> None:
    app = create_app(BrokenStore(), BundleFolder(tmp_path))
    transport = DeclaredTransport(app, raise_faults=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://segue") as http:
        response = await http.get("/v1/systems/blockstore/releases")
    assert response.status_code == 500
    assert response.json()["family"] == "peer"
    assert "secret" not in response.text


async def test_answers_are_seen(tmp_path: Path) -> None:
    bench: Bench
    async with open_bench(MemoryStore(), tmp_path) as bench:
        await bench.beat("n1", 0)
        assert bench.transport.seen == {("report_heartbeat", 200)}
