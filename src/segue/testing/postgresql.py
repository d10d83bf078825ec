"""A PostgreSQL of the tests' own, in a temporary folder: nothing that runs on the machine is touched.

PostgreSQL refuses to run as root: then it is run as `postgres` if there is such a user, else as `nobody`. It ends
with the process that started it, also when that is killed.
"""

import ctypes
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg

from segue.local import free_ports

#: Where Debian has its programs, a folder for each version.
_DEBIAN = Path("/usr/lib/postgresql")
_PR_SET_PDEATHSIG = 1
#: For a machine that is very busy.
_START_LIMIT_S = 60.0
_SETTINGS = {"synchronous_commit": "on", "max_connections": "200"}
#: Tests are not about power cuts.
_FORGETFUL = {"fsync": "off", "full_page_writes": "off"}

_libc = ctypes.CDLL(None, use_errno=True)


class NoPostgresqlError(Exception):
    """PostgreSQL's programs are not on this machine."""


class Postgresql:
    """A PostgreSQL that can be stopped and started again.

    Args:
        folder: an empty folder of its own, which its user may reach.
        programs: the folder of PostgreSQL's programs.
        durable: whether what it says it has written survives a power cut.
    """

    def __init__(self, folder: Path, programs: Path, *, durable: bool = False) -> None:
        self._settings = _SETTINGS if durable else {**_SETTINGS, **_FORGETFUL}
        self._folder = folder
        self._programs = programs
        self._user = _user()
        (self._port,) = free_ports(1)
        self._process: subprocess.Popen[bytes] | None = None
        #: It listens on loopback, where other users of the machine may call.
        self._password = secrets.token_hex(16)

    def create(self) -> None:
        """Make the cluster; names are ordered there as people like it, which a program must not rest on."""
        folder = self._folder
        if self._user:
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)
        secret = folder / "password"
        secret.write_text(self._password)
        if self._user:
            os.chown(secret, self._user.pw_uid, self._user.pw_gid)
        options = ["--pgdata", str(folder / "data"), "--username", "segue", "--pwfile", str(secret)]
        options += ["--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"]
        self._run("initdb", [*options, *self._ordering()])

    def start(self) -> None:
        """Start it, and return when it answers."""
        assert self._process is None, "it runs already"
        settings = [f"--{name}={value}" for name, value in self._settings.items()]
        where = ["-D", str(self._folder / "data"), "-p", str(self._port), "-h", "127.0.0.1", "-k", ""]
        log = (self._folder / "log").open("ab")
        with closing(log):
            self._process = subprocess.Popen(
                [str(self._programs / "postgres"), *where, *settings],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_as_user(self._user, os.getpid()),
                cwd=self._folder,
            )
        self._await_answer()

    def start_again(self) -> None:
        """Start it if it was stopped."""
        if self._process is None:
            self.start()

    def stop(self) -> None:
        """End it at once, as a machine that is switched off does; `start` has it as it was."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGQUIT)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def url(self, database: str) -> str:
        """Return the URL of a database."""
        return f"postgresql://segue:{self._password}@127.0.0.1:{self._port}/{database}"

    def make_database(self, name: str) -> str:
        """Make an empty database, in place of one of this name, and return its URL."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.url(name)

    def empty_database(self, name: str) -> str:
        """Return the URL of a database without rows: made if it is not there, and with the tables that it had."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            there = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
            if not there:
                return self.make_database(name)
        with psycopg.connect(self.url(name)) as connection:
            tables = connection.execute(
                "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = 'public' AND tablename <> %s",
                ["alembic_version"],
            ).fetchall()
            if tables:
                connection.execute(f"TRUNCATE {', '.join(table for (table,) in tables)}".encode())
        return self.url(name)

    def _await_answer(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_LIMIT_S
        while True:
            try:
                with psycopg.connect(self.url("postgres"), connect_timeout=5):
                    return
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    log = (self._folder / "log").read_text(errors="replace")
                    raise AssertionError(f"PostgreSQL does not start: {error}\n{log[-2000:]}") from error
            time.sleep(0.05)

    def _ordering(self) -> Sequence[str]:
        known = subprocess.run([self._programs / "initdb", "--help"], capture_output=True, text=True, check=True)
        return ["--locale-provider", "icu", "--icu-locale", "en-US"] if "--icu-locale" in known.stdout else []

    def _run(self, program: str, options: Sequence[str]) -> None:
        command = [str(self._programs / program), *options]
        done = subprocess.run(
            command, capture_output=True, text=True, preexec_fn=_as_user(self._user, os.getpid()), cwd=self._folder
        )
        assert done.returncode == 0, f"{program} failed:\n{done.stdout}\n{done.stderr}"

    def __repr__(self) -> str:
        return f"Postgresql({str(self._folder)!r}, {'runs' if self._process else 'stopped'})"


@contextmanager
def postgresql(*, durable: bool = False) -> Iterator[Postgresql]:
    """Run a PostgreSQL for the time of the context.

    Args:
        durable: whether what it says it has written survives a power cut, which tests can do without.

    Raises:
        NoPostgresqlError: its programs are not here.
    """
    programs = _programs()
    folder = Path(tempfile.mkdtemp(prefix="segue-postgresql-"))
    database = Postgresql(folder, programs, durable=durable)
    try:
        database.create()
        database.start()
        yield database
    finally:
        database.stop()
        shutil.rmtree(folder, ignore_errors=True)


def is_required(environment: Mapping[str, str]) -> bool:
    """Say whether tests must not go without it: on a machine that tests for others, where `CI` is `true`."""
    return environment.get("CI", "").lower() in ("true", "1")


def _programs() -> Path:
    found = sorted(_DEBIAN.glob("*/bin/postgres"), key=lambda path: float(path.parent.parent.name))
    if found:
        return found[-1].parent
    if on_path := shutil.which("postgres"):
        return Path(on_path).resolve().parent
    raise NoPostgresqlError("PostgreSQL is not here: apt install postgresql")


def _user() -> pwd.struct_passwd | None:
    """Return whom to run it as; None for oneself."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise NoPostgresqlError("PostgreSQL does not run as root, and there is no user postgres or nobody to run it as")


def _as_user(user: pwd.struct_passwd | None, parent: int) -> Callable[[], None]:
    """Return what a new process does first: be that user, and end with its parent."""

    def prepare() -> None:
        if user:
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
        # After the change of user, which the kernel takes it back for. SIGQUIT ends PostgreSQL at once, with its
        # children.
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)
        if os.getppid() != parent:  # it has died meanwhile
            os._exit(1)

    return prepare
