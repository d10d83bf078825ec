"""The upgrade database in PostgreSQL, or what speaks as it does: for several upgrade servers."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, func, make_url, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from segue.errors import OperatorError
from segue.model.ids import SystemName
from segue.server.databases import BUSY_TIMEOUT_S, Insert, answering, cause_of, in_the_way
from segue.server.migrations import migrate
from segue.server.schema import Base, SystemRow

#: Of one server's. Who decides about a system waits in its own process for its turn, without a connection, so that
#: few are enough; PostgreSQL has 100 for all unless it is told otherwise.
CONNECTIONS = 16
#: The least that who had its turn waits for other processes, however long it waited for that.
_LEAST_S = 0.5
#: For a server that starts while another one migrates a large database.
_MIGRATION_TIMEOUT_S = 600
#: Any number that other users of the database are not likely to lock.
_MIGRATION_LOCK = 0x5E6BE


class PostgresqlDatabase:
    """A `Database` on a server of its own. Any number of upgrade servers may use it.

    Args:
        url: `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`, with what libpq knows after a `?`; the database must be
            there. Its tables are made if they are not, and migrated if they are of an older version of Segue.

    Raises:
        OperatorError: the URL is none, the database does not answer, or is of a newer version of Segue.
    """

    def __init__(self, url: str) -> None:
        self._url = _checked(url)
        self._turns: defaultdict[SystemName, threading.Lock] = defaultdict(threading.Lock)
        self._engine = _engine(self._url)
        #: What is read must be of one moment; what is written is of the moment that a lock was had.
        self._reader = self._engine.execution_options(isolation_level="REPEATABLE READ")
        try:
            with self._told_to_operator(), self.migrating() as connection:
                migrate(connection, name=repr(self))
        except BaseException:
            self.close()
            raise

    @property
    def is_shared(self) -> bool:
        """Say that many may use it."""
        return True

    def close(self) -> None:
        """Let go of its connections."""
        self._engine.dispose()

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """Read what was committed at one moment."""
        with answering(self), Session(self._reader, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Write rows that no decision is made of while it is made."""
        with answering(self), Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def deciding(self, system: SystemName) -> Iterator[Session]:
        """Read and write with nobody else deciding about `system`, on whatever server."""
        deadline = monotonic() + BUSY_TIMEOUT_S
        turn = self._turns[system]
        if not turn.acquire(timeout=BUSY_TIMEOUT_S - _LEAST_S):
            raise in_the_way(self)
        try:
            with self.writing() as session:
                within_ms = int(1000 * max(_LEAST_S, deadline - monotonic()))
                session.execute(select(func.set_config("lock_timeout", str(within_ms), True)))
                # What is read after this is all that others have decided: each statement sees what is committed then.
                held = select(SystemRow.name).where(SystemRow.name == system).with_for_update()
                if session.scalar(held) is None:
                    session.execute(self.insert(SystemRow).values(name=system).on_conflict_do_nothing())
                    session.scalar(held)
                yield session
        finally:
            turn.release()

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """Change the schema with nobody else changing it, on whatever server."""
        with self._engine.begin() as connection:
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_MIGRATION_TIMEOUT_S}s'")
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
            yield connection

    def now(self, session: Session) -> datetime:
        """Return PostgreSQL's time; not that of the transaction's begin, which is before a lock was had."""
        at: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
        return at.astimezone(UTC)

    def insert(self, table: type[Base]) -> Insert:
        """Begin an `INSERT`."""
        return postgresql.insert(table)

    @contextmanager
    def _told_to_operator(self) -> Iterator[None]:
        try:
            yield
        except exc.DBAPIError as error:
            raise OperatorError(
                f"{self!r} cannot be used as the upgrade database: {cause_of(error)}: "
                f"start it, or give another URL by --database"
            ) from error

    def __repr__(self) -> str:
        return self._url.set(drivername="postgresql").render_as_string(hide_password=True)


def _checked(text: str) -> URL:
    try:
        url = make_url(text)
    except exc.ArgumentError as error:
        raise OperatorError(
            "the upgrade database's URL is none: give it as postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        ) from error
    if url.get_backend_name() not in ("postgresql", "postgres"):
        raise OperatorError(
            f"the upgrade database's URL begins with {url.drivername}://: give it as "
            f"postgresql://USER:PASSWORD@HOST:PORT/DATABASE, or leave it out for SQLite in the data folder"
        )
    return url.set(drivername="postgresql+psycopg")


def _engine(url: URL) -> Engine:
    connect: dict[str, Any] = {"connect_timeout": int(BUSY_TIMEOUT_S), "application_name": "segue"}
    try:
        engine = create_engine(
            url,
            pool_size=CONNECTIONS,
            max_overflow=0,
            pool_timeout=BUSY_TIMEOUT_S,
            connect_args={name: value for name, value in connect.items() if name not in url.query},
            isolation_level="READ COMMITTED",
        )
    except ImportError as error:
        raise OperatorError("PostgreSQL needs psycopg: install segue[postgresql]") from error

    @event.listens_for(engine, "connect")
    def _set_up(connection: Any, _record: object) -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"SET lock_timeout = {int(1000 * BUSY_TIMEOUT_S)}")
            cursor.execute(f"SET statement_timeout = {int(4000 * BUSY_TIMEOUT_S)}")
        connection.commit()

    return engine
