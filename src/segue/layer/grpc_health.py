"""The standard health service of a node, which tells a node that upgrades from one that is down.

It answers beside the object, and so in a pause, too. It says what supervisors and load balancers ask: to be
restarted a node must be down, and a node that upgrades is not.
"""

import asyncio
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Never

import grpc
from grpc_health.v1.health_pb2 import (
    HealthCheckRequest,
    HealthCheckResponse,
    HealthListRequest,
    HealthListResponse,
)

from segue.layer.grpc_collector import MethodHandler
from segue.layer.grpc_context import Context
from segue.layer.grpc_refusal import Refusal, RefusalReason, refuse
from segue.layer.grpc_server import Dispatch

#: As gRPC names it, in all languages.
HEALTH_SERVICE = "grpc.health.v1.Health"
#: What is asked for by who wants to know whether calls are let in at this moment.
READY = "segue.ready"
#: Metadata that comes with each answer: where the node is, and the version that it runs.
PHASE_KEY = "segue-phase"
VERSION_KEY = "segue-version"


class NodePhase(StrEnum):
    """Where a node is, as its health service says it."""

    STARTING = "starting"
    SERVING = "serving"
    UPGRADING = "upgrading"
    LEAVING = "leaving"
    STOPPING = "stopping"


_DOWN = frozenset({NodePhase.STARTING, NodePhase.STOPPING})


class Health(grpc.GenericRpcHandler):
    """Answers the health service for what a dispatch answers.

    `""` and each service of the chain are SERVING as long as their calls are answered or wait to be answered soon,
    in a pause, too. `segue.ready` is SERVING only while calls are let in. An object that has a health service of
    its own answers instead.

    Args:
        dispatch: whose calls' services these are; it hands over the calls of the health service.
    """

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._is_stopping = False
        self._changed = asyncio.Event()
        self._handlers: Mapping[str, MethodHandler] = {
            f"/{HEALTH_SERVICE}/Check": grpc.unary_unary_rpc_method_handler(
                self._check, HealthCheckRequest.FromString, HealthCheckResponse.SerializeToString
            ),
            f"/{HEALTH_SERVICE}/List": grpc.unary_unary_rpc_method_handler(
                self._list, HealthListRequest.FromString, HealthListResponse.SerializeToString
            ),
            f"/{HEALTH_SERVICE}/Watch": grpc.unary_stream_rpc_method_handler(
                self._watch, HealthCheckRequest.FromString, HealthCheckResponse.SerializeToString
            ),
        }
        dispatch.add_beside(self, [HEALTH_SERVICE])
        dispatch.add_listener(self._wake)

    @property
    def phase(self) -> NodePhase:
        """Where the node is."""
        if self._is_stopping:
            return NodePhase.STOPPING
        if self._dispatch.is_forwarding:
            return NodePhase.LEAVING
        if self._dispatch.current is None:
            return NodePhase.STARTING
        return NodePhase.SERVING if self._dispatch.lets_in else NodePhase.UPGRADING

    def stop(self) -> None:
        """Say from now on that the node is down, to those who watch, too; their calls end."""
        self._is_stopping = True
        self._wake()

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> "MethodHandler | None":
        """Return the handler of a method of the health service; None for others."""
        return self._handlers.get(handler_call_details.method)

    async def _check(self, request: HealthCheckRequest, context: Context) -> HealthCheckResponse:
        self._tell_phase(context)
        status = self._status(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"segue: this node has no service {request.service!r}")
        return HealthCheckResponse(status=status)

    async def _list(self, _: HealthListRequest, context: Context) -> HealthListResponse:
        self._tell_phase(context)
        names = sorted({"", READY, *self._dispatch.services})
        return HealthListResponse(statuses={name: HealthCheckResponse(status=self._status(name)) for name in names})

    async def _watch(self, request: HealthCheckRequest, context: Context) -> None:
        """Tell each change; whoever watches a process that was replaced is to watch again, and gets the new one."""
        told: Any = None
        while not self._dispatch.is_forwarding:
            status = self._status(request.service)
            if status is None:
                status = HealthCheckResponse.SERVICE_UNKNOWN
            changed = self._changed
            if status != told:
                await context.write(HealthCheckResponse(status=status))
                told = status
            if self._is_stopping:
                break
            if changed is self._changed:
                await changed.wait()
        await self._end_watching(context)

    async def _end_watching(self, context: Context) -> Never:
        self._tell_phase(context)
        reason = RefusalReason.NODE_NOT_READY if self._is_stopping else RefusalReason.NODE_UPGRADING
        what = "stops" if self._is_stopping else "has upgraded, and this is its old process"
        await refuse(Refusal(reason=reason, message=f"segue: this node {what}: watch again"), context)

    def _status(self, service: str) -> Any:
        """Return the status of a service; None if there is no such service."""
        phase = self.phase
        if service == READY:
            serves = phase is NodePhase.SERVING
        elif service == "" or service in self._dispatch.services:
            serves = phase not in _DOWN
        else:
            return None
        return HealthCheckResponse.SERVING if serves else HealthCheckResponse.NOT_SERVING

    def _tell_phase(self, context: Context) -> None:
        version = self._dispatch.current
        told = ((PHASE_KEY, str(self.phase)),)
        context.set_trailing_metadata(told if version is None else (*told, (VERSION_KEY, str(version))))

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def __repr__(self) -> str:
        return f"Health({self.phase})"
