"""The upgrade database in SQLite, through SQLAlchemy; only this and `schema` import it."""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from sqlite3 import Connection as SQLiteConnection
from time import monotonic
from typing import Any, cast

from sqlalchemy import URL, Connection, Engine, and_, case, create_engine, event, exc, func, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.orm import Session

from segue.errors import OperatorError, PeerError
from segue.model.hand import Action, Deed
from segue.model.ids import NodeId, SystemName, Version
from segue.model.usage import AnsweredBy
from segue.server.schema import SCHEMA_VERSION, ActionRow, AskRow, Base, CallsRow, NodeRow, PermitRow, ReleaseRow
from segue.server.store import (
    CallerSum,
    Close,
    Deeds,
    Granted,
    Greet,
    Held,
    Judge,
    NodeRecord,
    NotYet,
    Picture,
    Release,
    UsageSum,
    Verdict,
    ended,
    forgotten,
    present,
    welcome,
)
from segue.wire.messages import UsageRow

#: How long a transaction waits, for other threads and other processes together, before it is given up; a
#: client's request waits longer.
BUSY_TIMEOUT_S = 5.0
#: More than the threads that answer requests (40 by default), so that none waits for a connection.
CONNECTIONS = 48

_HALF_BITS = 32
#: SQLite refuses a sum beyond 63 bits, and would then have no status for anybody: the halves stay far below.
_SUM_IN_HALVES = (
    func.sum(CallsRow.count.bitwise_rshift(_HALF_BITS)),
    func.sum(CallsRow.count.bitwise_and((1 << _HALF_BITS) - 1)),
)
_CALLS_COLUMNS = set(CallsRow.__table__.c.keys()) - {"system", "node", "last_at"}


