"""A new database is whole, checked and changed, or there is none; the old one is only read."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from segue.author import TransformContext
from segue.errors import OperatorError, ReleaseError
from segue.states.sqlite import transform_sqlite

Make = Callable[..., Path]

SCHEMA = """
CREATE TABLE author(id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE book(id INTEGER PRIMARY KEY, author INTEGER REFERENCES author(id), title TEXT);
INSERT INTO author VALUES (1, 'ann'), (2, 'bob');
INSERT INTO book VALUES (1, 1, 'one'), (2, 2, 'two');
"""


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a database of two tables in a folder that holds nothing else."""

    def make(*pragmas: str, more: str = "") -> Path:
        path = tmp_path / "old" / "books.db"
        path.parent.mkdir()
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for pragma in pragmas:
                connection.execute(f"PRAGMA {pragma}")
            connection.executescript(SCHEMA + more)
        return path

    return make


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


CHANGE = """
ALTER TABLE book ADD COLUMN pages INTEGER DEFAULT 0; -- not known; so far
CREATE TRIGGER counted AFTER INSERT ON book BEGIN UPDATE author SET name = name || '+' WHERE id = new.author; END;
INSERT INTO book VALUES (3, 1, 'semi;colon', 7);
PRAGMA user_version = 2;
"""


CHANGES = (
    "ALTER TABLE book ADD COLUMN pages INTEGER DEFAULT 0",
    "CREATE TRIGGER counted AFTER INSERT ON book BEGIN UPDATE author SET name = name || '+' WHERE id = new.author; END",
    "INSERT INTO book VALUES (3, 1, 'semi;colon', 7)",
    "PRAGMA user_version = 2",
)


@pytest.mark.parametrize("change", [CHANGE, [CHANGE], lambda c: [c.execute(s + ";") for s in CHANGES]])
def test_sql_changes_a_copy(change: Any, make: Make, tmp_path: Path, context: TransformContext) -> None:
    old, new = make("page_size = 8192", "user_version = 1", "application_id = 77"), tmp_path / "new" / "deep" / "b.db"
    before = files(old.parent)
    transform_sqlite(old, new, change, context=context)
    assert rows(new, "SELECT * FROM book") == [(1, 1, "one", 0), (2, 2, "two", 0), (3, 1, "semi;colon", 7)]
    assert rows(new, "SELECT name FROM author") == [("ann+",), ("bob",)]
    assert [rows(new, f"PRAGMA {name}")[0][0] for name in ("user_version", "page_size", "application_id")] == [
        2,
        8192,
        77,
    ]
    assert files(old.parent) == before
    assert [path.name for path in new.parent.iterdir()] == ["b.db"]


_KILLED = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = " + sys.argv[2])
connection.execute("PRAGMA wal_autocheckpoint = 0")
connection.execute("PRAGMA cache_size = 1")
connection.execute("INSERT INTO author VALUES (3, 'committed')")
connection.execute("BEGIN")
connection.execute("PRAGMA cache_spill = 1")
connection.executemany("INSERT INTO book VALUES (?, 1, ?)", ((n, "lost" * 500) for n in range(10, 200)))
os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize(("mode", "left"), [("wal", "books.db-wal"), ("delete", "books.db-journal")])
def test_what_a_killed_process_left_is_taken_in(
    mode: str, left: str, make: Make, tmp_path: Path, context: TransformContext
) -> None:
    """What was committed is there, what was not is not; the mode is kept, and the old files too."""
    old, new = make(), tmp_path / "new.db"
    subprocess.run([sys.executable, "-c", _KILLED, old, mode], check=False)
    before = files(old.parent)
    assert len(before[left]) > 1000
    transform_sqlite(old, new, "DELETE FROM author WHERE id = 99", context=context)
    assert rows(new, "SELECT id FROM author") == [(1,), (2,), (3,)]
    assert rows(new, "SELECT count(*) FROM book") == [(2,)]
    assert rows(new, "PRAGMA journal_mode") == [(mode,)]
    assert files(old.parent) == before
    assert not list(tmp_path.glob("new.db-*"))


def test_write_ahead_mode_is_kept(make: Make, tmp_path: Path, context: TransformContext) -> None:
    old, new = make("journal_mode = WAL"), tmp_path / "new.db"
    transform_sqlite(old, new, "DELETE FROM book", context=context)
    assert not list(tmp_path.glob("new.db-*"))
    assert rows(new, "PRAGMA journal_mode") == [("wal",)]
    assert [path.name for path in old.parent.iterdir()] == ["books.db"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("DELETE FROM book; DELETE FROM nowhere", r"statement 2 of 2, `DELETE FROM nowhere`: no such table: nowhere"),
        ("DELETE FROM book; INSERT INTO", "statement 2 of 2, `INSERT INTO`: incomplete input"),
        ("DELETE FROM author WHERE id = 1", "1 more rows of table book refer to rows of author that are not there"),
        ("DELETE FROM book; COMMIT; DELETE FROM author", "statement 2 of 3, `COMMIT`: the transaction is begun"),
        ("SAVEPOINT a", "the transaction is begun and ended for you"),
        ("CREATE TABLE bad(x REFERENCES book(title))", "refers to columns that are not unique"),
    ],
)
def test_a_change_that_fails_leaves_nothing(
    change: str, said: str, make: Make, tmp_path: Path, context: TransformContext
) -> None:
    old = make()
    before = files(old.parent)
    with pytest.raises(ReleaseError, match=said):
        transform_sqlite(old, tmp_path / "new.db", change, context=context)
    assert files(old.parent) == before
    assert not list(tmp_path.glob("new.db*"))


