"""The HTTP interface for operators: what they do, and what they look at.

Handlers are plain functions, as in `api`.
"""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter

from segue.model.hand import Action, Deed
from segue.server.api import LimitedRoute, System, responses_of
from segue.server.hand import judge
from segue.server.node_orders import OrdersForNodes
from segue.server.order import Judged, Order
from segue.server.refusals import unknown_system
from segue.server.store import Picture, Store
from segue.server.summary import summary_of
from segue.wire.hand import ActionAnswer, ActionRequest
from segue.wire.summary import SystemSummary


class OperatorEndpoints:
    """What the server does with each request of an operator.

    Args:
        store: the upgrade database.
        orders: is told when there is something new for nodes.
    """

    def __init__(self, store: Store, orders: OrdersForNodes) -> None:
        self._store = store
        self._orders = orders

    def act(self, system: System, request: ActionRequest) -> ActionAnswer:
        """Pause, resume or abort a rollout, approve a gate, skip, retry, force or forget a node, retire a version.

        What is done is in the history, with who and why; the answer says what it means now.
        """
        callers = self._store.callers_of(system) if request.deed is Deed.RETIRE else ()
        told: list[Judged] = []

        def judge_now(picture: Picture) -> Action:
            told.append(judge(picture, Order(request=request, callers=callers, now=picture.at)))
            return told[-1].action

        action = self._store.act(system, judge_now)
        self._orders.forget(system)
        return ActionAnswer(
            deed=action.deed,
            at=action.at,
            who=action.who,
            why=action.why,
            version=action.version,
            node=action.node,
            gate=action.gate,
            words=told[-1].words,
        )

    def show_summary(self, system: System) -> SystemSummary:
        """Show a system at a glance: as large an answer for ten thousand nodes as for ten."""
        picture = self._known(system)
        return summary_of(picture, self._store.callers_of(system), picture.at)

    def _known(self, system: System) -> Picture:
        picture = self._store.picture_of(system)
        if not picture.is_known:
            raise unknown_system(system)
        return picture


def operator_router_of(endpoints: OperatorEndpoints) -> APIRouter:
    """Return the routes, each with all that it can answer."""
    router = APIRouter(prefix="/v1/systems/{system}", route_class=LimitedRoute)

    def add(method: str, path: str, handler: Callable[..., Any], summary: str, *refused: int) -> None:
        router.add_api_route(
            path,
            handler,
            methods=[method],
            operation_id=handler.__name__,
            summary=summary,
            responses=responses_of(*refused),
        )

    add("POST", "/actions", endpoints.act, "Do something to a rollout", 404, 409, 413)
    add("GET", "/summary", endpoints.show_summary, "Show a system at a glance", 404)
    return router
