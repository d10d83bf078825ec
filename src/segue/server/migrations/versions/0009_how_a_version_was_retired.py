"""How a version was retired: by force, or as nobody called with it."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add to actions what was lost; of those that are there, nobody knows."""
    op.add_column("actions", sa.Column("forced", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("actions", sa.Column("unused_s", sa.Double))
