"""When a node may upgrade: the rules of a schedule as data, and the one function that decides.

Pure: no I/O, no time, no state. The upgrade server gathers the facts and writes down the grants, both in
one transaction of `segue.server`; what only the node knows is asked on the node.

Each rule has a room (`budgets`, `canaries`, …), built from the scene of one decision; `decision` lists them all.
"""

from segue.schedule.decision import Decision, Refusal, decide, halted
from segue.schedule.reasons import (
    Aborted,
    Behind,
    BudgetSpent,
    CanaryAway,
    CanaryFailed,
    CanaryFirst,
    CanarySilent,
    CanarySoaks,
    ClassBehind,
    FactMissing,
    Frozen,
    GateClosed,
    Halted,
    MomentAhead,
    NodeDecides,
    NodeHolds,
    Paused,
    Queued,
    RateSpent,
    Reason,
    Silent,
    Skipped,
    Unhealthy,
    WaveFull,
    WebhookSaysNo,
    WebhookUnknown,
    WindowClosed,
    until,
)
from segue.schedule.rules import STALE_S, Bound, Budget, Canary, Rate, Rules, Waves
from segue.schedule.words import words

__all__ = [
    "STALE_S",
    "Aborted",
    "Behind",
    "Bound",
    "Budget",
    "BudgetSpent",
    "Canary",
    "CanaryAway",
    "CanaryFailed",
    "CanaryFirst",
    "CanarySilent",
    "CanarySoaks",
    "ClassBehind",
    "Decision",
    "FactMissing",
    "Frozen",
    "GateClosed",
    "Halted",
    "MomentAhead",
    "NodeDecides",
    "NodeHolds",
    "Paused",
    "Queued",
    "Rate",
    "RateSpent",
    "Reason",
    "Refusal",
    "Rules",
    "Silent",
    "Skipped",
    "Unhealthy",
    "WaveFull",
    "Waves",
    "WebhookSaysNo",
    "WebhookUnknown",
    "WindowClosed",
    "decide",
    "halted",
    "until",
    "words",
]
