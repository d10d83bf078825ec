"""The tables of the upgrade database, as the migrations leave them, and what their rows say."""

import json
from datetime import datetime

from sqlalchemy import ForeignKeyConstraint, Index, LargeBinary, MetaData, Table, false, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from segue.model.hand import Action, Deed
from segue.model.ids import ClassName, ContentHash, NodeId, SystemName, Version
from segue.server.columns import Big, Document, Name, UtcTime, Words
from segue.server.facts import Ask, Halt, Permit, Release


class Base(DeclarativeBase):
    """What all tables share."""

    metadata = MetaData()
    type_annotation_map = {datetime: UtcTime, str: Name}  # noqa: RUF012 - SQLAlchemy's own idiom


def table_of(row: type[Base]) -> Table:
    """Return the table that a class of rows is of."""
    table = row.__table__
    assert isinstance(table, Table), f"{row} is of no table"
    return table


class SystemRow(Base):
    """A system: who holds its row decides about it, and nobody else meanwhile."""

    __tablename__ = "systems"
    name: Mapped[str] = mapped_column(primary_key=True)


class ReleaseRow(Base):
    """A release; a system's versions are 1, 2, 3 … without a gap."""

    __tablename__ = "releases"
    system: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str]
    size_bytes: Mapped[int] = mapped_column(Big)
    description: Mapped[str] = mapped_column(Words)
    published_at: Mapped[datetime]
    manifest: Mapped[str] = mapped_column(Document)

    def fact(self) -> Release:
        """Return what the row says."""
        return Release(
            system=SystemName(self.system),
            version=Version(self.version),
            sha256=ContentHash(self.sha256),
            size_bytes=self.size_bytes,
            description=self.description,
            published_at=self.published_at,
            manifest=self.manifest,
        )


class NodeRow(Base):
    """A node as it was last heard of.

    `said` is what decisions need of its heartbeat, as JSON; `tag` tells the whole of what it said from anything else.
    `version` is what it runs, `said_version` what it said.
    """

    __tablename__ = "nodes"
    system: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    said: Mapped[str] = mapped_column(Document)
    last_seen: Mapped[datetime]
    said_version: Mapped[int]
    tag: Mapped[str]


class DetailsRow(Base):
    """The bulky part of what a node said, as JSON; none if there is nothing of it."""

    __tablename__ = "node_details"
    system: Mapped[str] = mapped_column(primary_key=True)
    node: Mapped[str] = mapped_column(primary_key=True)
    said: Mapped[str] = mapped_column(Document)
    __table_args__ = (ForeignKeyConstraint(["system", "node"], ["nodes.system", "nodes.id"]),)


class PermitRow(Base):
    """A permit, open while `returned_at` is null; a node has at most one open."""

    __tablename__ = "permits"
    system: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    node: Mapped[str]
    class_name: Mapped[str]
    from_version: Mapped[int]
    to_version: Mapped[int]
    granted_at: Mapped[datetime]
    returned_at: Mapped[datetime | None]
    failure: Mapped[str | None] = mapped_column(Words)
    final: Mapped[bool]
    failed_version: Mapped[int | None]
    lapsed_at: Mapped[datetime | None]
    __table_args__ = (ForeignKeyConstraint(["system", "node"], ["nodes.system", "nodes.id"]),)

    def fact(self) -> Permit:
        """Return what the row says."""
        return Permit(
            id=self.id,
            node=NodeId(self.node),
            class_name=ClassName(self.class_name),
            from_version=Version(self.from_version),
            to_version=Version(self.to_version),
            granted_at=self.granted_at,
            returned_at=self.returned_at,
            failure=self.failure,
            final=self.final,
            failed_version=Version(self.failed_version) if self.failed_version else None,
            lapsed_at=self.lapsed_at,
        )


# The database itself holds this, whatever the code above it does.
Index(
    "one_open_permit_per_node",
    PermitRow.system,
    PermitRow.node,
    unique=True,
    sqlite_where=text("returned_at IS NULL"),
    postgresql_where=text("returned_at IS NULL"),
)


class AskRow(Base):
    """A node that waits for a permit."""

    __tablename__ = "asks"
    system: Mapped[str] = mapped_column(primary_key=True)
    node: Mapped[str] = mapped_column(primary_key=True)
    class_name: Mapped[str]
    from_version: Mapped[int]
    to_version: Mapped[int]
    asked_at: Mapped[datetime]
    last_asked_at: Mapped[datetime]
    good_for_s: Mapped[float] = mapped_column(server_default=text("15"))
    __table_args__ = (ForeignKeyConstraint(["system", "node"], ["nodes.system", "nodes.id"]),)

    def fact(self) -> Ask:
        """Return what the row says."""
        return Ask(
            node=NodeId(self.node),
            class_name=ClassName(self.class_name),
            from_version=Version(self.from_version),
            to_version=Version(self.to_version),
            asked_at=self.asked_at,
            last_asked_at=self.last_asked_at,
            good_for_s=self.good_for_s,
        )


