"""What operators did."""

import sqlalchemy as sa
from alembic import op

from segue.server.columns import Name, UtcTime, Words

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add the table of actions."""
    op.create_table(
        "actions",
        sa.Column("system", Name, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("deed", Name, nullable=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.Column("who", Words, nullable=False),
        sa.Column("why", Words, nullable=False),
        sa.Column("version", sa.Integer),
        sa.Column("node", Name),
        sa.Column("gate", Words),
    )
