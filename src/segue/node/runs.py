"""Which agent this is, of all that are ever started for a node: by its state folder, and how often that was used.

So the upgrade server can tell an agent that was started again from a second one with the same id.
"""

import json
import logging
import secrets
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from segue.errors import OperatorError
from segue.release.durable import sync_path

logger = logging.getLogger(__name__)

_FILE = "starts.json"
_NAME_BYTES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One agent's time on a state folder.

    Attributes:
        folder: the folder's own name: made at random on its first start, it moves and is copied with the folder.
        starts: how many agents have begun on the folder, this one included.
        run: this agent's own name, made at random.
    """

    folder: str
    starts: int
    run: str


def begin_run(root: Path) -> Run:
    """Count an agent that begins on the state folder `root`, which it has claimed.

    Raises:
        OperatorError: the count is there and cannot be read.
    """
    path, run = root / _FILE, secrets.token_hex(_NAME_BYTES)
    begun = Run(folder=secrets.token_hex(_NAME_BYTES), starts=1, run=run)
    if path.exists():
        before = _read(path)
        begun = replace(before, starts=before.starts + 1, run=run)
    try:
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(asdict(begun)) + "\n")
        sync_path(partial)
        partial.rename(path)
        sync_path(root)
    except OSError as error:  # no reason for a node to stay down: the next agent waits a little to be believed
        logger.warning("%s cannot be written (%s): this start is not counted", path, error.strerror)
    return begun


def _read(path: Path) -> Run:
    try:
        found = Run(**json.loads(path.read_text()))
        if found.starts < 1 or not all(isinstance(name, str) and name for name in (found.folder, found.run)):
            raise ValueError(f"it says {found}")
        return found
    except (OSError, ValueError, TypeError) as error:
        raise OperatorError(
            f"{path}: no count of starts ({error}): remove it, and the folder is taken for a new one of its node"
        ) from error
