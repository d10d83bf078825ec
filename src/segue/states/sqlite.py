"""Turns one SQLite database into another: a consistent copy, changed by SQL in one transaction, and checked."""

import os
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import quote

from segue.author import TransformContext
from segue.errors import OperatorError, ReleaseError
from segue.states.copying import copy_file
from segue.states.sql import statements_in

#: What changes the copy: SQL, one statement or several; or a function that is given the connection.
Change: TypeAlias = str | Sequence[str] | Callable[[sqlite3.Connection], None]

#: `full` reads all and compares indexes with their tables, `quick` leaves the comparison out.
Check: TypeAlias = Literal["full", "quick"]

#: `{(table, the table that it refers to): rows that refer to nothing}`; None if a key refers to what is not unique
_Dangling: TypeAlias = Counter[tuple[str, str]] | None

#: What a process that was killed left: SQLite takes it in when it opens the database, and must write to it for that.
_LEFT = ("-wal", "-journal")

#: Of SQLite's memory, in KiB: enough to build indexes quickly.
_CACHE_KIB = 32 << 10
#: As much as SQLite maps of a file at all, unless it was built otherwise.
_MAPPED_BYTES = 0x7FFF0000
#: The most that is said of a damaged database.
_FAULTS = 5
#: Of a statement, this much is said in an error.
_SHOWN = 120


def transform_sqlite(
    old: Path,
    new: Path,
    change: Change,
    *,
    context: TransformContext,
    attach: Mapping[str, Path] | None = None,
    check: Check = "full",
) -> None:
    """Make the database `new` from `old`, which is only read.

    It is as if the whole were one transaction: `new` is whole and checked, or this raises. What the old object's
    process left in a write-ahead log or a rollback journal when it was killed is taken in. Page size, encoding,
    application id, user version (unless the change sets it) and write-ahead mode are kept.

    Foreign keys are not enforced while the change is made, as SQLite advises for changes of tables; afterwards there
    must be no more rows that refer to nothing than before.

    Args:
        old: the old database.
        new: where the new one goes; its folder is made if it is missing.
        change: SQL of one statement or several, or a function that is given the connection. The transaction is
            begun and ended for it.
        context: what the transform was given; it is told of the bytes that are copied, and of the statements.
        attach: further databases that the change may read, by the name that SQL knows them by, such as one that the
            future simulation kept.
        check: how `old` and `new` are checked.

    Raises:
        ReleaseError: the change fails, or leaves rows that refer to nothing.
        OperatorError: the old database is damaged, or the new one came out so.
        FileNotFoundError, FileExistsError: the old database is missing, or the new one there.
        OSError, sqlite3.Error: the machine cannot, such as since the disk is full.
    """
    old.stat()  # SQLite's own words for a file that is missing do not name it
    new.parent.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(1) as beside:
        # A file that nobody writes to is checked while it is copied and the copy is changed.
        early = None if _is_left_open(old) else _Checking(beside, old, check)
        try:
            _copy(old, new, context)
            with _telling_damage(old), closing(sqlite3.connect(new, isolation_level=None)) as connection:
                _hasten(connection)
                was_wal = _pragma(connection, "main.journal_mode") == "wal"
                _pragma(connection, "main.journal_mode = DELETE")  # also ends what was left open
                before = early or _Checking(beside, new, check)
                if early is None:
                    before.dangling()  # alone: it reads the file that is to be changed
                with _attached(connection, attach or {}):
                    _changed(connection, change, before, context)
                if was_wal:
                    _pragma(connection, "main.journal_mode = WAL")
        except BaseException:
            if early is not None:
                early.stop()
            for begun in (new, *_beside(new)):
                begun.unlink(missing_ok=True)
            raise
        _beside(new)[-1].unlink(missing_ok=True)  # where the lock is exclusive, a journal that is done with stays
        after = _Checking(beside, new, check)
        with new.open("rb") as made:
            os.fsync(made.fileno())  # the disk writes while the processor checks
        after.dangling()


class _Checking:
    """A check of a database that nobody writes to, beside other work."""

    def __init__(self, beside: ThreadPoolExecutor, path: Path, check: Check) -> None:
        self._path = path
        # SQLite needs no lock and no log for a file that it is told nobody changes.
        self._connection = sqlite3.connect(_uri(path), uri=True, check_same_thread=False, isolation_level=None)
        # Half the time of reading each page into a buffer: an index is compared row by row.
        _pragma(self._connection, f"mmap_size = {_MAPPED_BYTES}")
        self._result = beside.submit(self._run, "integrity_check" if check == "full" else "quick_check")

    def dangling(self) -> _Dangling:
        """Return the rows that refer to nothing, once all is checked.

        Raises:
            OperatorError: the database is damaged.
        """
        return self._result.result()

    def stop(self) -> None:
        """End the check: nobody waits for it."""
        with suppress(sqlite3.ProgrammingError):  # it is done
            self._connection.interrupt()

    def _run(self, pragma: str) -> _Dangling:
        with closing(self._connection) as connection, _telling_damage(self._path):
            faults = [row[0] for row in connection.execute(f"PRAGMA {pragma}({_FAULTS})")]
            if faults != ["ok"]:
                raise _damaged(self._path, "; ".join(faults))
            return _dangling(connection)


