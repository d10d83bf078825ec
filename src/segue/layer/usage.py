"""Counts of the calls that this process answered."""

from collections import Counter

from segue.model.ids import Version
from segue.model.usage import AnsweredBy, CallCounts, CallKey


class Usage:
    """How often each kind of call was answered since the process began; counts only grow."""

    def __init__(self) -> None:
        #: {what all calls of an entry share: {outcome: calls}}
        self._tallies: dict[tuple[Version, str, AnsweredBy, bool], Counter[str]] = {}

    def tally(self, caller_version: Version, method: str, answered_by: AnsweredBy, from_node: bool) -> Counter[str]:
        """Return the live counts by outcome of one kind of call, to be added to.

        A call adds to a counter that was found beforehand, so that counting costs it one addition.

        Args:
            caller_version: the version that the caller speaks.
            method: the method's path, `/package.Service/Method`.
            answered_by: the kind of object that answers.
            from_node: True for callers that are nodes.
        """
        return self._tallies.setdefault((caller_version, method, answered_by, from_node), Counter())

    def counts(self) -> CallCounts:
        """Return the counts as they are now; they do not change afterwards."""
        return {
            CallKey(
                caller_version=caller_version,
                method=method,
                answered_by=answered_by,
                from_node=from_node,
                outcome=outcome,
            ): count
            for (caller_version, method, answered_by, from_node), tally in self._tallies.items()
            for outcome, count in tally.items()
        }

    def __repr__(self) -> str:
        return f"Usage({sum(tally.total() for tally in self._tallies.values())} calls)"
