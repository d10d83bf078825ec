"""Calls that gRPC's threaded server runs as ever, in its own threads: they are only counted."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc

from segue.layer.grpc_answer import Answer
from segue.layer.grpc_collector import MethodHandler, behaviour_of
from segue.layer.grpc_context import outcome_of, outcome_when_cancelled
from segue.layer.grpc_table import is_left_out
from segue.layer.threads.grpc_threads import is_plain
from segue.layer.tracing import Mark
from segue.layer.usage import Tally


def is_native(answer: Answer) -> bool:
    """Say whether an answer is no more than a call of the current object's plain method."""
    method = answer.method
    behaviour = behaviour_of(method.handler)
    if answer.answered_by != "current" or method.claims is not None or method.is_hooked:
        return False
    return is_plain(behaviour) and not is_left_out(behaviour)


def natively(answer: Answer, tally: Tally, lock: threading.Lock, caller: str | None) -> MethodHandler:
    """Return a handler that is the author's, with its calls counted.

    Args:
        answer: whose method is plain.
        tally: to be added to.
        lock: held while `tally` is.
        caller: whom the calls count for; None for their peer.
    """
    handler = answer.method.handler
    behaviour = behaviour_of(handler)

    def count(context: grpc.ServicerContext, failed: bool) -> None:
        outcome = _outcome(context, failed)
        who = caller or context.peer()
        with lock:
            tally[who][outcome] += 1

    def one(request: Any, context: grpc.ServicerContext) -> Any:
        failed = True
        try:
            reply = behaviour(request, context)
            failed = False
            return reply
        finally:
            count(context, failed)

    def many(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        failed = True
        try:
            yield from behaviour(request, context)
            failed = False
        finally:
            count(context, failed)

    counted: Callable[..., Any] = many if handler.response_streaming else one
    if answer.mark is not None:
        counted = _marked(answer.mark, counted)
    pool = getattr(behaviour, "experimental_thread_pool", None)
    if pool is not None:
        counted.experimental_thread_pool = pool  # type: ignore[attr-defined]
    return _MAKERS[handler.request_streaming, handler.response_streaming](
        counted, handler.request_deserializer, handler.response_serializer
    )


def _marked(mark: Mark, method: Callable[..., Any]) -> Callable[..., Any]:
    def run(request: Any, context: grpc.ServicerContext) -> Any:
        mark()
        return method(request, context)

    return run


_MAKERS: dict[tuple[bool, bool], Callable[..., MethodHandler]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def _outcome(context: Any, failed: bool) -> str:
    """Return the name of the status that the caller gets."""
    if not context.is_active():
        return outcome_when_cancelled(context)
    outcome = outcome_of(context)
    return "UNKNOWN" if failed and outcome == "OK" else outcome
