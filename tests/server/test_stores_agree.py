"""Rule: the SQL store answers whatever is done to it as the memory store does, and so would any other."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import HealthCheck, settings

from segue.server.sql import SqlStore
from segue.server.store import Store
from segue.testing.stores import store_agreement


@contextmanager
def _open_sql() -> Iterator[Store]:
    with TemporaryDirectory() as folder:
        store = SqlStore(Path(folder) / "database.sqlite")
        try:
            yield store
        finally:
            store.close()


TestSqlStore = store_agreement(_open_sql).TestCase
TestSqlStore.settings = settings(
    max_examples=12, stateful_step_count=18, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
