"""What operators told the node through the upgrade server, kept for when that does not answer."""

import json
import logging
from pathlib import Path

from segue.model.ids import Version
from segue.release.durable import sync_path

logger = logging.getLogger(__name__)


class Told:
    """The last word that a node had from operators.

    Each heartbeat tells it again, so a file that cannot be read or written is no harm for long.

    Args:
        path: the file that keeps it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        #: The oldest version that is to be answered; 0 if none was retired.
        self.oldest = Version(0)
        #: The last order to try again that was carried out.
        self.retried = ""
        try:
            kept = json.loads(path.read_text())
            self.oldest, self.retried = Version(int(kept["oldest"])), str(kept["retried"])
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.error("%s cannot be read (%s): the upgrade server tells it again", path, error)

    def retire(self, oldest: Version) -> bool:
        """Take note of the oldest version that is to be answered; say whether that is news. It never goes back."""
        if oldest <= self.oldest:
            return False
        self.oldest = oldest
        self._keep()
        return True

    def carried_out(self, order: str) -> None:
        """Take note that an order to try again was carried out, so that it is not once more."""
        self.retried = order
        self._keep()

    def _keep(self) -> None:
        partial = self._path.with_suffix(".partial")
        try:
            partial.write_text(json.dumps({"oldest": self.oldest, "retried": self.retried}) + "\n")
            sync_path(partial)
            partial.rename(self._path)
            sync_path(self._path.parent)
        except OSError as error:
            logger.error("%s cannot be written (%s): an agent that starts anew has to be told again", self._path, error)

    def __repr__(self) -> str:
        return f"Told(oldest={self.oldest}, retried={self.retried!r})"
