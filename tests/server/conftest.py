"""A server in this process, once on the database in memory and once on the one in a file."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from segue.server.memory import MemoryStore
from segue.server.sql import SqlStore
from segue.server.store import Store
from segue.testing.server import Bench, open_bench


@pytest.fixture(params=["memory", "sql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "memory":
        yield MemoryStore()
        return
    sql = SqlStore(tmp_path / "database.sqlite")
    yield sql
    sql.close()


@pytest.fixture
async def bench(store: Store, tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(store, tmp_path / "bundles") as bench:
        yield bench
