"""Rule: the database in a file keeps what it was told, refuses what it cannot be, and says so in one line."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from segue.errors import OperatorError, PeerError
from segue.model.ids import ClassName, NodeId, SystemName, Version
from segue.server import sqlite
from segue.server.databases import BUSY_TIMEOUT_S
from segue.server.facts import Granted, Permit, Picture, Report, Verdict
from segue.server.sql import SqlStore
from segue.server.sqlite import SqliteDatabase
from segue.wire import client
from segue.wire.messages import Heartbeat

SYSTEM = SystemName("blockstore")
NOON = datetime(2030, 1, 1, 12, 0, 0, 123456, tzinfo=UTC)


SAID = Heartbeat(class_name="BlockNode", version=1, address="h:1", phase="serving")
REPORT = Report.of(SYSTEM, NodeId("n1"), SAID)


class ClockInAnotherZone:
    """Says noon as it is called elsewhere."""

    def __init__(self, zone: timezone | None) -> None:
        self._zone = zone

    def now(self) -> datetime:
        return NOON.astimezone(self._zone) if self._zone else NOON.replace(tzinfo=None)


def database_of(store: SqlStore) -> SqliteDatabase:
    assert isinstance(store.database, SqliteDatabase)
    return store.database


def test_it_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "database.sqlite"
    with closing(SqlStore(path)) as store:
        store.hear([REPORT])
        before = store.picture_of(SYSTEM)
    with closing(SqlStore(path)) as store:
        assert store.picture_of(SYSTEM) == before


def test_two_processes_see_one_database(tmp_path: Path) -> None:
    path = tmp_path / "database.sqlite"
    with closing(SqlStore(path)) as one, closing(SqlStore(path)) as other:
        one.hear([REPORT])
        assert other.picture_of(SYSTEM) == one.picture_of(SYSTEM)


def test_times_are_utc_whatever_zone_they_came_in(tmp_path: Path) -> None:
    """SQLite has no zones: what is stored must not depend on one."""
    path = tmp_path / "database.sqlite"
    with closing(SqlStore(path, clock=ClockInAnotherZone(timezone(timedelta(hours=5))))) as store:
        store.hear([REPORT])
        (kept,) = store.picture_of(SYSTEM).nodes
        assert kept.last_seen == NOON
        assert kept.last_seen.tzinfo is UTC
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT last_seen FROM nodes").fetchone() == ("2030-01-01 12:00:00.123456",)


def test_a_time_without_a_zone_is_a_bug(tmp_path: Path) -> None:
    path = tmp_path / "database.sqlite"
    store = SqlStore(path, clock=ClockInAnotherZone(None))
    with closing(store), pytest.raises(Exception, match="has no time zone"):
        store.hear([REPORT])


def test_a_power_cut_loses_no_grant(tmp_path: Path) -> None:
    """The settings that this rests on; a cut itself cannot be had here."""
    with closing(SqlStore(tmp_path / "database.sqlite")) as store, database_of(store).reading() as session:
        connection = session.connection()
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}


def test_the_database_itself_holds_one_open_permit_per_node(tmp_path: Path) -> None:
    """Whatever the code above it decides."""
    one = Version(1)

    def grant(permit: str) -> Verdict:
        return Granted(
            Permit(
                id=permit,
                node=NodeId("n1"),
                class_name=ClassName("C"),
                from_version=one,
                to_version=one,
                granted_at=NOON,
            )
        )

    with closing(SqlStore(tmp_path / "database.sqlite")) as store:
        store.hear([REPORT])
        store.admit(SYSTEM, lambda _: [grant("p1")])
        with pytest.raises(Exception, match="UNIQUE constraint failed"):
            store.admit(SYSTEM, lambda _: [grant("p2")])
        assert [permit.id for permit in store.picture_of(SYSTEM).permits] == ["p1"]


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "database.sqlite"
    path.write_text("no database, but long enough to be looked at" * 50)
    with pytest.raises(OperatorError, match="cannot be used as the upgrade database: file is not a database"):
        SqlStore(path)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="unable to open database file"):
        SqlStore(tmp_path / "nowhere" / "database.sqlite")


@pytest.mark.parametrize("statement", ["PRAGMA user_version = 3", "PRAGMA user_version = 7", "CREATE TABLE other (x)"])
def test_a_database_of_another_schema_is_refused_and_left_alone(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "database.sqlite"
    with closing(sqlite3.connect(path)) as raw:
        raw.execute(statement)
        raw.commit()
    with pytest.raises(
        OperatorError, match=r"has schema \d, this version of segue reads 4 and later of its own: choose another data"
    ):
        SqlStore(path)
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'nodes'").fetchone() == (0,)


def test_one_deadline_holds_for_all_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waited for the other threads waits so much less for other processes, and hears of it before its own limit."""
    assert 2 * BUSY_TIMEOUT_S <= client.TIMEOUT_S
    now = [100.0]
    monkeypatch.setattr(sqlite, "monotonic", lambda: now[0])

    class SlowTurn:
        def acquire(self, timeout: float) -> bool:
            assert timeout == BUSY_TIMEOUT_S
            now[0] += 3
            return True

        def release(self) -> None:
            pass

    with closing(SqlStore(tmp_path / "database.sqlite")) as store:
        monkeypatch.setattr(store.database, "_turn", SlowTurn())
        with store.database.writing() as session:
            assert session.connection().exec_driver_sql("PRAGMA busy_timeout").scalar_one() == 2000
        monkeypatch.undo()
        with store.database.writing() as session:
            assert session.connection().exec_driver_sql("PRAGMA busy_timeout").scalar_one() > 4000


def test_a_busy_database_is_asked_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.01)
    path = tmp_path / "database.sqlite"
    with closing(SqlStore(path)) as store, closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(PeerError, match="does not answer: database is locked"):
            store.hear([REPORT])
        assert store.picture_of(SYSTEM) == Picture(system=SYSTEM, at=NOON)
        other.execute("ROLLBACK")
        store.hear([REPORT])
