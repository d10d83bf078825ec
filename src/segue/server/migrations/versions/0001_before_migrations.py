"""The schema as it was before there were migrations; a SQLite database of that time is taken over at this step."""

import sqlalchemy as sa
from alembic import op

from segue.server.columns import Big, Name, UtcTime, Words

revision = "0001"
down_revision = None


def _of_system(*names: str) -> list[sa.Column[str]]:
    return [sa.Column(name, Name, primary_key=True) for name in ("system", *names)]


def _of_node() -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(["system", "node"], ["nodes.system", "nodes.id"])


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "releases",
        *_of_system(),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("sha256", Name, nullable=False),
        sa.Column("size_bytes", Big, nullable=False),
        sa.Column("description", Words, nullable=False),
        sa.Column("published_at", UtcTime, nullable=False),
        sa.Column("manifest", sa.Text, nullable=False),
    )
    op.create_table(
        "nodes",
        *_of_system("id"),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("said", sa.Text, nullable=False),
        sa.Column("last_seen", UtcTime, nullable=False),
    )
    op.create_table(
        "permits",
        *_of_system("id"),
        sa.Column("node", Name, nullable=False),
        sa.Column("class_name", Name, nullable=False),
        sa.Column("from_version", sa.Integer, nullable=False),
        sa.Column("to_version", sa.Integer, nullable=False),
        sa.Column("granted_at", UtcTime, nullable=False),
        sa.Column("returned_at", UtcTime),
        sa.Column("failure", Words),
        sa.Column("final", sa.Boolean, nullable=False),
        sa.Column("failed_version", sa.Integer),
        _of_node(),
    )
    is_open = sa.text("returned_at IS NULL")
    op.create_index(
        "one_open_permit_per_node", "permits", ["system", "node"], unique=True, sqlite_where=is_open,
        postgresql_where=is_open,
    )  # fmt: skip
    op.create_table(
        "asks",
        *_of_system("node"),
        sa.Column("class_name", Name, nullable=False),
        sa.Column("from_version", sa.Integer, nullable=False),
        sa.Column("to_version", sa.Integer, nullable=False),
        sa.Column("asked_at", UtcTime, nullable=False),
        sa.Column("last_asked_at", UtcTime, nullable=False),
        _of_node(),
    )
    op.create_table(
        "calls",
        *_of_system("node"),
        sa.Column("incarnation", Words, primary_key=True),
        sa.Column("node_version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("caller_version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("caller", Words, primary_key=True),
        sa.Column("method", Words, primary_key=True),
        sa.Column("answered_by", Name, primary_key=True),
        sa.Column("from_node", sa.Boolean, primary_key=True),
        sa.Column("outcome", Words, primary_key=True),
        sa.Column("count", Big, nullable=False),
        sa.Column("last_at", UtcTime, nullable=False),
        _of_node(),
    )
