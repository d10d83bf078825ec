"""A database as the store needs it: what differs from one product to the next, and nothing of what is kept."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import Protocol, TypeAlias

from sqlalchemy import Connection, exc
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from segue.errors import PeerError
from segue.model.ids import SystemName
from segue.server.schema import Base

#: How long a transaction waits, for other threads and other processes together, before it is given up; a
#: client's request waits longer.
BUSY_TIMEOUT_S = 5.0

#: An `INSERT` that can say what to do if the row is there.
Insert: TypeAlias = sqlite.Insert | postgresql.Insert


class UnusableError(PeerError):
    """The database answers, and cannot be used until somebody acts; to who asked, it is as if it did not answer."""


class Database(Protocol):
    """A place for the tables of `schema`. Any thread may call; each context is one transaction.

    All raise `PeerError` if the database does not answer now; then nothing was changed.
    """

    @property
    def is_shared(self) -> bool:
        """Say whether upgrade servers on several machines may use it."""
        ...

    def reading(self) -> AbstractContextManager[Session]:
        """Read what was committed at one moment."""
        ...

    def writing(self) -> AbstractContextManager[Session]:
        """Write rows that no decision is made of while it is made."""
        ...

    def deciding(self, system: SystemName) -> AbstractContextManager[Session]:
        """Read and write with nobody else deciding about `system`, on whatever server."""
        ...

    def migrating(self) -> AbstractContextManager[Connection]:
        """Change the schema with nobody else changing it, on whatever server."""
        ...

    def now(self, session: Session) -> datetime:
        """Return the time, by the one clock that all servers on this database go by."""
        ...

    def insert(self, table: type[Base]) -> Insert:
        """Begin an `INSERT`."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


@contextmanager
def answering(name: object) -> Iterator[None]:
    """Tell what a database fails by as `PeerError`: later it may answer.

    Args:
        name: what to call the database.
    """
    try:
        yield
    except (exc.OperationalError, exc.InterfaceError, exc.TimeoutError) as error:
        raise PeerError(f"the upgrade database {name} does not answer: {cause_of(error)}") from error
    except exc.DBAPIError as error:
        if not error.connection_invalidated:
            raise
        raise PeerError(f"the upgrade database {name} does not answer: {cause_of(error)}") from error


def cause_of(error: exc.SQLAlchemyError) -> str:
    """Return what the driver said, in one line."""
    cause = error.orig if isinstance(error, exc.DBAPIError) and error.orig else error
    return " ".join(str(cause).split())


def in_the_way(name: object) -> PeerError:
    """Return the error for who waited too long for the others."""
    return PeerError(f"the upgrade database {name} does not answer: too many wait for it")
