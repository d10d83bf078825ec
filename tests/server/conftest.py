"""A server in this process, on the database in memory, on SQLite, and on a PostgreSQL of the tests' own."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from segue.server.memory import MemoryStore
from segue.server.sql import SqlStore
from segue.testing.postgresql import NoPostgresqlError, Postgresql, is_required, postgresql
from segue.testing.server import Bench, open_bench


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Postgresql]:
    """One for all tests; where PostgreSQL is not installed they are skipped, and fail where tests must be complete."""
    try:
        with postgresql() as server:
            yield server
    except NoPostgresqlError as error:
        if is_required(os.environ):
            raise
        pytest.skip(str(error))


@pytest.fixture
def postgresql_url(postgresql_server: Postgresql) -> str:
    """An upgrade database without rows."""
    return postgresql_server.empty_database("segue")


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MemoryStore | SqlStore]:
    if request.param == "memory":
        yield MemoryStore()
        return
    postgresql = request.param == "postgresql"
    sql = SqlStore(request.getfixturevalue("postgresql_url") if postgresql else tmp_path / "database.sqlite")
    yield sql
    sql.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def sql_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStore]:
    postgresql = request.param == "postgresql"
    sql = SqlStore(request.getfixturevalue("postgresql_url") if postgresql else tmp_path / "database.sqlite")
    yield sql
    sql.close()


@pytest.fixture
async def bench(store: MemoryStore | SqlStore, tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(store, tmp_path / "bundles") as bench:
        yield bench
