"""Rule: the only clock is the database's; no module of the upgrade server reads another, but for how long it waits."""

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

import segue.server
from segue.model.ids import NodeId
from segue.testing.postgresql import Postgresql, is_required
from segue.testing.server import SYSTEM, bundle_of
from segue.wire.client import UpgradeServer
from segue.wire.messages import Heartbeat, PermitRequest

#: What reads the time, and in SQLite's case is the database's clock.
READS = re.compile(r"datetime\.now|SystemClock|time\.time\(|utcnow")


def test_no_server_reads_a_clock_of_its_own() -> None:
    (folder,) = segue.server.__path__
    found = {path.name for path in Path(folder).rglob("*.py") if READS.search(path.read_text())}
    # The memory store and SQLite are in the server's process: its clock is theirs. In `app` it says since when a
    # webhook gives its answer.
    assert found == {"app.py", "memory.py", "sqlite.py"}


HOUR = timedelta(hours=1)
#: More than all of this takes, and far less than an hour.
SOON = timedelta(minutes=5)


def an_hour_ahead() -> Mapping[str, str]:
    """Return an environment in which a process takes it for an hour later than it is."""
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        if is_required(os.environ):
            raise AssertionError("libfaketime is not here: apt install faketime")
        pytest.skip("libfaketime is not here: apt install faketime")
    # How long something takes is to stay as it is: time-outs in threads go by a clock that cannot be shifted.
    return {"LD_PRELOAD": str(found[0]), "FAKETIME": "+3600", "DONT_FAKE_MONOTONIC": "1"}


@contextmanager
def segue_server(database: str, environment: Mapping[str, str]) -> Iterator[str]:
    """Run an upgrade server in a process of its own, and return its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "segue", "server", "--listen", f"127.0.0.1:{port}", "--database", database]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **environment})
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == f"upgrade server at http://127.0.0.1:{port}\n"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.communicate()


async def clock_of(url: str) -> datetime:
    """Return what the process of a server takes for the time, by the header that says when it answered."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        answer = await http.get("/openapi.json")
    return parsedate_to_datetime(answer.headers["date"]).astimezone(UTC)


def database_time(database: str) -> datetime:
    with psycopg.connect(database) as raw:
        row = raw.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    at: datetime = row[0]
    return at.astimezone(UTC)


async def until_tended(database: str) -> None:
    """Wait until a server has looked after the database that did not before."""
    before = database_time(database)
    with psycopg.connect(database, autocommit=True) as raw:
        while True:
            (row,) = raw.execute("SELECT max(done_at) FROM chores").fetchall()
            if row[0] > before:
                return
            await asyncio.sleep(0.2)


def times_in(value: Any, name: str = "") -> Iterator[tuple[str, datetime]]:
    """Find the times in an answer, each with what it is called."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from times_in(inner, key)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from times_in(inner, name)
    elif isinstance(value, datetime):
        yield name, value


@pytest.mark.timeout(120)
async def test_a_server_whose_clock_is_an_hour_ahead(postgresql_server: Postgresql) -> None:
    """With one that goes right, it is one service: permits, leases and history are of the database's time."""
    ahead = an_hour_ahead()
    database = postgresql_server.make_database("two_clocks")
    began = database_time(database)
    said = Heartbeat(class_name="BlockNode", version=1, address="h:1", phase="waiting")
    request = PermitRequest(class_name="BlockNode", from_version=1, to_version=2)
    n1, n2 = NodeId("n1"), NodeId("n2")
    with segue_server(database, ahead) as wrong_url:
        async with UpgradeServer(wrong_url) as wrong:
            with segue_server(database, {}) as right_url:
                differ = await clock_of(wrong_url) - await clock_of(right_url)
                assert HOUR - SOON < differ < HOUR + SOON
                async with UpgradeServer(right_url) as right:
                    await right.publish(bundle_of(1))
                    await wrong.publish(bundle_of(2, schedule="max_unavailable = 1"))
                    await right.heartbeat(SYSTEM, n1, said)
                    await wrong.heartbeat(SYSTEM, n2, said)
                    permit = (await right.ask_permit(SYSTEM, n1, request)).permit
                    assert permit is not None
                    assert (await wrong.ask_permit(SYSTEM, n1, request)).permit == permit
                    assert (await wrong.ask_permit(SYSTEM, n2, request)).permit is None
            # The one that is left looks after the leases now.
            await until_tended(database)
            assert (await wrong.ask_permit(SYSTEM, n2, request)).permit is None
            status = await wrong.status(SYSTEM)
            await wrong.return_permit(SYSTEM, n1, permit)
            granted = await wrong.ask_permit(SYSTEM, n2, request)
            assert granted.permit is not None
            with segue_server(database, {}) as right_url:
                async with UpgradeServer(right_url) as right:
                    assert (await right.ask_permit(SYSTEM, n2, request)).permit == granted.permit
                    histories = [await server.history(SYSTEM) for server in (wrong, right)]
            assert histories[0] == histories[1]
            found = {entry.kind for entry in histories[0].entries}
            assert {"published", "granted", "returned"} <= found
            assert not {"lapsed", "renewed"} & found
            ended = database_time(database)
            times = [entry.at for entry in histories[0].entries]
            times += [at for _, at in times_in(status.model_dump())]
    assert len(times) > len(histories[0].entries)
    assert all(began <= at <= ended for at in times), (began, times, ended)
    assert ended - began < SOON
