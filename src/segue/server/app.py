"""The server as a program: the application put together, and run on a port."""

import asyncio
import errno
import gc
import logging
import math
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from segue.errors import OperatorError, PeerError, SegueError
from segue.model.clock import SystemClock
from segue.server.api import Endpoints, quick_routes_of, router_of
from segue.server.bundles import BundleFolder, Bundles
from segue.server.databases import UnusableError
from segue.server.event_routes import Ringing, events_router
from segue.server.events import Events
from segue.server.halts import watch
from segue.server.leases import TEND_EVERY_S
from segue.server.metrics import Measured, Metrics, metrics_router
from segue.server.node_orders import OrdersForNodes
from segue.server.operator_api import OperatorEndpoints, operator_router_of
from segue.server.quick import Quick
from segue.server.refusals import refusal_of, wrong_fields
from segue.server.sql import SqlStore
from segue.server.sql_bundles import BundleTable
from segue.server.store import Store
from segue.server.webhooks import KEEP_S, Webhooks
from segue.wire.messages import Refusal

logger = logging.getLogger(__name__)

#: The largest body: a bundle is held in memory while it is published.
LIMIT_BYTES = 256 << 20
#: Longer than clients keep an idle connection (5 s), so that none is closed under a request.
KEEP_ALIVE_S = 75
#: Connections that may wait while the server is busy: every node of a fleet may come at once.
BACKLOG = 2048
#: After Ctrl-C, how long requests under way may take.
GRACE_S = 5
#: So many objects are made, and not gone again, before Python looks for those that hold each other. A decision about a
#: large fleet makes tens of thousands, which go with it: by Python's own 700, half of its time went into looking.
OBJECTS_AT_ONCE = 50_000
#: After so many seconds a thread that computes lets others go on. Whoever answers requests stops for others some times
#: in each: by Python's own 5 ms, a decision would hold up every request for most of its time.
SWITCH_S = 0.0005
#: What is bulky in the history, and what nobody counts any more, is kept so long.
KEEP_HISTORY = timedelta(days=90)


def create_app(
    store: Store,
    bundles: Bundles,
    *,
    limit_bytes: int = LIMIT_BYTES,
    keep_history: timedelta = KEEP_HISTORY,
    webhooks: Webhooks | None = None,
) -> FastAPI:
    """Put the server together, to be run by any ASGI server, which has it look after its database (`lifespan`).

    Args:
        store: the upgrade database; its clock is the only one.
        bundles: where bundles are kept.
        limit_bytes: the largest body that is taken.
        keep_history: how long phases, tracebacks and counts of calls that do not grow are kept.
        webhooks: are asked what schedules' gates need; by default they are asked by the store's clock.
    """
    app = FastAPI(
        title="Segue upgrade server",
        summary="Publishes releases, grants permits, keeps the upgrade database.",
        version="1",
        docs_url=None,
        redoc_url=None,
        lifespan=lambda app: _tending(store, keep_history, app.state.give_up),
    )
    app.state.limit_bytes = limit_bytes
    app.state.give_up = _give_up
    orders, webhooks = OrdersForNodes(store), webhooks or Webhooks(store)
    endpoints = Endpoints(store, bundles, orders, webhooks)
    app.include_router(router_of(endpoints))
    app.include_router(operator_router_of(OperatorEndpoints(store, orders, webhooks)))
    app.state.metrics = metrics = Metrics(store)
    app.include_router(metrics_router(metrics))
    app.state.events = events = Events(store, count=metrics.watchers.inc)
    app.include_router(events_router(events, endpoints.list_releases))
    # The last one comes first.
    app.add_middleware(Ringing, events=events)
    quick = quick_routes_of(endpoints, events.ring)
    app.add_middleware(Quick, routes=quick, limit_bytes=limit_bytes, refuse=_refuse)
    app.add_middleware(Measured, metrics=metrics)
    app.add_exception_handler(SegueError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_fields)
    app.add_exception_handler(HTTPException, _refuse_http)
    app.add_exception_handler(Exception, _own_fault)
    return app