class SqlStore:
    """A `Store` in one SQLite file. Several processes may have it open.

    Args:
        path: the file; it is made if it is not there.

    Raises:
        OperatorError: the file cannot be opened, is no database, or has another schema.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._turn = threading.Lock()
        self._engine = _engine(path)
        try:
            self._prepare()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    def append(self, release: Release) -> tuple[Release, ...]:
        """Add `release` to its system's history if it is the next one there, and only then."""
        with self._writing() as session:
            history = _history(session, release.system)
            if release.version != len(history) + 1:
                return history
            session.add(ReleaseRow(**asdict(release)))
            return (*history, release)

    def history_of(self, system: SystemName) -> tuple[Release, ...]:
        """Return what was published for `system`, oldest first."""
        with self._session(self._engine) as session:
            return _history(session, system)

    def hear(self, system: SystemName, node: NodeRecord, usage: Iterable[UsageRow], greet: Greet = welcome) -> Version:
        """Remember what a node said of itself, in place of what it said before."""
        said = {"version": node.version, "said": node.said.model_dump_json(), "last_seen": node.last_seen}
        whose = {"system": system, "node": node.id, "last_at": node.last_seen}
        calls = [{**whose, **row.model_dump(include=_CALLS_COLUMNS)} for row in usage]
        with self._writing() as session:
            newest = Version(
                session.scalar(select(func.max(ReleaseRow.version)).where(ReleaseRow.system == system)) or 0
            )
            why = greet(system, _heard(session, system, node.id), node, newest)
            if why is not None:
                _end_permit(session, system, node, why)
            _upsert(session, NodeRow, [{"system": system, "id": node.id, **said}])
            _keep_larger(session, calls)
            return newest

    def admit(self, system: SystemName, judge: Judge) -> Verdict:
        """Let `judge` decide over the system as it is, and keep what it decides, in one transaction."""
        with self._writing() as session:
            verdict = judge(_picture(session, system))
            match verdict:
                case Granted(permit):
                    session.add(PermitRow(system=system, **asdict(permit)))
                    if before := session.get(AskRow, (system, permit.node)):
                        session.delete(before)
                case NotYet(ask):
                    before = session.get(AskRow, (system, ask.node))
                    kept = ask.after(before.fact() if before else None)
                    _upsert(session, AskRow, [{"system": system, **asdict(kept)}])
                case Held(permit):
                    session.get_one(PermitRow, (system, permit.id)).to_version = permit.to_version
            return verdict

    def give_back(self, system: SystemName, node: NodeId, permit: str, close: Close) -> bool:
        """Close the permit of `node` with this id; one that is closed stays as it is."""
        with self._writing() as session:
            row = session.get(PermitRow, (system, permit))
            if row is None or row.node != node:
                return False
            if row.returned_at is None:
                closed = close(row.fact())
                row.returned_at, row.failure, row.final = closed.returned_at, closed.failure, closed.final
                row.failed_version = closed.failed_version
                if closed.failure is None:
                    known = session.get_one(NodeRow, (system, node))
                    known.version = max(known.version, row.to_version)
            return True

    def picture_of(self, system: SystemName) -> Picture:
        """Return all that is known of `system`, but for calls."""
        with self._session(self._engine) as session:
            return _picture(session, system)

    def usage_of(self, system: SystemName) -> tuple[UsageSum, ...]:
        """Return the calls that were answered in `system`, in the order of the fields."""
        kind = (
            CallsRow.node,
            CallsRow.node_version,
            CallsRow.caller_version,
            CallsRow.caller,
            CallsRow.method,
            CallsRow.answered_by,
            CallsRow.from_node,
            CallsRow.outcome,
        )
        sums = (
            select(*kind, *_SUM_IN_HALVES, func.max(CallsRow.last_at))
            .where(CallsRow.system == system)
            .group_by(*kind)
            .order_by(*kind)
        )
        with self._session(self._engine) as session:
            return tuple(
                UsageSum(
                    node=NodeId(node),
                    node_version=Version(node_version),
                    caller_version=Version(caller_version),
                    caller=caller,
                    method=method,
                    answered_by=cast(AnsweredBy, answered_by),
                    from_node=from_node,
                    outcome=outcome,
                    count=(high << _HALF_BITS) + low,
                    last_at=last_at,
                )
                for (
                    node,
                    node_version,
                    caller_version,
                    caller,
                    method,
                    answered_by,
                    from_node,
                    outcome,
                    high,
                    low,
                    last_at,
                ) in session.execute(sums)
            )

    def act(self, system: SystemName, judge: Deeds) -> Action:
        """Let `judge` say what an operator does to the system as it is, and keep that, in one transaction."""
        with self._writing() as session:
            action = judge(_picture(session, system))
            session.add(ActionRow(system=system, **asdict(action)))
            if action.deed is Deed.FORGET:
                waiting = select(AskRow).where(AskRow.system == system, AskRow.node == action.node)
                for ask in session.scalars(waiting):
                    session.delete(ask)
                held = select(PermitRow).where(
                    PermitRow.system == system, PermitRow.node == action.node, PermitRow.returned_at.is_(None)
                )
                for row in session.scalars(held):
                    closed = forgotten(row.fact(), action)
                    row.returned_at, row.failure = closed.returned_at, closed.failure
            return action

    def actions_of(self, system: SystemName) -> tuple[Action, ...]:
        """Return what operators did to `system`, oldest first."""
        with self._session(self._engine) as session:
            return _actions(session, system)

    def callers_of(self, system: SystemName) -> tuple[CallerSum, ...]:
        """Return who called in `system` with which version, in the order of the fields."""
        kind = (CallsRow.caller_version, CallsRow.caller, CallsRow.from_node)
        latest = func.max(CallsRow.last_at)
        sums = select(*kind, *_SUM_IN_HALVES, latest).where(CallsRow.system == system).group_by(*kind)
        with self._session(self._engine) as session:
            # Sorted here, as each database has an order of its own for text.
            return tuple(
                CallerSum(
                    caller_version=Version(version),
                    caller=caller,
                    from_node=from_node,
                    count=(int(high) << _HALF_BITS) + int(low),
                    last_at=last_at,
                )
                for version, caller, from_node, high, low, last_at in sorted(map(tuple, session.execute(sums)))
            )

    def systems(self) -> tuple[SystemName, ...]:
        """Return the systems that something was published for, by name."""
        first = select(ReleaseRow.system).where(ReleaseRow.version == 1).order_by(ReleaseRow.system)
        with self._session(self._engine) as session:
            return tuple(SystemName(name) for name in session.scalars(first))

    def _prepare(self) -> None:
        with _told_to_operator(self._path), self._writer(BUSY_TIMEOUT_S).begin() as connection:
            found = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            tables = connection.exec_driver_sql("SELECT count(*) FROM sqlite_schema").scalar_one()
            if found != SCHEMA_VERSION and (found or tables):
                raise OperatorError(
                    f"{self._path} has schema {found}, this version of segue reads {SCHEMA_VERSION}: "
                    f"choose another data folder"
                )
            Base.metadata.create_all(connection)
            connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @contextmanager
    def _writing(self) -> Iterator[Session]:
        # SQLite waits by sleeping ever longer, and whoever comes late may go first: among many threads some
        # would wait in vain. Here they queue; SQLite's own waiting is left for other processes.
        deadline = monotonic() + BUSY_TIMEOUT_S
        if not self._turn.acquire(timeout=BUSY_TIMEOUT_S):
            raise PeerError(f"the upgrade database {self._path} does not answer: too many wait for it")
        try:
            with self._session(self._writer(max(0.0, deadline - monotonic()))) as session:
                yield session
        finally:
            self._turn.release()

    def _writer(self, within_s: float) -> Engine:
        # SQLite's plain BEGIN takes the lock at the first write: two transactions that read first could then
        # both have read the same fleet, and one would fail with "busy" however long it waited.
        return self._engine.execution_options(begin="IMMEDIATE", within_s=within_s)

    @contextmanager
    def _session(self, engine: Engine) -> Iterator[Session]:
        try:
            with Session(engine, expire_on_commit=False) as session, session.begin():
                yield session
        except (exc.OperationalError, exc.TimeoutError) as error:
            raise PeerError(f"the upgrade database {self._path} does not answer: {_cause(error)}") from error

    def __repr__(self) -> str:
        return f"SqlStore({str(self._path)!r})"


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


