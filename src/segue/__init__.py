"""Segue upgrades long-lived distributed systems while they run.

What a release's author needs is here. Everything else is reached through the `segue` command.
"""

from segue.author import (
    Disallowed,
    FutureSimulation,
    Node,
    PastSimulation,
    TransformContext,
    observes,
)

__all__ = ["Disallowed", "FutureSimulation", "Node", "PastSimulation", "TransformContext", "observes"]
