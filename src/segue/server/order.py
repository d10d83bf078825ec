"""What an operator wants, put beside what is known when it is judged."""

from dataclasses import dataclass
from datetime import datetime

from segue.model.hand import Action
from segue.server.facts import CallerSum
from segue.wire.hand import ActionRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What an operator wants, and what is known when it is judged.

    Attributes:
        request: what they want.
        callers: who called with which version.
        now: when, UTC.
    """

    request: ActionRequest
    callers: tuple[CallerSum, ...]
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What is kept, and what it means now, in a few lines."""

    action: Action
    words: str
