"""How long to wait before the upgrade server is asked again that did not answer."""

import random

#: A fleet is told to come back within this, so that nodes are seen again soon after a server is back: a node that was
#: not seen for 15 seconds counts as silent, and a permit lapses after a minute.
LIMIT_S = 15.0


def jittered(about_s: float) -> float:
    """Return a time to wait, so that a fleet that was refused together does not come back together."""
    return about_s * random.uniform(0.75, 1.25)


class Backoff:
    """Waits longer after each failure that follows another.

    Args:
        least_s: seconds after the first failure.
    """

    def __init__(self, least_s: float) -> None:
        self._least_s = least_s
        self._failures = 0

    def after_failure(self, retry_after_s: float) -> float:
        """Return how many seconds to wait, about.

        Args:
            retry_after_s: what the server asked for; it is never asked sooner.
        """
        self._failures += 1
        wait_s = min(self._least_s * 2.0 ** min(self._failures - 1, 10), LIMIT_S)
        return max(jittered(wait_s), retry_after_s * random.uniform(1.0, 1.25))

    def reset(self) -> None:
        """Begin anew: the server has answered."""
        self._failures = 0

    def __repr__(self) -> str:
        return f"Backoff({self._failures} failures)"
