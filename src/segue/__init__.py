"""Segue upgrades long-lived distributed systems while they run.

What a release's author needs is here, and what the system's clients need: `labelled_channel`, and
`refusal_of` for calls that no object answered. `Versions` and `SyncVersions` are for servers without an agent.
Everything else is reached through the `segue` command.
"""

from segue.author import (
    Disallowed,
    FutureSimulation,
    Node,
    PastSimulation,
    TransformContext,
    intercepts,
    observes,
)
from segue.layer.alone.grpc_sync_versions import SyncVersions
from segue.layer.alone.grpc_versions import Versions
from segue.layer.grpc_abort import AbortError
from segue.layer.grpc_channel import labelled_channel
from segue.layer.grpc_refusal import Refusal, RefusalReason, refusal_of
from segue.layer.grpc_sync_channel import labelled_sync_channel
from segue.model.view import FleetView, NodeView
from segue.release.convert import convert
from segue.states.files import transform_files
from segue.states.sqlite import transform_sqlite

__all__ = [
    "AbortError",
    "Disallowed",
    "FleetView",
    "FutureSimulation",
    "Node",
    "NodeView",
    "PastSimulation",
    "Refusal",
    "RefusalReason",
    "SyncVersions",
    "TransformContext",
    "Versions",
    "convert",
    "intercepts",
    "labelled_channel",
    "labelled_sync_channel",
    "observes",
    "refusal_of",
    "transform_files",
    "transform_sqlite",
]
