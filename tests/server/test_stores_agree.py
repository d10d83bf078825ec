"""Rule: a SQL store answers whatever is done to it as the memory store does, and so would any other."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from segue.model.clock import Clock
from segue.server.sql import SqlStore
from segue.server.store import Store
from segue.testing.postgresql import Postgresql
from segue.testing.stores import store_agreement


def _some(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=18,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


@contextmanager
def _open_sqlite(clock: Clock) -> Iterator[Store]:
    with TemporaryDirectory() as folder:
        store = SqlStore(Path(folder) / "database.sqlite", clock=clock)
        try:
            yield store
        finally:
            store.close()


TestSqlite = pytest.mark.timeout(240)(store_agreement(_open_sqlite).TestCase)
TestSqlite.settings = _some(8)


@pytest.mark.timeout(240)
def test_postgresql(postgresql_server: Postgresql) -> None:
    @contextmanager
    def open_postgresql(clock: Clock) -> Iterator[Store]:
        store = SqlStore(postgresql_server.empty_database("segue"), clock=clock)
        try:
            yield store
        finally:
            store.close()

    run_state_machine_as_test(store_agreement(open_postgresql), settings=_some(6))
