"""The messages of an operator's hand: what is to be done, what it means now, and what was done before."""

from typing import Annotated, Any

from pydantic import AwareDatetime, Field

from segue.model.hand import Deed
from segue.wire.messages import Message, Name, NodeStatus, PermitStatus, ReleaseVersion

#: Seconds without a call after which nobody is taken to need a version any more: an hour.
UNUSED_S = 3600.0
#: So many entries of a history are told at once.
HISTORY_LIMIT = 1000
#: One line of text: no control characters, which terminals obey and not every database keeps.
_LINE = r"^[^\x00-\x1f\x7f]*$"
Line = Annotated[str, Field(pattern=_LINE, max_length=1000)]
Who = Annotated[str, Field(pattern=_LINE, min_length=1, max_length=100)]


class ActionRequest(Message):
    """An operator does something: `version`, `node` and `gate` as the deed needs them.

    Without a `version`, a deed that is of a release is of the one that is meant by itself, which the answer names.
    `force` has a version retired that is in use; it needs a reason, as the deed `force` does. `unused_s` is for how
    many seconds nobody may have called with a version that is to be retired.
    """

    deed: Deed
    who: Who
    why: Line = ""
    version: ReleaseVersion | None = None
    node: Name | None = None
    gate: Name | None = None
    force: bool = False
    unused_s: Annotated[float, Field(ge=0)] = UNUSED_S


class ActionAnswer(Message):
    """It is done, and in the history; `words` say what is so now, in a few lines."""

    deed: Deed
    at: AwareDatetime
    who: str
    why: str
    version: ReleaseVersion | None
    node: Name | None
    gate: Name | None
    words: str


class HistoryEntry(Message):
    """One thing that happened; `number` is its place, later entries have greater ones.

    `kind` is one of `segue history --help`'s. `who` is the operator, if one did it; `text` says it in words, or why.
    """

    number: int
    at: AwareDatetime
    kind: str
    node: Name | None = None
    version: int | None = None
    who: str = ""
    text: str = ""
    details: dict[str, Any] = Field(default_factory=dict)


class HistoryPage(Message):
    """A part of a system's history, the oldest first; there is more after number `more_after`, unless that is None.

    Of the last entries, there are more before number `more_before`, unless that is None. What was asked for was looked
    for up to number `up_to`, though nothing may have been found there: whoever asks next for what comes after it misses
    nothing. It is None from an upgrade server that is too old to say.
    """

    entries: tuple[HistoryEntry, ...]
    more_after: int | None
    more_before: int | None = None
    up_to: int | None = None


class NodeDetail(Message):
    """All that is known of one node: how it is, and its permits, the oldest first."""

    at: AwareDatetime
    node: NodeStatus
    permits: tuple[PermitStatus, ...]
