"""Segue upgrades long-lived distributed systems while they run.

What a release's author needs is here, and what the system's clients need: `labelled_channel`. Everything
else is reached through the `segue` command.
"""

from segue.author import (
    Disallowed,
    FutureSimulation,
    Node,
    PastSimulation,
    TransformContext,
    observes,
)
from segue.layer.grpc_channel import labelled_channel
from segue.release.convert import convert

__all__ = [
    "Disallowed",
    "FutureSimulation",
    "Node",
    "PastSimulation",
    "TransformContext",
    "convert",
    "labelled_channel",
    "observes",
]
