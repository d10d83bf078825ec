"""Rule: a server that cannot reach its database says so and until when, and goes on by itself when it is back.

That holds from its start. What no waiting mends ends it: at once, or as soon as it shows.
"""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from sqlalchemy import make_url

from segue.errors import OperatorError, PeerError
from segue.server.sql import SqlStore
from segue.testing.postgresql import Postgresql
from segue.testing.server import SYSTEM, bundle_of, open_bench


@pytest.fixture
def url(postgresql_server: Postgresql) -> Iterator[str]:
    yield postgresql_server.empty_database("segue")
    postgresql_server.start_again()


@pytest.mark.timeout(90)
async def test_503_and_back(url: str, postgresql_server: Postgresql, tmp_path: Path) -> None:
    with closing(SqlStore(url)) as store:
        async with open_bench(store, tmp_path) as bench:
            for version in (1, 2):
                await bench.server.publish(bundle_of(version))
            await bench.beat("n1")
            permit = (await bench.ask("n1")).permit
            postgresql_server.stop()
            for _ in range(2):
                response = await bench.http.get(f"/v1/systems/{SYSTEM}/status")
                assert (response.status_code, response.headers["retry-after"]) == (503, "1")
                assert response.json()["family"] == "peer"
                assert "does not answer" in response.json()["message"]
            with pytest.raises(PeerError) as raised:
                await bench.beat("n1")
            assert raised.value.retry_after_s == 1
            postgresql_server.start_again()
            for attempt in range(20):
                try:
                    await bench.beat("n1")
                    break
                except PeerError:
                    assert attempt < 19, "connections from before are not given up"
            assert (await bench.ask("n1")).permit == permit
            await bench.give_back("n1", permit)


@contextmanager
def segue_server(database: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `segue server`, and return its process and its URL once it listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "segue", "server", "--database", database, "--listen", f"127.0.0.1:{port}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"upgrade server at http://127.0.0.1:{port}\n"
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


async def until(http: httpx.AsyncClient, path: str, is_so: Callable[[httpx.Response], bool]) -> None:
    """Ask until it is so."""
    while True:
        if is_so(await http.get(path)):
            return
        await asyncio.sleep(0.2)


@pytest.mark.timeout(120)
async def test_a_server_that_starts_first(url: str, postgresql_server: Postgresql) -> None:
    """Its tables are made when the database comes."""
    assert url
    later = postgresql_server.make_database("later")
    postgresql_server.stop()
    with segue_server(later) as (process, there):
        async with httpx.AsyncClient(base_url=there, timeout=60) as http:
            for method, path in (("GET", "/releases"), ("POST", "/nodes/n1/alive"), ("GET", "/status")):
                answer = await http.request(method, f"/v1/systems/{SYSTEM}{path}", json={"tag": "t"})
                assert (answer.status_code, answer.json()["family"]) == (503, "peer"), path
                assert int(answer.headers["retry-after"]) >= 1
                assert "does not answer: " in answer.json()["message"]
            metrics = (await http.get("/metrics")).text
            assert "segue_database_up 0.0" in metrics
            assert "segue_releases{" not in metrics
            postgresql_server.start_again()
            await until(http, f"/v1/systems/{SYSTEM}/releases", lambda answer: answer.status_code == 404)
            await until(http, "/metrics", lambda answer: "segue_database_up 1.0" in answer.text)
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert "does not answer" in said.splitlines()[0]
    assert said.splitlines()[0].endswith("it is waited for, and requests are answered with 503 until it is there")
    assert str(make_url(later).password) not in said


@pytest.mark.timeout(120)
async def test_several_that_start_first(url: str, postgresql_server: Postgresql) -> None:
    """One of them makes the tables."""
    assert url
    later = postgresql_server.make_database("later_for_three")
    postgresql_server.stop()
    stores = [SqlStore(later) for _ in range(3)]
    for store in stores:
        with pytest.raises(PeerError, match="does not answer"):
            store.now()
    postgresql_server.start_again()

    async def until_there(store: SqlStore) -> None:
        while True:
            try:
                assert await asyncio.to_thread(store.systems) == ()
                return
            except PeerError:
                await asyncio.sleep(0.2)

    async with asyncio.TaskGroup() as tasks:
        for store in stores:
            tasks.create_task(until_there(store))
    for store in stores:
        store.close()


@pytest.mark.timeout(120)
def test_a_newer_database_that_comes_later_ends_the_server(url: str, postgresql_server: Postgresql) -> None:
    assert url
    later = postgresql_server.make_database("later_and_newer")
    SqlStore(later).close()
    with psycopg.connect(later) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    postgresql_server.stop()
    with segue_server(later) as (process, _):
        postgresql_server.start_again()
        _, said = process.communicate(timeout=90)
        assert process.returncode == 1
    assert said.splitlines()[-1].startswith("segue: postgresql://")
    assert said.splitlines()[-1].endswith("it was used by a newer version; start that one")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"username": "nobody"}, 'password authentication failed for user "nobody"'),
        ({"password": "secret"}, "password authentication failed"),
        ({"database": "not_there"}, 'database "not_there" does not exist'),
        ({"host": "h" * 64}, "no host has such a name"),
        ({"query": {"sslmode": "maybe"}}, "sslmode"),
    ],
)
def test_what_no_waiting_mends_is_told_at_once(
    url: str, wrong: dict[str, Any], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    given = make_url(url).set(**wrong).render_as_string(hide_password=False)
    with pytest.raises(OperatorError, match=r"cannot be used as the upgrade database: .*put that right") as raised:
        SqlStore(given)
    assert message in str(raised.value)
    assert ":***@" in str(raised.value)
    assert not caplog.records
