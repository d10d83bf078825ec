"""The history of a system: what can happen, as it is kept and never rewritten."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from segue.model.history import Kind
from segue.model.ids import NodeId, Version

#: No entry has a number that is so large: what is before it is all there is.
END = 2**62
#: What is removed when it is old; everything else stays for ever.
PASSING = frozenset({Kind.PHASE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that happened.

    Attributes:
        number: its place in the system's history, in which later entries have greater ones; 0 until it is kept.
        at: when, by the database's clock (UTC).
        kind: what.
        node: the node that it is about; None if none.
        version: the release that it is about; None if none.
        who: the operator, if one did it.
        text: the same in words, or why.
        details: what else there is, as JSON has it.
        bulk: a traceback; empty once it was too old to be kept.
    """

    number: int = 0
    at: datetime
    kind: Kind
    node: NodeId | None = None
    version: Version | None = None
    who: str = ""
    text: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)
    bulk: str = ""
