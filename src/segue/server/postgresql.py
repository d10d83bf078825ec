"""The upgrade database in PostgreSQL, or what speaks as it does: for several upgrade servers."""

import logging
import socket
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

from segue.errors import OperatorError, PeerError
from segue.model.ids import SystemName
from segue.server.databases import BUSY_TIMEOUT_S, Insert, UnusableError, answering, cause_of, in_the_way
from segue.server.migrations import migrate
from segue.server.schema import Base, SystemRow
from segue.server.turns import Turns

logger = logging.getLogger(__name__)

#: Of one server's. Who decides about a system waits in its own process for its turn, without a connection, so that
#: few are enough; PostgreSQL has 100 for all unless it is told otherwise.
CONNECTIONS = 16
#: The least that who had its turn waits for other processes, however long it waited for that.
_LEAST_S = 0.5
#: For a server that starts while another one migrates a large database.
_MIGRATION_TIMEOUT_S = 600
#: Any number that other users of the database are not likely to lock.
_MIGRATION_LOCK = 0x5E6BE
#: While it has not answered yet, it is asked again no sooner, however many wait for it.
_ASK_EVERY_S = 1.0
#: The least that libpq takes.
_PING_TIMEOUT_S = 2


class PostgresqlDatabase:
    """A `Database` on a server of its own. Any number of upgrade servers may use it.

    If it does not answer yet it is waited for: it is made ready by the first who finds that it does, and until then all
    who ask get a `PeerError`; or an `UnusableError`, if it answers and cannot be used.

    Args:
        url: `postgresql://USER:PASSWORD@HOST:PORT/DATABASE`, with what libpq knows after a `?`; the database must be
            there. Its tables are made if they are not, and migrated if they are of an older version of Segue.

    Raises:
        OperatorError: the URL is none, its host is not known, the database refuses the user, or is of a newer version
            of Segue.
    """

    def __init__(self, url: str) -> None:
        self._url = _checked(url)
        self._turns: defaultdict[SystemName, Turns] = defaultdict(Turns)
        self._engine = _engine(self._url)
        #: What is read must be of one moment; what is written is of the moment that a lock was had.
        self._reader = self._engine.execution_options(isolation_level="REPEATABLE READ")
        self._opening = threading.Lock()
        self._is_open = False
        #: When it was last asked whether it answers, and what was said.
        self._asked: tuple[float, PeerError] | None = None
        try:
            self._open()
        except UnusableError as error:
            self.close()
            raise OperatorError(str(error)) from error
        except PeerError as error:
            logger.warning("%s; it is waited for, and requests are answered with 503 until it is there", error)
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
        self._open()
        with answering(self), Session(self._reader, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """Write rows that no decision is made of while it is made."""
        self._open()
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

    def _open(self) -> None:
        """Have the tables there as this version of Segue knows them; any thread may call.

        Raises:
            UnusableError: the database answers, and cannot be used.
            PeerError: it does not answer.
        """
        if self._is_open:
            return
        if not self._opening.acquire(timeout=BUSY_TIMEOUT_S):
            raise in_the_way(self)
        try:
            if self._is_open:
                return
            if self._asked is not None and monotonic() - self._asked[0] < _ASK_EVERY_S:
                raise type(self._asked[1])(str(self._asked[1]))
            try:
                self._migrate()
            except PeerError as error:
                self._asked = (monotonic(), error)
                raise
            self._is_open = True
        finally:
            self._opening.release()

    def _migrate(self) -> None:
        for is_last in (False, True):
            try:
                with self.migrating() as connection:
                    migrate(connection, name=repr(self))
            except exc.DBAPIError as error:
                if _is_away(self._engine, self._url, error):
                    raise PeerError(f"the upgrade database {self!r} does not answer: {cause_of(error)}") from error
                # It may have come just now, between the two.
                if is_last:
                    raise UnusableError(
                        f"{self!r} cannot be used as the upgrade database: {cause_of(error)}: "
                        f"put that right, or give another URL by --database"
                    ) from error
            except OperatorError as error:
                raise UnusableError(str(error)) from error
            except UnicodeError as error:
                raise UnusableError(
                    f"{self!r} cannot be used as the upgrade database: no host has such a name: "
                    f"put that right, or give another URL by --database"
                ) from error
            else:
                return

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


def _is_away(engine: Engine, url: URL, error: exc.DBAPIError) -> bool:
    """Say whether nothing answers there now that could take or refuse a user, though there may be later.

    libpq has no codes for what it meets before it is let in, and its words are in the language of the machine; but it
    can ask whether a server is there, without a user.
    """
    psycopg: Any = engine.dialect.dbapi
    # Asking holds up the whole process, so there must be no wait for a time-out.
    if isinstance(error.orig, psycopg.errors.ConnectionTimeout):
        return True
    _, options = engine.dialect.create_connect_args(url)
    if not any(map(_may_be_found, str(options.get("host") or "").split(","))):
        return False
    options.pop("context", None)  # the driver's own
    try:
        asked = psycopg.conninfo.make_conninfo("", **{**options, "connect_timeout": _PING_TIMEOUT_S})
    except psycopg.ProgrammingError:
        return False
    found = psycopg.pq.PGconn.ping(asked.encode())
    return found in (psycopg.pq.Ping.REJECT, psycopg.pq.Ping.NO_RESPONSE)


def _may_be_found(host: str) -> bool:
    """Say whether a host has an address, or nobody can say now; none, or a folder of sockets, is this machine."""
    if not host or host.startswith(("/", "@")):
        return True
    try:
        socket.getaddrinfo(host, None)
    except socket.gaierror as error:
        return error.errno == socket.EAI_AGAIN
    return True


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
