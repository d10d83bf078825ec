"""How long a request for a permit is good for: nodes far behind in the queue ask less often."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add to each request how long it is good for: of those that are there, as long as all were."""
    op.add_column("asks", sa.Column("good_for_s", sa.Double, nullable=False, server_default=sa.text("15")))
