"""Refusals: what a caller is told when no object answered its call, in a form that a program reads.

Each is a gRPC status with a `google.rpc.ErrorInfo` among its details. docs/refusals.md lists them for
callers. What an object itself answers with, such as NOT_FOUND, is no refusal and is not touched.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Never, TypeVar

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from segue.layer.grpc_context import Context
from segue.model.ids import NodeId, Version

#: The `domain` of every `ErrorInfo` of ours.
DOMAIN = "segue"

#: A refusal's words go out twice, in the status and in its details, and gRPC takes 8 KiB of metadata in all:
#: larger, and callers of an author who writes long messages get RESOURCE_EXHAUSTED instead.
_MESSAGE_LIMIT_BYTES = 1024

#: Version numbers are at most nine digits: see `label`.
_DIGITS_LIMIT = 9

Detail = TypeVar("Detail", bound=Message)


class RefusalReason(StrEnum):
    """Why no object answered: these names are on the wire, and do not change."""

    DISALLOWED = "DISALLOWED"
    RETIRED_VERSION = "RETIRED_VERSION"
    UNKNOWN_VERSION = "UNKNOWN_VERSION"
    NODE_NOT_READY = "NODE_NOT_READY"
    NODE_UPGRADING = "NODE_UPGRADING"
    TOO_MANY_PARKED = "TOO_MANY_PARKED"
    NO_SUCH_METHOD = "NO_SUCH_METHOD"
    MALFORMED_LABEL = "MALFORMED_LABEL"
    UNREADABLE_REQUEST = "UNREADABLE_REQUEST"
    OBJECT_FAILED = "OBJECT_FAILED"
    SIMULATION_FAILED = "SIMULATION_FAILED"
    OBSERVER_FAILED = "OBSERVER_FAILED"
    INTERCEPTOR_FAILED = "INTERCEPTOR_FAILED"


#: {reason: the status's code}, for callers that know gRPC's codes only.
CODES: Mapping[RefusalReason, grpc.StatusCode] = {
    RefusalReason.DISALLOWED: grpc.StatusCode.FAILED_PRECONDITION,
    RefusalReason.RETIRED_VERSION: grpc.StatusCode.FAILED_PRECONDITION,
    RefusalReason.UNKNOWN_VERSION: grpc.StatusCode.UNAVAILABLE,
    RefusalReason.NODE_NOT_READY: grpc.StatusCode.UNAVAILABLE,
    RefusalReason.NODE_UPGRADING: grpc.StatusCode.UNAVAILABLE,
    RefusalReason.TOO_MANY_PARKED: grpc.StatusCode.UNAVAILABLE,
    RefusalReason.NO_SUCH_METHOD: grpc.StatusCode.UNIMPLEMENTED,
    RefusalReason.MALFORMED_LABEL: grpc.StatusCode.INVALID_ARGUMENT,
    RefusalReason.UNREADABLE_REQUEST: grpc.StatusCode.INTERNAL,
    RefusalReason.OBJECT_FAILED: grpc.StatusCode.INTERNAL,
    RefusalReason.SIMULATION_FAILED: grpc.StatusCode.INTERNAL,
    RefusalReason.OBSERVER_FAILED: grpc.StatusCode.INTERNAL,
    RefusalReason.INTERCEPTOR_FAILED: grpc.StatusCode.INTERNAL,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why no object answered a call.

    Attributes:
        reason: a `RefusalReason`, or the plain text of one that only a later Segue knows.
        message: the status's details, for people: of a disallowed call, the author's words.
        caller_version: the version that the call was taken to speak; None if there was none to tell.
        oldest_version: the oldest version that the node answers; None if it answers none yet.
        newest_version: the newest version that the node answers; None if it answers none yet.
        node: the node that refused; None if it has no id.
        retry_after_s: seconds to wait before the call is tried again; None if the node does not say.
    """

    reason: RefusalReason | str
    message: str
    caller_version: Version | None = None
    oldest_version: Version | None = None
    newest_version: Version | None = None
    node: NodeId | None = None
    retry_after_s: float | None = None