def serve(
    where: Path | str,
    *,
    host: str,
    port: int,
    limit_bytes: int = LIMIT_BYTES,
    keep_history: timedelta = KEEP_HISTORY,
    webhook_keep_s: float = KEEP_S,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Run the upgrade server until it is interrupted (SIGINT, SIGTERM).

    Args:
        where: the folder of the upgrade database and the bundles, which is made if it is not there; or the URL of a
            database on PostgreSQL, which several servers may use: it has the bundles, too.
        host: where it is reached.
        port: 0 takes a free one.
        limit_bytes: the largest bundle that is taken.
        keep_history: how long phases, tracebacks and counts of calls that do not grow are kept.
        webhook_keep_s: seconds for which a webhook's answer holds.
        on_ready: is told the server's URL once requests sent there will be answered.

    Raises:
        OperatorError: the port is in use or not to be had, or the data folder or the database cannot be used. One on
            PostgreSQL that does not answer yet is waited for; that it cannot be used may come out only then.
        KeyboardInterrupt: after an orderly end on SIGINT.
    """
    gc.set_threshold(OBJECTS_AT_ONCE)
    sys.setswitchinterval(SWITCH_S)
    with _listening(host, port) as listener:
        folder = BundleFolder(where / "bundles") if isinstance(where, Path) else None
        webhooks = Webhooks(SystemClock(), keep_s=webhook_keep_s)
        store = SqlStore(where / "database.sqlite" if isinstance(where, Path) else where)
        try:
            bundles = folder or BundleTable(store.database)
            app = create_app(store, bundles, limit_bytes=limit_bytes, keep_history=keep_history, webhooks=webhooks)
            config = uvicorn.Config(
                app,
                lifespan="on",
                log_level="warning",
                access_log=False,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=GRACE_S,
            )
            # Connections made from now on wait in the listener until the loop runs.
            if on_ready:
                on_ready(_url(listener))
            server = EndingServer(config, app.state.events)
            app.state.give_up = server.give_up
            server.run(sockets=[listener])
            if server.failure is not None:
                raise server.failure
        finally:
            webhooks.close()
            store.close()


class EndingServer(uvicorn.Server):
    """A server that ends the streams of events when it stops; it would wait for their watchers to go, else.

    Args:
        config: the server's.
        events: the streams.

    Attributes:
        failure: why it gave up; None if it did not.
    """

    def __init__(self, config: uvicorn.Config, events: Events) -> None:
        super().__init__(config)
        self._events = events
        self.failure: OperatorError | None = None

    def give_up(self, failure: OperatorError) -> None:
        """Stop, as the database cannot be used."""
        self.failure = failure
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop."""
        self._events.end()
        await super().shutdown(sockets)


@asynccontextmanager
async def _tending(store: Store, keep: timedelta, give_up: Callable[[OperatorError], None]) -> AsyncIterator[None]:
    """Look after the database for as long as the context lasts."""
    async with asyncio.TaskGroup() as tasks:
        tending = tasks.create_task(_tend(store, keep, give_up))
        yield
        tending.cancel()


async def _tend(store: Store, keep: timedelta, give_up: Callable[[OperatorError], None]) -> None:
    is_away = False
    while True:
        wait_s = TEND_EVERY_S
        try:
            await run_in_threadpool(store.tend, keep, watch)
        except UnusableError as error:
            give_up(OperatorError(str(error)))
            return
        except PeerError as error:
            if not is_away:
                logger.warning("%s; it is tried again until it does", error)
            is_away, wait_s = True, error.retry_after_s
        except (
            Exception
        ):  # if it ended with that, no lease would end, and no halt begin, for as long as the server runs
            logger.exception("the upgrade database cannot be looked after; it is tried again")
        else:
            if is_away:
                logger.warning("the upgrade database answers now")
            is_away = False
        await asyncio.sleep(wait_s)


def _give_up(failure: OperatorError) -> None:
    """Leave it to who runs the application: requests go on to be told so."""
    logger.critical("%s", failure)


def _listening(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        # Else a server that was just stopped keeps its port from the next one for a minute.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except (OSError, UnicodeError) as error:
        listener.close()
        why = error.strerror if isinstance(error, OSError) else "no host has such a name"
        now = "stop what listens there, or choose another port" if _is_taken(error) else "choose another address"
        raise OperatorError(f"cannot listen on {host}:{port}: {why}: {now}") from error
    return listener


def _is_taken(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EADDRINUSE


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _answer(status: int, refusal: Refusal, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse(refusal.model_dump(), status, headers)


def _refuse(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, SegueError)
    answer = _answer(*refusal_of(error))
    if isinstance(error, PeerError):
        request.app.state.metrics.failed()
        answer.headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    return answer


def _refuse_fields(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return _answer(422, Refusal(family="operator", message=wrong_fields(error.errors())))


def _refuse_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    message = error.detail
    if error.status_code in (404, 405):
        message = f"nothing answers {request.method} {request.url.path} here: see /openapi.json for what does"
    # Such as Allow, which says what does answer at this path.
    return _answer(error.status_code, Refusal(family="operator", message=message), error.headers)


def _own_fault(_request: Request, _error: Exception) -> JSONResponse:
    return _answer(500, Refusal(family="peer", message="the upgrade server has a fault of its own: its log says more"))
