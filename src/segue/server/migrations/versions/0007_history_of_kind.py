"""The history in the order in which it is read: of a kind, and of a node."""

from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Have of each kind, and of each node and kind, the entries by their numbers."""
    op.create_index("history_of_kind", "history", ["system", "kind", "number"])
    op.create_index("history_of_node", "history", ["system", "node", "kind", "number"])
    op.drop_index("history_by_node", "history")
