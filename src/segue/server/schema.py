"""The tables of the upgrade database, and what their rows say; for `sql` alone."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import DateTime, Dialect, ForeignKeyConstraint, Index, MetaData, String, Text, TypeDecorator
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from segue.model.hand import Action, Deed
from segue.model.ids import ClassName, ContentHash, NodeId, SystemName, Version
from segue.server.store import Ask, NodeRecord, Permit, Release
from segue.wire.messages import Heartbeat

#: Kept in the database, so that a server does not write into one that another schema made.
SCHEMA_VERSION = 5


class UtcTime(TypeDecorator[datetime]):
    """A time, aware and UTC on this side; SQLite has no zones, so there it is UTC by this rule."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Turn an aware time into UTC."""
        if value is None:
            return None
        assert value.tzinfo is not None, f"{value!r} has no time zone: store aware times only"
        return value.astimezone(UTC)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """Give back a time as aware UTC."""
        if value is None:
            return None
        assert isinstance(value, datetime)
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """What all tables share."""

    metadata = MetaData()
    type_annotation_map = {datetime: UtcTime, str: String}  # noqa: RUF012 - SQLAlchemy's own idiom


class ReleaseRow(Base):
    """A release; a system's versions are 1, 2, 3 … without a gap."""

    __tablename__ = "releases"
    system: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str]
    size_bytes: Mapped[int]
    description: Mapped[str]
    published_at: Mapped[datetime]
    manifest: Mapped[str] = mapped_column(Text)

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
    """A node as it was last heard of; `said` is its heartbeat as JSON."""

    __tablename__ = "nodes"
    system: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    version: Mapped[int]
    said: Mapped[str] = mapped_column(Text)
    last_seen: Mapped[datetime]

    def fact(self) -> NodeRecord:
        """Return what the row says."""
        said = Heartbeat.model_validate_json(self.said)
        return NodeRecord(id=NodeId(self.id), version=Version(self.version), said=said, last_seen=self.last_seen)


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
    failure: Mapped[str | None]
    final: Mapped[bool]
    failed_version: Mapped[int | None]
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
        )


# The database itself holds this, whatever the code above it does.
Index(
    "one_open_permit_per_node",
    PermitRow.system,
    PermitRow.node,
    unique=True,
    sqlite_where=PermitRow.returned_at.is_(None),
    postgresql_where=PermitRow.returned_at.is_(None),
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
        )


class CallsRow(Base):
    """Calls that one process of a node answered since it began, of one kind, and when their count last grew."""

    __tablename__ = "calls"
    system: Mapped[str] = mapped_column(primary_key=True)
    node: Mapped[str] = mapped_column(primary_key=True)
    incarnation: Mapped[str] = mapped_column(primary_key=True)
    node_version: Mapped[int] = mapped_column(primary_key=True)
    caller_version: Mapped[int] = mapped_column(primary_key=True)
    caller: Mapped[str] = mapped_column(primary_key=True)
    method: Mapped[str] = mapped_column(primary_key=True)
    answered_by: Mapped[str] = mapped_column(primary_key=True)
    from_node: Mapped[bool] = mapped_column(primary_key=True)
    outcome: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int]
    last_at: Mapped[datetime]
    __table_args__ = (ForeignKeyConstraint(["system", "node"], ["nodes.system", "nodes.id"]),)


class ActionRow(Base):
    """What an operator did; rows are added, and never changed."""

    __tablename__ = "actions"
    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=True)
    system: Mapped[str] = mapped_column(index=True)
    deed: Mapped[str]
    at: Mapped[datetime]
    who: Mapped[str]
    why: Mapped[str]
    version: Mapped[int | None]
    node: Mapped[str | None]
    gate: Mapped[str | None]

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
        )
