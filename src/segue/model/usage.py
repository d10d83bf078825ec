"""Who calls with which version: the key that calls are counted by, and the counts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from segue.model.ids import Version

#: Which kind of object of a node's chain answered a call.
AnsweredBy: TypeAlias = Literal["current", "past", "future"]

#: Stands for all callers whom a process could not count by name any more; no name and no host is written so.
OTHERS = "(others)"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallKey:
    """Calls that are counted together.

    Attributes:
        node_version: the version that the node ran.
        caller_version: the version that the caller spoke.
        caller: who called: the name that the caller gave itself, else the node's id if it was a node, else the
            host that the call came from; `OTHERS` if there are too many to tell apart.
        method: the method's path, `/package.Service/Method`.
        answered_by: the kind of object that answered.
        from_node: True if the caller was a node of the system, False if a client of it.
        outcome: the name of the gRPC status that the caller got: `OK`, `NOT_FOUND`, …
    """

    node_version: Version
    caller_version: Version
    caller: str
    method: str
    answered_by: AnsweredBy
    from_node: bool
    outcome: str


#: Calls since the process that counted them began: a later count replaces an earlier one.
CallCounts: TypeAlias = Mapping[CallKey, int]