@contextmanager
def _told_to_operator(path: Path) -> Iterator[None]:
    try:
        yield
    except exc.DatabaseError as error:
        raise OperatorError(
            f"{path} cannot be used as the upgrade database: {_cause(error)}: choose another data folder"
        ) from error


def _cause(error: exc.SQLAlchemyError) -> BaseException:
    return error.orig if isinstance(error, exc.DBAPIError) and error.orig else error


def _heard(session: Session, system: SystemName, node: NodeId) -> NodeRecord | None:
    """Return what was last heard of a node."""
    row = session.get(NodeRow, (system, node))
    return row.fact() if row else None


def _end_permit(session: Session, system: SystemName, node: NodeRecord, why: str) -> None:
    """End the permit that a node holds, if it does, and forget that it asks for one."""
    open_ones = and_(PermitRow.system == system, PermitRow.node == node.id, PermitRow.returned_at.is_(None))
    for row in session.scalars(select(PermitRow).where(open_ones)):
        closed = ended(row.fact(), why, node.last_seen)
        row.returned_at, row.failure = closed.returned_at, closed.failure
    if asked := session.get(AskRow, (system, node.id)):
        session.delete(asked)


def _upsert(session: Session, table: type[Base], rows: list[dict[str, Any]]) -> None:
    """Write rows, each in place of the one with the same key."""
    if not rows:
        return
    statement = insert(table)
    keys = [column.name for column in table.__table__.primary_key]
    others = {column.name: statement.excluded[column.name] for column in table.__table__.c if column.name not in keys}
    session.execute(statement.on_conflict_do_update(index_elements=keys, set_=others), rows)


def _keep_larger(session: Session, calls: list[dict[str, Any]]) -> None:
    """Write counts, each in place of a smaller one with the same key."""
    if not calls:
        return
    statement = insert(CallsRow)
    new, old = statement.excluded, CallsRow
    grown = new["count"] > old.count
    kept = {
        "count": case((grown, new["count"]), else_=old.count),
        "last_at": case((and_(grown, new.last_at > old.last_at), new.last_at), else_=old.last_at),
    }
    keys = [column.name for column in CallsRow.__table__.primary_key]
    session.execute(statement.on_conflict_do_update(index_elements=keys, set_=kept), calls)


def _picture(session: Session, system: SystemName) -> Picture:
    nodes = session.scalars(select(NodeRow).where(NodeRow.system == system).order_by(NodeRow.id))
    permits = session.scalars(
        select(PermitRow).where(PermitRow.system == system).order_by(PermitRow.granted_at, PermitRow.id)
    )
    asks = session.scalars(select(AskRow).where(AskRow.system == system).order_by(AskRow.asked_at, AskRow.node))
    actions = _actions(session, system)
    return Picture(
        system=system,
        releases=_history(session, system),
        nodes=present((row.fact() for row in nodes), actions),
        permits=tuple(row.fact() for row in permits),
        asks=tuple(row.fact() for row in asks),
        actions=actions,
    )


def _history(session: Session, system: SystemName) -> tuple[Release, ...]:
    rows = session.scalars(select(ReleaseRow).where(ReleaseRow.system == system).order_by(ReleaseRow.version))
    return tuple(row.fact() for row in rows)


def _actions(session: Session, system: SystemName) -> tuple[Action, ...]:
    rows = session.scalars(select(ActionRow).where(ActionRow.system == system).order_by(ActionRow.id))
    return tuple(row.fact() for row in rows)
