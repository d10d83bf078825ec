"""The history of a system: what can happen, as it is kept and never rewritten."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from segue.model.ids import NodeId, Version


class Kind(StrEnum):
    """What can happen."""

    #: A release was published.
    PUBLISHED = "published"
    #: A node was heard of for the first time.
    JOINED = "joined"
    #: A node said that it runs another version than before.
    RUNS = "runs"
    #: A node said that it is in another phase than before.
    PHASE = "phase"
    #: A node said that something failed.
    FAILED = "failed"
    #: A node got a permit.
    GRANTED = "granted"
    #: A permit leads less far than it did, as its node asked for less.
    SHORTENED = "shortened"
    #: A permit came back.
    RETURNED = "returned"
    #: The lease of a permit ended: its node was silent.
    LAPSED = "lapsed"
    #: The node of a permit that had lapsed was heard of again.
    RENEWED = "renewed"
    #: An operator did something.
    ACTED = "acted"


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
