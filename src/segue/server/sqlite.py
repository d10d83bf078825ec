"""The upgrade database in one file of SQLite, which is part of the server's process: the default."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from sqlite3 import Connection as SQLiteConnection
from time import monotonic

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc
from sqlalchemy.dialects import sqlite
from sqlalchemy.orm import Session

from segue.errors import OperatorError
from segue.model.ids import SystemName
from segue.server.databases import BUSY_TIMEOUT_S, Insert, answering, cause_of, in_the_way
from segue.server.migrations import FIRST, migrate
from segue.server.schema import Base
from segue.server.turns import Turns

#: More than the threads that answer requests (40 by default), so that none waits for a connection.
CONNECTIONS = 48
#: `PRAGMA user_version` of a database from before there were migrations, which can be taken over.
_ADOPTED = 4
#: That of one with migrations: a Segue from before them must not take it for its own.
_MIGRATED = 5


class SqliteDatabase:
    """A `Database` in a file. Several processes of one machine may have it open.

    Args:
        path: the file; it is made if it is not there, and migrated if it is of an older version of Segue.

    Raises:
        OperatorError: the file cannot be opened, is no database of Segue's, or is of a newer version of Segue.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = Turns()
        self._engine = _engine(path)
        try:
            with _told_to_operator(path), self.migrating() as connection:
                _prepare(connection, path)
        except BaseException:
            self.close()
            raise

    @property
    def is_shared(self) -> bool:
        """Say that it is of one machine."""
        return False

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Read what was committed at one moment."""
        with answering(self._path), Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Write, one transaction after the other."""
        # SQLite waits by sleeping ever longer, and whoever comes late may go first: among many threads some
        # would wait in vain. Here they queue; SQLite's own waiting is left for other processes.
        deadline = monotonic() + BUSY_TIMEOUT_S
        if not self._turn.acquire(timeout=BUSY_TIMEOUT_S):
            raise in_the_way(self._path)
        try:
            engine = self._writer(max(0.0, deadline - monotonic()))
            with answering(self._path), Session(engine, expire_on_commit=False) as session, session.begin():
                yield session
        finally:
            self._turn.release()

    def deciding(self, system: SystemName) -> AbstractContextManager[Session]:  # noqa: ARG002 - there is one writer
        """Read and write with nobody else writing."""
        return self.writing()

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """Change the schema with nobody else writing."""
        with self._writer(BUSY_TIMEOUT_S).begin() as connection:
            yield connection

    def now(self, session: Session) -> datetime:  # noqa: ARG002 - the database is in this process
        """Return the machine's time."""
        return datetime.now(UTC)

    def insert(self, table: type[Base]) -> Insert:
        """Begin an `INSERT`."""
        return sqlite.insert(table)

    def _writer(self, within_s: float) -> Engine:
        # SQLite's plain BEGIN takes the lock at the first write: two transactions that read first could then
        # both have read the same fleet, and one would fail with "busy" however long it waited.
        return self._engine.execution_options(begin="IMMEDIATE", within_s=within_s)

    def __repr__(self) -> str:
        return repr(str(self._path))


def _engine(path: Path) -> Engine:
    url = URL.create("sqlite+pysqlite", database=str(path))
    connect = {"timeout": BUSY_TIMEOUT_S}
    engine = create_engine(
        url, pool_size=CONNECTIONS, max_overflow=0, pool_timeout=BUSY_TIMEOUT_S, connect_args=connect
    )

    @event.listens_for(engine, "connect")
    def _set_up(connection: SQLiteConnection, _record: object) -> None:
        # The driver would begin transactions in its own way; see BEGIN below.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")
        # With NORMAL a power cut may undo a grant that a node has acted on.
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(1000 * options.get('within_s', BUSY_TIMEOUT_S))}")
        connection.exec_driver_sql(f"BEGIN {options.get('begin', 'DEFERRED')}")

    return engine


def _prepare(connection: Connection, path: Path) -> None:
    """Bring the file to this version's schema; one from before there were migrations is taken over.

    Raises:
        OperatorError: it is of another program, or older or newer than what can be read.
    """
    found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
    tables = connection.exec_driver_sql("SELECT count(*) FROM sqlite_schema").scalar_one()
    if found not in (0, _ADOPTED, _MIGRATED) or (tables and not found):
        raise OperatorError(
            f"{path} has schema {found}, this version of segue reads {_ADOPTED} and later of its own: "
            f"choose another data folder"
        )
    migrate(connection, name=str(path), found=FIRST if found == _ADOPTED else None)
    if found != _MIGRATED:
        connection.exec_driver_sql(f"PRAGMA user_version = {_MIGRATED}")


@contextmanager
def _told_to_operator(path: Path) -> Iterator[None]:
    try:
        yield
    except exc.DatabaseError as error:
        raise OperatorError(
            f"{path} cannot be used as the upgrade database: {cause_of(error)}: choose another data folder"
        ) from error