async def refuse(refusal: Refusal, context: Context) -> Never:
    """End a call with a refusal; trailing metadata that the object has set goes along.

    Raises:
        grpc.aio.AbortError: always, as `context.abort` does.
    """
    status = _status_of(refusal)
    theirs: Any = context.trailing_metadata()
    ours = status.trailing_metadata
    names = {key for key, _ in ours}
    await context.abort(
        status.code, status.details, (*((key, value) for key, value in theirs or () if key not in names), *ours)
    )


def refuse_plainly(refusal: Refusal, context: grpc.ServicerContext) -> Never:
    """End a call of a threaded server with a refusal.

    Raises:
        Exception: always, as `context.abort` does.
    """
    context.abort_with_status(_status_of(refusal))
    raise AssertionError("abort raises")


def stopped() -> Refusal:
    """Return the refusal of a call to what does not answer any more, or not yet."""
    message = "segue: this server has not started its versions, or has stopped them (versions.start()): try again later"
    return Refusal(reason=RefusalReason.NODE_NOT_READY, message=message)


def refusal_of(error: grpc.RpcError) -> Refusal | None:
    """Say why the upgrade layer refused a call; None if it did not.

    Args:
        error: what the call raised, of `grpc` or of `grpc.aio`.

    Returns:
        None too for a status that the object itself chose, that gRPC made, or whose details a proxy has left out.
    """
    if not isinstance(error, grpc.aio.AioRpcError | grpc.Call):
        return None
    try:
        status: Status | None = rpc_status.from_call(error)
        if status is None:
            return None
        infos = [info for info in _unpacked(status, ErrorInfo) if info.domain == DOMAIN]
        if infos:
            return _refusal_from(infos[0], status.message, next(_unpacked(status, RetryInfo), None))
    except (DecodeError, ValueError):
        return None  # not the details of this status, or no details at all: whoever wrote them was not us
    return None


def _status_of(refusal: Refusal) -> Any:
    facts = {
        "callerVersion": refusal.caller_version,
        "oldestVersion": refusal.oldest_version,
        "newestVersion": refusal.newest_version,
        "node": refusal.node,
    }
    info = ErrorInfo(
        reason=refusal.reason,
        domain=DOMAIN,
        metadata={name: str(fact) for name, fact in facts.items() if fact is not None},
    )
    details = [_packed(info)]
    if refusal.retry_after_s is not None:
        retry = RetryInfo()
        retry.retry_delay.FromMilliseconds(int(refusal.retry_after_s * 1000))
        details.append(_packed(retry))
    code: int = CODES[RefusalReason(refusal.reason)].value[0]
    return rpc_status.to_status(Status(code=code, message=_sendable(refusal.message), details=details))


def _packed(message: Message) -> AnyMessage:
    detail = AnyMessage()
    detail.Pack(message)
    return detail


def _unpacked(status: Status, kind: type[Detail]) -> Iterator[Detail]:
    for detail in status.details:
        message = kind()
        if detail.Unpack(message):
            yield message


def _sendable(message: str) -> str:
    """Return the message as it can be sent: what is no text replaced, and not too long."""
    raw = message.encode("utf-8", "replace")
    if len(raw) <= _MESSAGE_LIMIT_BYTES:
        return raw.decode()
    return raw[:_MESSAGE_LIMIT_BYTES].decode("utf-8", "ignore") + " …"


def _refusal_from(info: ErrorInfo, message: str, retry: RetryInfo | None) -> Refusal:
    known = RefusalReason.__members__.get(info.reason)
    return Refusal(
        reason=info.reason if known is None else known,
        message=message,
        caller_version=_version(info.metadata.get("callerVersion")),
        oldest_version=_version(info.metadata.get("oldestVersion")),
        newest_version=_version(info.metadata.get("newestVersion")),
        node=NodeId(info.metadata["node"]) if "node" in info.metadata else None,
        retry_after_s=None if retry is None else retry.retry_delay.ToMilliseconds() / 1000,
    )


def _version(text: str | None) -> Version | None:
    """Return the version; None also for what is none, as the other end may be anybody."""
    if text is None or not text.isdecimal() or len(text) > _DIGITS_LIMIT:
        return None
    return Version(int(text))
