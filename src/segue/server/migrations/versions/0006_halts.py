"""Rollouts that have halted by themselves."""

import sqlalchemy as sa
from alembic import op

from segue.server.columns import Name, UtcTime

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add the table of halts."""
    op.create_table(
        "halts",
        sa.Column("system", Name, primary_key=True),
        sa.Column("class_name", Name, primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.Column("failures_limit", sa.Integer, nullable=False),
        sa.Column("failed", sa.Text, nullable=False),
        sa.Column("silent", sa.Text, nullable=False),
    )
