"""What a call's span is told of a call, for those who have tracing on.

Whoever traces calls, by OpenTelemetry's interceptor for gRPC say, has a current span when a call reaches its object.
This adds to it who called in which version and what answered. OpenTelemetry is not imported here: if nobody in the
process has imported it and set a provider of tracers when a chain is shown, nothing at all happens per call.
"""

import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias, TypeVar

from segue.model.ids import Version
from segue.model.usage import AnsweredBy

#: The version that the caller spoke.
CALLER_VERSION: Final = "segue.caller.version"
#: The kind of object that answered: `current`, `past` or `future`.
ANSWERED_BY: Final = "segue.answered_by"
#: The version of the node's object, which a simulation delegates to.
OBJECT_VERSION: Final = "segue.object.version"

#: Adds to the current span.
Mark: TypeAlias = Callable[[], None]
Reply = TypeVar("Reply")


def tracing_is_on() -> bool:
    """Say whether somebody in this process has set a provider of OpenTelemetry's tracers."""
    trace: Any = sys.modules.get("opentelemetry.trace")
    # It may just be imported by another thread, and not have all its names yet.
    if any(not hasattr(trace, name) for name in ("get_tracer_provider", "ProxyTracerProvider", "get_current_span")):
        return False
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def mark_of(*, caller: Version, answered_by: AnsweredBy, node: Version) -> Mark | None:
    """Return what tells the current span of a call of this kind; None while nobody traces.

    Args:
        caller: the version that the caller speaks.
        answered_by: the kind of object that answers.
        node: the version that the node runs.
    """
    if not tracing_is_on():
        return None
    current: Callable[[], Any] = sys.modules["opentelemetry.trace"].get_current_span
    told: Mapping[str, str | int] = {CALLER_VERSION: caller, ANSWERED_BY: answered_by, OBJECT_VERSION: node}

    def mark() -> None:
        current().set_attributes(told)

    return mark


def marked(mark: Mark | None, run: Callable[[Any, Any], Awaitable[Reply]]) -> Callable[[Any, Any], Awaitable[Reply]]:
    """Return `run` with `mark` called before it; without a mark, `run` itself."""
    if mark is None:
        return run

    async def run_marked(request: Any, context: Any) -> Reply:
        mark()
        return await run(request, context)

    return run_marked
