"""Rule: one of several servers brings an older database to this version's schema; a newer one is left alone."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from segue.errors import OperatorError
from segue.model.history import Kind
from segue.model.ids import NodeId, SystemName
from segue.server.facts import Report
from segue.server.schema import Base
from segue.server.sql import SqlStore
from segue.testing.postgresql import Postgresql
from segue.wire.messages import Heartbeat

SYSTEM = SystemName("blockstore")
#: As a Segue from before there were migrations left it: schema 4.
BEFORE = """
CREATE TABLE nodes (system VARCHAR NOT NULL, id VARCHAR NOT NULL, version INTEGER NOT NULL, said TEXT NOT NULL,
    last_seen DATETIME NOT NULL, PRIMARY KEY (system, id));
CREATE TABLE releases (system VARCHAR NOT NULL, version INTEGER NOT NULL, sha256 VARCHAR NOT NULL,
    size_bytes INTEGER NOT NULL, description VARCHAR NOT NULL, published_at DATETIME NOT NULL, manifest TEXT NOT NULL,
    PRIMARY KEY (system, version));
CREATE TABLE asks (system VARCHAR NOT NULL, node VARCHAR NOT NULL, class_name VARCHAR NOT NULL,
    from_version INTEGER NOT NULL, to_version INTEGER NOT NULL, asked_at DATETIME NOT NULL,
    last_asked_at DATETIME NOT NULL, PRIMARY KEY (system, node),
    FOREIGN KEY(system, node) REFERENCES nodes (system, id));
CREATE TABLE calls (system VARCHAR NOT NULL, node VARCHAR NOT NULL, incarnation VARCHAR NOT NULL,
    node_version INTEGER NOT NULL, caller_version INTEGER NOT NULL, caller VARCHAR NOT NULL, method VARCHAR NOT NULL,
    answered_by VARCHAR NOT NULL, from_node BOOLEAN NOT NULL, outcome VARCHAR NOT NULL, count INTEGER NOT NULL,
    last_at DATETIME NOT NULL, PRIMARY KEY (system, node, incarnation, node_version, caller_version, caller, method,
    answered_by, from_node, outcome), FOREIGN KEY(system, node) REFERENCES nodes (system, id));
CREATE TABLE permits (system VARCHAR NOT NULL, id VARCHAR NOT NULL, node VARCHAR NOT NULL, class_name VARCHAR NOT NULL,
    from_version INTEGER NOT NULL, to_version INTEGER NOT NULL, granted_at DATETIME NOT NULL, returned_at DATETIME,
    failure VARCHAR, final BOOLEAN NOT NULL, failed_version INTEGER, PRIMARY KEY (system, id),
    FOREIGN KEY(system, node) REFERENCES nodes (system, id));
CREATE UNIQUE INDEX one_open_permit_per_node ON permits (system, node) WHERE returned_at IS NULL;
PRAGMA user_version = 4;
INSERT INTO releases VALUES ('blockstore', 1, 'aa', 5, 'first', '2030-01-01 10:00:00.000000', '{}');
INSERT INTO permits VALUES ('blockstore', 'p1', 'n1', 'BlockNode', 1, 2, '2030-01-01 11:00:00.000000',
    '2030-01-01 11:00:09.000000', 'self-test', 1, 2);
"""


def said(details: str = "a traceback") -> Heartbeat:
    return Heartbeat(
        class_name="BlockNode", version=1, address="h:1", phase="serving", failure="why", failure_details=details
    )


@pytest.fixture
def from_before(tmp_path: Path) -> Path:
    path = tmp_path / "database.sqlite"
    with closing(sqlite3.connect(path)) as raw:
        raw.executescript(BEFORE)
        row = ("blockstore", "n1", 1, said().model_dump_json(), "2030-01-01 12:00:00.000000")
        raw.execute("INSERT INTO nodes VALUES (?, ?, ?, ?, ?)", row)
        raw.commit()
    return path


def test_what_migrations_make_is_what_the_code_expects(sql_store: SqlStore) -> None:
    with sql_store.database.migrating() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_a_database_from_before_migrations_is_taken_over(from_before: Path) -> None:
    with closing(SqlStore(from_before)) as store:
        picture = store.picture_of(SYSTEM)
        assert [node.said for node in picture.nodes] == [said()]
        assert [permit.failure for permit in picture.permits] == ["self-test"]
        kinds = [(entry.number, entry.kind, entry.text) for entry in store.history(SYSTEM)]
        assert kinds == [
            (1, Kind.PUBLISHED, "first"), (2, Kind.GRANTED, "from 1 to 2"), (3, Kind.RETURNED, "self-test")
        ]  # fmt: skip
        store.hear([Report.of(SYSTEM, NodeId("n1"), said("another"))])
        assert [entry.number for entry in store.history(SYSTEM)] == [1, 2, 3]
        with store.database.migrating() as connection:
            assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    with closing(SqlStore(from_before)) as again:
        assert [node.said for node in again.picture_of(SYSTEM).nodes] == [said("another")]


def test_an_older_segue_does_not_take_it_for_its_own(from_before: Path) -> None:
    SqlStore(from_before).close()
    with closing(sqlite3.connect(from_before)) as raw:
        assert raw.execute("PRAGMA user_version").fetchone() == (5,)


def test_one_of_several_servers_migrates(from_before: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        stores = list(threads.map(lambda _: SqlStore(from_before), range(4)))
    for store in stores:
        assert len(store.history(SYSTEM)) == 3
        store.close()


@pytest.mark.timeout(60)
def test_one_of_several_servers_makes_the_tables(postgresql_server: Postgresql) -> None:
    url = postgresql_server.make_database("fresh")
    with ThreadPoolExecutor(4) as threads:
        stores = list(threads.map(lambda _: SqlStore(url), range(4)))
    stores[0].hear([Report.of(SYSTEM, NodeId("n1"), said())])
    for store in stores:
        assert [node.id for node in store.picture_of(SYSTEM).nodes] == ["n1"]
        store.close()


NEWER = r"has schema 9999, this version of segue knows none after \d+: it was used by a newer version; start that one"


def test_a_newer_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "database.sqlite"
    SqlStore(path).close()
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
        raw.commit()
    with pytest.raises(OperatorError, match=NEWER):
        SqlStore(path)
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)


def test_a_newer_database_on_postgresql_is_refused(postgresql_server: Postgresql) -> None:
    url = postgresql_server.make_database("newer")
    SqlStore(url).close()
    with psycopg.connect(url) as raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(OperatorError, match=NEWER) as raised:
        SqlStore(url)
    assert ":***@" in str(raised.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://h/segue", "begins with mysql://: give it as postgresql://"),
        ("nonsense", "URL is none: give it as postgresql://"),
    ],
)
def test_what_is_no_database_is_refused(url: str, message: str) -> None:
    with pytest.raises(OperatorError, match=message) as raised:
        SqlStore(url)
    assert "secret" not in str(raised.value)


def test_times_of_the_machine_and_of_the_database(sql_store: SqlStore) -> None:
    assert abs((sql_store.now() - datetime.now(UTC)).total_seconds()) < 60
