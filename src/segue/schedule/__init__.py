"""When a node may upgrade: the rules of a schedule as data, and the one function that decides.

Pure: no I/O, no time, no state. The upgrade server gathers the facts and writes down the grants, both in
one transaction of `segue.server`; what only the node knows is asked on the node.
"""

from segue.schedule.decision import Decision, Refusal, decide
from segue.schedule.reasons import (
    Behind,
    BudgetSpent,
    CanaryAway,
    CanaryFailed,
    CanarySilent,
    CanarySoaks,
    Reason,
    Silent,
    until,
    words,
)
from segue.schedule.rules import STALE_S, Budget, Canary, Rules

__all__ = [
    "STALE_S",
    "Behind",
    "Budget",
    "BudgetSpent",
    "Canary",
    "CanaryAway",
    "CanaryFailed",
    "CanarySilent",
    "CanarySoaks",
    "Decision",
    "Reason",
    "Refusal",
    "Rules",
    "Silent",
    "decide",
    "until",
    "words",
]
