"""How the schema came about, step by step; each step is a module of `versions`, and never changes.

A step must not import what changes later: it has the tables as they were when it was written.
"""

from functools import lru_cache
from pathlib import Path

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from segue.errors import OperatorError

#: The step that makes the schema from before there were migrations.
FIRST = "0001"


def migrate(connection: Connection, *, name: str, found: str | None = None) -> None:
    """Bring the schema to where this version of Segue knows it, in the transaction that `connection` is in.

    Args:
        connection: to the database; nobody else migrates it meanwhile.
        name: what to call the database.
        found: the step at which it is, if it was made before there were migrations.

    Raises:
        OperatorError: its schema is newer.
    """
    scripts = _scripts()
    known = [script.revision for script in scripts.walk_revisions()]
    context = MigrationContext.configure(
        connection,
        opts={"fn": lambda heads, context: scripts._upgrade_revs("head", heads)},  # noqa: ARG005 - alembic's own names
    )
    if found is not None:
        context.stamp(scripts, found)
    at = context.get_current_revision()
    if at is not None and at not in known:
        raise OperatorError(
            f"{name} has schema {at}, this version of segue knows none after {known[0]}: "
            f"it was used by a newer version; start that one"
        )
    if at == known[0]:
        return
    with Operations.context(context):
        context.run_migrations()


@lru_cache(maxsize=1)
def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(Path(__file__).parent))
