"""Counts of calls by when they last grew, as they are removed."""

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Have counts of calls by their age."""
    op.create_index("calls_by_age", "calls", ["last_at"])
