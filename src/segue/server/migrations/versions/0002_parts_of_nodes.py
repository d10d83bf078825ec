"""What decisions need of a node is apart from what people want to see, and a tag tells what a node said from all else.

And what several servers need: a row of each system to hold while one decides about it, and bundles in the database.
"""

import json
from hashlib import sha256

import sqlalchemy as sa
from alembic import op

from segue.server.columns import Big, Name

revision = "0002"
down_revision = "0001"

_BULKY = ("failure_details", "upgrades", "progress", "disk")


def upgrade() -> None:
    """Take apart what nodes said, and add what several servers need."""
    op.add_column("nodes", sa.Column("said_version", sa.Integer, nullable=False, server_default="0"))
    op.add_column("nodes", sa.Column("tag", Name, nullable=False, server_default=""))
    details = op.create_table(
        "node_details",
        sa.Column("system", Name, primary_key=True),
        sa.Column("node", Name, primary_key=True),
        sa.Column("said", sa.Text, nullable=False),
        sa.ForeignKeyConstraint(["system", "node"], ["nodes.system", "nodes.id"]),
    )
    systems = op.create_table("systems", sa.Column("name", Name, primary_key=True))
    op.create_table(
        "bundles", sa.Column("sha256", Name, primary_key=True), sa.Column("size_bytes", Big, nullable=False)
    )
    op.create_table(
        "bundle_pieces",
        sa.Column("sha256", Name, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    _take_apart(details)
    connection = op.get_bind()
    for table in ("releases", "nodes"):
        rows = connection.execute(
            sa.text(f"SELECT DISTINCT system FROM {table} WHERE system NOT IN (SELECT name FROM systems)")
        )
        op.bulk_insert(systems, [{"name": name} for (name,) in rows.all()])


def _take_apart(details: sa.Table) -> None:
    nodes = sa.table(
        "nodes", sa.column("system"), sa.column("id"), sa.column("said"), sa.column("said_version"), sa.column("tag")
    )
    connection = op.get_bind()
    for system, node, text in connection.execute(sa.select(nodes.c.system, nodes.c.id, nodes.c.said)).all():
        said = json.loads(text)
        bulky = {name: said[name] for name in _BULKY if said.get(name)}
        kept = {name: value for name, value in said.items() if name not in _BULKY}
        kept["upgrades"] = [row for row in said.get("upgrades", ()) if row.get("probation_failed")]
        connection.execute(
            sa.update(nodes)
            .where(nodes.c.system == system, nodes.c.id == node)
            .values(said=json.dumps(kept), said_version=said["version"], tag=sha256(text.encode()).hexdigest()[:32])
        )
        if bulky:
            op.bulk_insert(details, [{"system": system, "node": node, "said": json.dumps(bulky)}])
