"""Permits are leases; and what happens is kept in a history that the database itself does not let anybody rewrite."""

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

from segue.server.columns import Big, Name, UtcTime, Words

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add leases and the history, and begin it with what is known."""
    op.add_column("permits", sa.Column("lapsed_at", UtcTime))
    history = op.create_table(
        "history",
        sa.Column("system", Name, primary_key=True),
        sa.Column("number", Big, primary_key=True, autoincrement=False),
        sa.Column("at", UtcTime, nullable=False),
        sa.Column("kind", Name, nullable=False),
        sa.Column("node", Name),
        sa.Column("version", sa.Integer),
        sa.Column("who", Words, nullable=False),
        sa.Column("text", Words, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
    )
    op.create_index("history_by_node", "history", ["system", "node", "number"])
    op.create_index("history_by_kind", "history", ["kind", "at"])
    op.create_table(
        "history_bulk",
        sa.Column("system", Name, primary_key=True),
        sa.Column("number", Big, primary_key=True, autoincrement=False),
        sa.Column("content", Words, nullable=False),
        sa.ForeignKeyConstraint(["system", "number"], ["history.system", "history.number"]),
    )
    heads = op.create_table(
        "history_heads", sa.Column("system", Name, primary_key=True), sa.Column("last", Big, nullable=False)
    )
    op.create_table("chores", sa.Column("name", Name, primary_key=True), sa.Column("done_at", UtcTime, nullable=False))
    _tell_what_was(history, heads)
    _forbid_to_rewrite()


def _tell_what_was(history: sa.Table, heads: sa.Table) -> None:
    """Begin the history with the releases and permits that are there."""
    of_system: dict[str, list[dict[str, Any]]] = {}
    connection = op.get_bind()
    releases = sa.table(
        "releases", sa.column("system"), sa.column("version"), sa.column("description"), sa.column("sha256"),
        sa.column("size_bytes"), sa.column("published_at", UtcTime()),
    )  # fmt: skip
    for row in connection.execute(sa.select(releases)).mappings().all():
        details = {"sha256": row["sha256"], "size_bytes": row["size_bytes"]}
        entry = {"at": row["published_at"], "kind": "published", "node": None, "version": row["version"]}
        of_system.setdefault(row["system"], []).append({**entry, "text": row["description"], "details": details})
    permits = sa.table(
        "permits", sa.column("system"), sa.column("id"), sa.column("node"), sa.column("from_version"),
        sa.column("to_version"), sa.column("granted_at", UtcTime()), sa.column("returned_at", UtcTime()),
        sa.column("failure"), sa.column("final", sa.Boolean()), sa.column("failed_version"),
    )  # fmt: skip
    for row in connection.execute(sa.select(permits)).mappings().all():
        kept = of_system.setdefault(row["system"], [])
        of_permit = {"permit": row["id"], "from_version": row["from_version"], "to_version": row["to_version"]}
        about = {"node": row["node"], "version": row["to_version"]}
        text = f"from {row['from_version']} to {row['to_version']}"
        kept.append({"at": row["granted_at"], "kind": "granted", **about, "text": text, "details": of_permit})
        if row["returned_at"]:
            failed = {"failed": row["failure"] is not None, "final": row["final"]}
            how = {**of_permit, **failed, "failed_version": row["failed_version"]}
            text = row["failure"] or "upgraded"
            kept.append({"at": row["returned_at"], "kind": "returned", **about, "text": text, "details": how})
    for system, entries in of_system.items():
        entries.sort(key=lambda entry: entry["at"])
        rows = [
            {**entry, "system": system, "number": number, "who": "", "details": json.dumps(entry["details"])}
            for number, entry in enumerate(entries, start=1)
        ]
        op.bulk_insert(history, rows)
        op.bulk_insert(heads, [{"system": system, "last": len(rows)}])


def _forbid_to_rewrite() -> None:
    """Have the database refuse changes of the history, and removals of all but phases."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute(
            "CREATE TRIGGER history_stays BEFORE UPDATE ON history "
            "BEGIN SELECT RAISE(ABORT, 'the history is never rewritten'); END"
        )
        op.execute(
            "CREATE TRIGGER history_is_kept BEFORE DELETE ON history WHEN OLD.kind <> 'phase' "
            "BEGIN SELECT RAISE(ABORT, 'the history is never rewritten'); END"
        )
        return
    op.execute(
        "CREATE FUNCTION refuse_to_rewrite_history() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the history is never rewritten'; END $$"
    )
    op.execute(
        "CREATE TRIGGER history_stays BEFORE UPDATE ON history "
        "FOR EACH ROW EXECUTE FUNCTION refuse_to_rewrite_history()"
    )
    op.execute(
        "CREATE TRIGGER history_is_kept BEFORE DELETE ON history "
        "FOR EACH ROW WHEN (OLD.kind <> 'phase') EXECUTE FUNCTION refuse_to_rewrite_history()"
    )
