"""The HTTP interface for operators: what they do, and what they look at.

Handlers are plain functions, as in `api`.
"""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Query

from segue.model.hand import Action, Deed
from segue.model.ids import NAME_PATTERN, NodeId
from segue.server.api import LimitedRoute, NodeName, System, responses_of
from segue.server.facts import Picture
from segue.server.halts import watch
from segue.server.hand import judge
from segue.server.happened import Asked, page_of
from segue.server.history import END
from segue.server.node_orders import OrdersForNodes
from segue.server.order import Judged, Order
from segue.server.refusals import unknown_system
from segue.server.status import node_of
from segue.server.store import Store
from segue.server.summary import summary_of
from segue.server.webhooks import Webhooks
from segue.wire.hand import HISTORY_LIMIT, ActionAnswer, ActionRequest, HistoryPage, NodeDetail
from segue.wire.summary import SystemSummary

_NAME = f"^{NAME_PATTERN}$"
After = Annotated[int, Query(ge=0, le=END, description="The number of the last entry that is known.")]
Limit = Annotated[int, Query(ge=1, le=HISTORY_LIMIT, description="So many entries at most.")]
_LAST = "Only so many of the last, whatever `limit` says."
Last = Annotated[int | None, Query(ge=1, le=HISTORY_LIMIT, description=_LAST)]
_BEFORE = "Of the last ones, only those with smaller numbers than this."
Before = Annotated[int, Query(ge=1, le=END, description=_BEFORE)]
OnlyNode = Annotated[NodeId | None, Query(pattern=_NAME, description="Only what is about this node.")]
Kinds = Annotated[tuple[str, ...], Query(max_length=32, description="Only these kinds; may be given again.")]


class OperatorEndpoints:
    """What the server does with each request of an operator.

    Args:
        store: the upgrade database.
        orders: is told when there is something new for nodes.
        webhooks: are asked what schedules' gates need.
    """

    def __init__(self, store: Store, orders: OrdersForNodes, webhooks: Webhooks) -> None:
        self._store = store
        self._webhooks = webhooks
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

        action = self._store.act(system, judge_now, watch)
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
        return summary_of(picture, self._store.callers_of(system), picture.at, self._webhooks.of(system))

    def show_node(self, system: System, node: NodeName) -> NodeDetail:
        """Show all that is known of one node."""
        picture = self._known(system, node)
        return node_of(picture, self._store.usage_of(system, node), node, picture.at, self._webhooks.of(system))

    def show_history(
        self,
        system: System,
        after: After = 0,
        limit: Limit = HISTORY_LIMIT,
        last: Last = None,
        before: Before = END,
        node: OnlyNode = None,
        kind: Kinds = (),
    ) -> HistoryPage:
        """List what happened to a system, the oldest first; nothing of it is ever rewritten."""
        asked = Asked(after=after, limit=limit, last=last, before=before, node=node, kinds=kind)
        page = page_of(self._store, system, asked)
        if not page.up_to:
            self._known(system)
        return page

    def _known(self, system: System, node: NodeId | None = None) -> Picture:
        picture = self._store.glance_at(system, node)
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
    add("GET", "/nodes/{node}", endpoints.show_node, "Show a node", 404)
    add("GET", "/history", endpoints.show_history, "List what happened", 404)
    add("GET", "/summary", endpoints.show_summary, "Show a system at a glance", 404)
    return router