def _commit(connection: sqlite3.Connection) -> None:
    connection.execute("DELETE FROM book")
    connection.commit()


def _leave(connection: sqlite3.Connection) -> None:
    with connection:
        connection.execute("DELETE FROM book")


def _run_script(connection: sqlite3.Connection) -> None:
    connection.executescript("DELETE FROM book")


@pytest.mark.parametrize("change", [_commit, _leave, _run_script])
def test_a_function_cannot_end_the_transaction(
    change: Callable[[sqlite3.Connection], None], make: Make, tmp_path: Path, context: TransformContext
) -> None:
    """It may try things in savepoints."""

    def tried(connection: sqlite3.Connection) -> None:
        connection.execute("SAVEPOINT a")
        connection.execute("DELETE FROM book")
        connection.execute("ROLLBACK TO a")
        connection.execute("RELEASE a")

    old = make()
    with pytest.raises(ReleaseError, match="ends a transaction, which is begun and ended for it: leave out"):
        transform_sqlite(old, tmp_path / "new.db", change, context=context)
    assert not list(tmp_path.glob("new.db*"))
    transform_sqlite(old, tmp_path / "new.db", tried, context=context)
    assert rows(tmp_path / "new.db", "SELECT count(*) FROM book") == [(2,)]


def test_what_referred_to_nothing_before_may_go_on_so(make: Make, tmp_path: Path, context: TransformContext) -> None:
    """An upgrade is not the time to find out; but there must not be more of it."""
    old = make(more="INSERT INTO book VALUES (9, 9, 'nobody');")
    transform_sqlite(old, tmp_path / "new.db", "DELETE FROM book WHERE id = 1", context=context)
    with pytest.raises(ReleaseError, match="1 more rows"):
        transform_sqlite(old, tmp_path / "other.db", "DELETE FROM author WHERE id = 1", context=context)


@pytest.mark.parametrize("check", ["full", "quick"])
@pytest.mark.parametrize("is_left_open", [False, True])
def test_a_damaged_database_is_not_taken_over(
    check: Any, is_left_open: bool, make: Make, tmp_path: Path, context: TransformContext
) -> None:
    """The operator is told, whether the change would have come across the damage or not."""
    old = make(more="CREATE TABLE big(x); INSERT INTO big SELECT randomblob(3000) FROM pragma_function_list;")
    with old.open("r+b") as file:
        file.seek(4096 * 8)
        file.write(os.urandom(4096))
    if is_left_open:
        old.with_name("books.db-wal").write_bytes(b"nothing of worth")
    with pytest.raises(OperatorError, match="is damaged"):
        transform_sqlite(old, tmp_path / "new.db", "DELETE FROM author WHERE id = 99", context=context, check=check)
    assert not list(tmp_path.glob("new.db*"))


def test_what_is_no_database_is_damaged(tmp_path: Path, context: TransformContext) -> None:
    (tmp_path / "old.db").write_bytes(b"text" * 2000)
    with pytest.raises(OperatorError, match="is damaged: file is not a database"):
        transform_sqlite(tmp_path / "old.db", tmp_path / "new.db", "SELECT 1", context=context)


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_another_database_can_be_read(mode: str, make: Make, tmp_path: Path, context: TransformContext) -> None:
    """Such as the future simulation's; it is not written either, whatever its process left."""
    old, other = make(), tmp_path / "simulation" / "seen.db"
    other.parent.mkdir()
    with closing(sqlite3.connect(other)) as connection:
        connection.executescript(SCHEMA)
    subprocess.run([sys.executable, "-c", _KILLED, other, mode], check=False)
    before = files(other.parent)
    sql = "INSERT INTO author SELECT id + 10, name FROM seen.author WHERE id = 3"
    transform_sqlite(old, tmp_path / "new.db", sql, context=context, attach={"seen": other})
    assert rows(tmp_path / "new.db", "SELECT id, name FROM author WHERE id > 2") == [(13, "committed")]
    assert files(other.parent) == before


def test_progress_is_told(make: Make, tmp_path: Path, context: TransformContext, told: list[dict[str, Any]]) -> None:
    old = make()
    size_bytes = old.stat().st_size
    transform_sqlite(old, tmp_path / "new.db", "DELETE FROM book; DELETE FROM author", context=context)
    assert told[0] == {"bytes_done": 0, "bytes_total": size_bytes}
    assert {"bytes_done": size_bytes} in told
    assert told[-3:] == [{"items_done": 0, "items_total": 2}, {"items_done": 1}, {"items_done": 2}]


def test_a_database_that_is_there_is_not_overwritten(make: Make, tmp_path: Path, context: TransformContext) -> None:
    old = make()
    (tmp_path / "new.db").write_text("mine")
    with pytest.raises(FileExistsError):
        transform_sqlite(old, tmp_path / "new.db", "DELETE FROM book", context=context)