@contextmanager
def _telling_damage(path: Path) -> Iterator[None]:
    """Have what SQLite says of a damaged file name the file."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise _damaged(path, str(error)) from error
        raise


def _damaged(path: Path, how: str) -> OperatorError:
    what = " ".join(how.split())
    return OperatorError(f"the database {path} is damaged: {what}; put a good copy in its place, and upgrade again")


def _is_left_open(path: Path) -> bool:
    """Say whether a process was killed that had the database open."""
    return any(left.exists() and left.stat().st_size for left in _beside(path))


def _beside(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in _LEFT]


def _copy(old: Path, new: Path, context: TransformContext) -> None:
    total = old.stat().st_size
    context.progress(bytes_done=0, bytes_total=total)
    copy_file(old, new, lambda done: context.progress(bytes_done=done))
    for source, target in zip(_beside(old), _beside(new), strict=True):
        if source.exists():
            copy_file(source, target)


def _hasten(connection: sqlite3.Connection) -> None:
    """Be as quick with a copy as one can be that is thrown away if anything fails."""
    _pragma(connection, "locking_mode = EXCLUSIVE")  # no file for memory that is shared
    _pragma(connection, "foreign_keys = OFF")
    _pragma(connection, "synchronous = OFF")  # it is synced when it is whole
    _pragma(connection, f"cache_size = -{_CACHE_KIB}")


@contextmanager
def _attached(connection: sqlite3.Connection, databases: Mapping[str, Path]) -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, path) in enumerate(databases.items()):
            is_copied = _is_left_open(path)
            found = Path(folder) / str(number) if is_copied else path
            if is_copied:
                for source, target in zip((path, *_beside(path)), (found, *_beside(found)), strict=True):
                    if source.exists():
                        copy_file(source, target)
            connection.execute("ATTACH ? AS ?", (_uri(found, immutable=not is_copied), name))
        try:
            yield
        finally:
            with suppress(sqlite3.Error):  # what failed is worth more
                for name in databases:
                    connection.execute("DETACH ?", (name,))


def _changed(connection: sqlite3.Connection, change: Change, before: _Checking, context: TransformContext) -> None:
    """Make the change in one transaction, unless the old database is damaged."""
    statements = None if callable(change) else statements_in(change)
    # With statements of ours, whatever fails ends all, so that nothing needs to be taken back.
    _pragma(connection, f"main.journal_mode = {'DELETE' if statements is None else 'OFF'}")
    connection.execute("BEGIN IMMEDIATE")
    connection.set_authorizer(_refuse_transactions if statements is None else _refuse_all_of_transactions)
    if callable(change):
        _call(change, connection)
    else:
        _execute(connection, statements or [], context)
    connection.set_authorizer(None)
    if not connection.in_transaction:
        raise ReleaseError("the change of a database ended its transaction, which is begun and ended for it")
    was, now = before.dangling(), _dangling(connection)
    if was is not None and now is None:
        raise ReleaseError("after the change, a foreign key refers to columns that are not unique: correct the SQL")
    if new := (now or Counter()) - (was or Counter()):
        (table, parent), count = next(iter(sorted(new.items())))
        raise ReleaseError(
            f"after the change, {count} more rows of table {table} refer to rows of {parent} that are not there: "
            "correct the SQL"
        )
    connection.execute("COMMIT")
    _pragma(connection, "main.journal_mode = DELETE")


def _call(change: Callable[[sqlite3.Connection], None], connection: sqlite3.Connection) -> None:
    try:
        change(connection)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_AUTH:
            raise
        raise ReleaseError(
            "the change of a database begins or ends a transaction, which is begun and ended for it: leave out "
            "`with connection`, commit, rollback and executescript; savepoints are free"
        ) from error


def _execute(connection: sqlite3.Connection, statements: Sequence[str], context: TransformContext) -> None:
    context.progress(items_done=0, items_total=len(statements))
    for number, statement in enumerate(statements, 1):
        try:
            connection.execute(statement).fetchall()
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
            if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM):
                raise
            what = str(error)
            if code == sqlite3.SQLITE_AUTH:
                what = "the transaction is begun and ended for you: leave this statement out"
            shown = " ".join(statement.split())
            shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
            raise ReleaseError(f"statement {number} of {len(statements)}, `{shown}`: {what}") from error
        context.progress(items_done=number)


def _refuse_transactions(action: int, *_: object) -> int:
    """Keep a function from ending the one transaction; it may try things in savepoints."""
    return sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_TRANSACTION else sqlite3.SQLITE_OK


def _refuse_all_of_transactions(action: int, *_: object) -> int:
    """Keep statements from what needs a journal, too."""
    refused = (sqlite3.SQLITE_TRANSACTION, sqlite3.SQLITE_SAVEPOINT)
    return sqlite3.SQLITE_DENY if action in refused else sqlite3.SQLITE_OK


def _dangling(connection: sqlite3.Connection) -> _Dangling:
    try:
        rows = connection.execute('SELECT "table", parent, count(*) FROM pragma_foreign_key_check GROUP BY 1, 2')
    except sqlite3.OperationalError as error:
        if "mismatch" in str(error):
            return None
        raise
    return Counter({(table, parent): count for table, parent, count in rows})


def _pragma(connection: sqlite3.Connection, text: str) -> object:
    row = connection.execute(f"PRAGMA {text}").fetchone()
    return None if row is None else row[0]


def _uri(path: Path, *, immutable: bool = True) -> str:
    return f"file:{quote(str(path.absolute()))}{'?immutable=1' if immutable else ''}"