class HaltRow(Base):
    """A rollout that has halted by itself; the row goes when that is over, and the history has it."""

    __tablename__ = "halts"
    system: Mapped[str] = mapped_column(primary_key=True)
    class_name: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    failures_limit: Mapped[int]
    failed: Mapped[str] = mapped_column(Document)
    silent: Mapped[str] = mapped_column(Document)

    @classmethod
    def of(cls, system: SystemName, halt: Halt) -> "HaltRow":
        """Return the row that says it."""
        return cls(
            system=system,
            class_name=halt.class_name,
            version=halt.version,
            at=halt.at,
            failures_limit=halt.limit,
            failed=json.dumps(halt.failed),
            silent=json.dumps(halt.silent),
        )

    def fact(self) -> Halt:
        """Return what the row says."""
        return Halt(
            class_name=ClassName(self.class_name),
            version=Version(self.version),
            at=self.at,
            limit=self.failures_limit,
            failed=tuple(map(NodeId, json.loads(self.failed))),
            silent=tuple(map(NodeId, json.loads(self.silent))),
        )


class CallsRow(Base):
    """Calls that one process of a node answered since it began, of one kind, and when their count last grew."""

    __tablename__ = "calls"
    system: Mapped[str] = mapped_column(primary_key=True)
    node: Mapped[str] = mapped_column(primary_key=True)
    incarnation: Mapped[str] = mapped_column(Words, primary_key=True)
    node_version: Mapped[int] = mapped_column(primary_key=True)
    caller_version: Mapped[int] = mapped_column(primary_key=True)
    caller: Mapped[str] = mapped_column(Words, primary_key=True)
    method: Mapped[str] = mapped_column(Words, primary_key=True)
    answered_by: Mapped[str] = mapped_column(primary_key=True)
    from_node: Mapped[bool] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(Words, primary_key=True)
    count: Mapped[int] = mapped_column(Big)
    last_at: Mapped[datetime]
    __table_args__ = (
        ForeignKeyConstraint(["system", "node"], ["nodes.system", "nodes.id"]),
        Index("calls_by_age", "last_at"),
    )


class BundleRow(Base):
    """A bundle that is whole: all its pieces are there."""

    __tablename__ = "bundles"
    sha256: Mapped[str] = mapped_column(primary_key=True)
    size_bytes: Mapped[int] = mapped_column(Big)


class PieceRow(Base):
    """A piece of a bundle; pieces are 0, 1, 2 …"""

    __tablename__ = "bundle_pieces"
    sha256: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class HistoryRow(Base):
    """One thing that happened; the database refuses changes, and removals of all but what passes."""

    __tablename__ = "history"
    system: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=False)
    at: Mapped[datetime]
    kind: Mapped[str]
    node: Mapped[str | None]
    version: Mapped[int | None]
    who: Mapped[str] = mapped_column(Words)
    text: Mapped[str] = mapped_column(Words)
    details: Mapped[str] = mapped_column(Document)
    __table_args__ = (
        Index("history_of_node", "system", "node", "kind", "number"),
        Index("history_of_kind", "system", "kind", "number"),
        Index("history_by_kind", "kind", "at"),
    )


class BulkRow(Base):
    """The bulky part of an entry of the history; removed when it is old."""

    __tablename__ = "history_bulk"
    system: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(Big, primary_key=True, autoincrement=False)
    content: Mapped[str] = mapped_column(Words)
    __table_args__ = (ForeignKeyConstraint(["system", "number"], ["history.system", "history.number"]),)


class HeadRow(Base):
    """The number of the last entry in a system's history: who adds to it holds this, so none is left out as they come.

    Where entries were removed since, there are gaps.
    """

    __tablename__ = "history_heads"
    system: Mapped[str] = mapped_column(primary_key=True)
    last: Mapped[int] = mapped_column(Big)


class ChoreRow(Base):
    """What one of all servers does now and then, and when it was last done."""

    __tablename__ = "chores"
    name: Mapped[str] = mapped_column(primary_key=True)
    done_at: Mapped[datetime]


class ActionRow(Base):
    """What an operator did; rows are added, and never changed."""

    __tablename__ = "actions"
    system: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    deed: Mapped[str]
    at: Mapped[datetime]
    who: Mapped[str] = mapped_column(Words)
    why: Mapped[str] = mapped_column(Words)
    version: Mapped[int | None]
    node: Mapped[str | None]
    gate: Mapped[str | None] = mapped_column(Words)
    forced: Mapped[bool] = mapped_column(server_default=false())
    unused_s: Mapped[float | None]

    def fact(self) -> Action:
        """Return what the row says."""
        return Action(
            deed=Deed(self.deed),
            at=self.at,
            who=self.who,
            why=self.why,
            version=Version(self.version) if self.version else None,
            node=NodeId(self.node) if self.node else None,
            gate=self.gate,
            forced=self.forced,
            unused_s=self.unused_s,
        )
