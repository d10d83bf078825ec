"""Each call that no object answered ends with a status that a program can read: `refusal_of`."""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from hypothesis import given
from hypothesis import strategies as st

import segue
from segue.author import Disallowed, FutureSimulation, observes
from segue.layer.chain import Chain
from segue.layer.grpc_answer import Refusing
from segue.layer.grpc_refusal import CODES, Refusal, RefusalReason, refusal_of, refuse
from segue.layer.grpc_refuser import Refuser
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest
from segue.layer.parked import ParkLimits
from segue.layer.usage import Usage
from segue.model.ids import NodeId, Version

Serve = Callable[[Dispatch], Awaitable[str]]
Connect = Callable[..., grpc.aio.Channel]
MakeChain = Callable[..., Chain]
Until = Callable[[Callable[[], bool]], Awaitable[None]]

REFUSALS_PAGE = Path(__file__).parents[2] / "docs" / "refusals.md"


def node(usage: Usage, **options: Any) -> Dispatch:
    """A dispatch of the node n7, which waits for no version."""
    options = {"parking": ParkLimits(wait_s=0.02), "on_newer": lambda _: None, **options}
    return Dispatch(usage=usage, newest=Newest(Version(1)), node=NodeId("n7"), **options)


@pytest.fixture(params=["direct", "parked", "forwarded"])
async def reach(
    request: pytest.FixtureRequest, serve: Serve, connect: Connect, until: Until
) -> Callable[[Dispatch], Awaitable[tuple[str, Callable[[], Awaitable[None]]]]]:
    """Serve a dispatch at an address; what is returned besides lets calls go on once they wait there."""

    async def start(dispatch: Dispatch) -> tuple[str, Callable[[], Awaitable[None]]]:
        async def go_on() -> None:
            if request.param == "parked":
                await until(lambda: dispatch.in_flight.parked == 1)
                dispatch.resume()

        if request.param == "parked":
            await dispatch.quiesce(1)
        address = await serve(dispatch)
        if request.param == "forwarded":
            before = Dispatch(usage=Usage(), newest=Newest(Version(1)), on_newer=lambda _: None)
            before.forward(connect(address))
            address = await serve(before)
        return address, go_on

    return start


Reach = Callable[[Dispatch], Awaitable[tuple[str, Callable[[], Awaitable[None]]]]]


async def ended(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


class Watching(FutureSimulation):
    """Version 4 over version 3's object: it fails at what it observes."""

    def __init__(self, kinds: Any) -> None:
        self.register = kinds("v4").register

    @observes("Unary")
    async def seen(self, request: str, reply: str, context: Any) -> None:
        if request == "observed":
            raise OSError("secret of the observer")


@pytest.mark.parametrize(
    ("reason", "version", "method", "request_text"),
    [
        ("DISALLOWED", 2, "Unary", "names"),
        ("RETIRED_VERSION", 1, "Unary", "x"),
        ("UNKNOWN_VERSION", 9, "Unary", "x"),
        ("NO_SUCH_METHOD", 2, "Nowhere", "x"),
        ("UNREADABLE_REQUEST", 3, "Unary", b"\xff"),
        ("OBJECT_FAILED", 3, "Unary", "fail"),
        ("SIMULATION_FAILED", 2, "Unary", "fail"),
        ("SIMULATION_FAILED", 4, "Unary", "fail"),
        ("OBSERVER_FAILED", 3, "Unary", "observed"),
    ],
)
async def test_each_way_to_be_refused(
    reason: str,
    version: int,
    method: str,
    request_text: str | bytes,
    usage: Usage,
    reach: Reach,
    connect: Connect,
    chain: MakeChain,
    kinds: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Reason, code, versions and node are there, directly, after waiting and through another process."""

    class Refusing(kinds):  # type: ignore[misc]
        async def Unary(self, request: str, context: Any) -> Any:  # noqa: N802
            if request == "names":
                raise Disallowed("version 3 has no names")
            return await super().Unary(request, context)

    dispatch = node(usage)
    dispatch.show(chain(Refusing("v2"), kinds("v3"), Watching(kinds), oldest=2, current=3))
    address, go_on = await reach(dispatch)
    request = request_text if isinstance(request_text, bytes) else request_text.encode()
    call: Any = connect(address, version).unary_unary(f"/toy.Kinds/{method}")(request)  # type: ignore[arg-type]
    await go_on()
    error = await ended(call)
    assert refusal_of(error) == Refusal(
        reason=RefusalReason(reason),
        message=error.details() or "",
        caller_version=Version(version),
        oldest_version=Version(2),
        newest_version=Version(4),
        node=NodeId("n7"),
    )
    assert error.code() is CODES[RefusalReason(reason)]
    on_the_wire = f"{error.details()} {list(error.trailing_metadata())}"
    assert "secret" not in on_the_wire
    assert "Traceback" not in on_the_wire
    assert bool(caplog.records) == reason.endswith("_FAILED")
    for record in caplog.records:
        assert record.exc_info
        assert record.exc_info[2] is not None


async def test_a_label_that_says_nothing(
    usage: Usage, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """No version is told, as the caller told none."""
    dispatch = node(usage)
    dispatch.show(chain(kinds("v1"), current=1))
    unary: Any = connect(await serve(dispatch)).unary_unary("/toy.Kinds/Unary")
    refusal = refusal_of(await ended(unary(b"x", metadata=(("segue-label", "nonsense"),))))
    assert refusal is not None
    assert (refusal.reason, refusal.caller_version, refusal.node) == (RefusalReason.MALFORMED_LABEL, None, "n7")


async def test_a_node_that_has_no_objects_yet(usage: Usage, serve: Serve, connect: Connect) -> None:
    """It answers no version, and says so rather than that the caller's is unknown."""
    address = await serve(node(usage))
    call: Any = connect(address, 1).unary_unary("/toy.Kinds/Unary")(b"x")  # type: ignore[arg-type]
    refusal = refusal_of(await ended(call))
    assert refusal is not None
    assert refusal.reason is RefusalReason.NODE_NOT_READY
    assert (refusal.caller_version, refusal.oldest_version, refusal.newest_version) == (1, None, None)


@pytest.mark.parametrize("method", ["Down", "Up", "Both"])
async def test_streams_are_refused_alike(
    method: str, usage: Usage, reach: Reach, connect: Connect, chain: MakeChain, kinds: Any, call_kind: Any
) -> None:
    """Also after replies were sent."""

    class Refusing(kinds):  # type: ignore[misc]
        async def Down(self, request: str, context: Any) -> Any:  # noqa: N802
            yield request
            raise Disallowed("no more")

        async def Up(self, requests: Any, context: Any) -> Any:  # noqa: N802
            async for _ in requests:
                """Until the caller has sent all: grpc.aio's clients may lose the status otherwise (grpc/grpc#36066)."""
            raise Disallowed("no more")

        async def Both(self, requests: Any, context: Any) -> Any:  # noqa: N802
            async for request in requests:
                yield request
            raise Disallowed("no more")

    dispatch = node(usage)
    dispatch.show(chain(Refusing("v1"), kinds("v2"), current=2))
    address, go_on = await reach(dispatch)
    async with asyncio.TaskGroup() as group:
        call = group.create_task(ended(call_kind(connect(address, 1), method)))
        await go_on()
    refusal = refusal_of(call.result())
    assert refusal is not None
    assert (refusal.reason, refusal.message) == (RefusalReason.DISALLOWED, "no more")


async def test_a_version_that_a_deadline_is_too_short_for(
    usage: Usage, heard: list[Version], serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """The caller is told why before its deadline passes, however long the node would have waited."""
    dispatch = node(usage, parking=ParkLimits(wait_s=3600.0), on_newer=heard.append)
    dispatch.show(chain(kinds("v1"), current=1))
    unary: Any = connect(await serve(dispatch), 2).unary_unary("/toy.Kinds/Unary")
    refusal = refusal_of(await ended(unary(b"x", timeout=1.0)))
    assert refusal is not None
    assert refusal.reason is RefusalReason.UNKNOWN_VERSION
    assert heard == [2]


async def test_what_the_object_set_goes_along(
    usage: Usage, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """A refusal adds to the trailing metadata; details that the object had set would contradict it and are left."""

    class Setting(kinds):  # type: ignore[misc]
        async def Unary(self, request: str, context: Any) -> str:  # noqa: N802
            context.set_trailing_metadata((("spent", "5"), ("grpc-status-details-bin", b"mine")))
            raise Disallowed("not so")

    dispatch = node(usage)
    dispatch.show(chain(Setting("v1"), current=1))
    error = await ended(connect(await serve(dispatch), 1).unary_unary("/toy.Kinds/Unary")(b"x"))  # type: ignore[arg-type]
    assert ("spent", "5") in tuple(error.trailing_metadata())
    refusal = refusal_of(error)
    assert refusal is not None
    assert refusal.message == "not so"


@pytest.mark.parametrize("request_text", ["abort", "set code", "set code and raise"])
async def test_an_objects_own_status_is_no_refusal(
    request_text: str, usage: Usage, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """It is the object's answer, as without the layer."""
    dispatch = node(usage)
    dispatch.show(chain(kinds("v1"), current=1))
    unary: Any = connect(await serve(dispatch), 1).unary_unary("/toy.Kinds/Unary")
    assert refusal_of(await ended(unary(request_text.encode()))) is None


@pytest.mark.parametrize("observed", [False, True])
async def test_a_misuse_of_grpc_is_a_failure_as_any_other(
    observed: bool,
    usage: Usage,
    serve: Serve,
    connect: Connect,
    chain: MakeChain,
    kinds: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """gRPC's own errors have words too, which gRPC would send."""

    class Misusing(kinds):  # type: ignore[misc]
        async def Unary(self, request: str, context: Any) -> str:  # noqa: N802
            if observed:
                return request
            raise grpc.aio.UsageError("secret")

    class Observing(Watching):
        @observes("Unary")
        async def seen(self, request: str, reply: str, context: Any) -> None:
            raise grpc.aio.UsageError("secret")

    dispatch = node(usage)
    dispatch.show(chain(Misusing("v1"), *([Observing(kinds)] if observed else []), current=1))
    error = await ended(connect(await serve(dispatch), 1).unary_unary("/toy.Kinds/Unary")(b"x"))  # type: ignore[arg-type]
    refusal = refusal_of(error)
    assert refusal is not None
    assert refusal.reason is (RefusalReason.OBSERVER_FAILED if observed else RefusalReason.OBJECT_FAILED)
    assert "secret" not in (error.details() or "")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info


class Handling(grpc.GenericRpcHandler):
    """Another handler of the same server."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        async def check(request: bytes, context: Any) -> bytes:
            return b"well"

        return grpc.unary_unary_rpc_method_handler(check)


async def test_a_service_that_no_version_has_is_left_to_other_handlers(
    usage: Usage, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """A server may have a health service beside the system's own; a method of the system's own is ours to refuse."""
    dispatch = node(usage)
    dispatch.show(chain(kinds("v1"), current=1))
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((dispatch, Handling()))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        for version in (None, 1):
            channel: Any = connect(f"127.0.0.1:{port}", version)
            assert await channel.unary_unary("/health.Health/Check")(b"") == b"well"
            refusal = refusal_of(await ended(channel.unary_unary("/toy.Kinds/Nowhere")(b"")))
            assert refusal is not None
            assert refusal.reason is RefusalReason.NO_SUCH_METHOD
    finally:
        await server.stop(None)


async def test_a_synchronous_caller_reads_the_same(usage: Usage, serve: Serve, chain: MakeChain, kinds: Any) -> None:
    """`refusal_of` takes the errors of `grpc` as those of `grpc.aio`, and `segue` has it."""
    dispatch = node(usage)
    dispatch.show(chain(kinds("v1"), current=1))
    address = await serve(dispatch)

    def call() -> grpc.RpcError:
        with grpc.insecure_channel(address) as channel:
            unary: Any = channel.unary_unary("/toy.Kinds/Unary")
            with pytest.raises(grpc.RpcError) as caught:
                unary(b"fail")
            return caught.value

    refusal = segue.refusal_of(await asyncio.to_thread(call))
    assert refusal is not None
    assert refusal.reason is segue.RefusalReason.OBJECT_FAILED


class Ending:
    """The part of a servicer's context that a refusal needs."""

    def trailing_metadata(self) -> tuple[tuple[str, Any], ...]:
        return ()

    async def abort(self, code: grpc.StatusCode, details: str, trailing: Any) -> None:
        raise grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details)


async def _through_the_wire(refusal: Refusal) -> Refusal | None:
    context: Any = Ending()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await refuse(refusal, context)
    return refusal_of(caught.value)


_versions = st.none() | st.integers(1, 999_999_999).map(Version)


@given(
    st.builds(
        Refusal,
        reason=st.sampled_from(RefusalReason),
        message=st.text(st.characters(exclude_categories=["Cs"]), max_size=200),
        caller_version=_versions,
        oldest_version=_versions,
        newest_version=_versions,
        node=st.none() | st.from_regex(r"[a-z][a-z0-9-]{0,20}", fullmatch=True).map(NodeId),
    )
)
def test_what_is_sent_is_read(refusal: Refusal) -> None:
    """Whatever the versions, the node and the words."""
    assert asyncio.run(_through_the_wire(refusal)) == refusal


@pytest.mark.parametrize("letter", ["x", "é", "語", "\ud800"])
async def test_long_words_are_cut(
    letter: str, usage: Usage, serve: Serve, connect: Connect, chain: MakeChain, kinds: Any
) -> None:
    """A message that gRPC would not carry is cut between letters; what is no text is replaced."""

    class Verbose(kinds):  # type: ignore[misc]
        async def Unary(self, request: str, context: Any) -> str:  # noqa: N802
            raise Disallowed(20_000 * letter)

    dispatch = node(usage)
    dispatch.show(chain(Verbose("v1"), current=1))
    error = await ended(connect(await serve(dispatch), 1).unary_unary("/toy.Kinds/Unary")(b"x"))  # type: ignore[arg-type]
    refusal = refusal_of(error)
    assert refusal is not None
    assert refusal.reason is RefusalReason.DISALLOWED
    assert set(refusal.message) == {"?" if letter == "\ud800" else letter, " ", "…"}


def _error(info: Any, *, code: int = 9, details: str = "no") -> grpc.aio.AioRpcError:
    detail = AnyMessage()
    detail.Pack(info)
    raw = Status(code=code, message="no", details=[detail]).SerializeToString()
    trailing = grpc.aio.Metadata(("grpc-status-details-bin", raw))
    return grpc.aio.AioRpcError(grpc.StatusCode.FAILED_PRECONDITION, grpc.aio.Metadata(), trailing, details)


def test_a_reason_of_a_later_segue() -> None:
    """It is text, and what is understood of the rest is there."""
    info = ErrorInfo(domain="segue", reason="LATER", metadata={"callerVersion": "3", "oldestVersion": "-1", "x": "y"})
    assert refusal_of(_error(info)) == Refusal(reason="LATER", message="no", caller_version=Version(3))


@pytest.mark.parametrize(
    "error",
    [
        grpc.RpcError("of nobody"),
        grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "gone"),
        grpc.aio.AioRpcError(
            grpc.StatusCode.INTERNAL,
            grpc.aio.Metadata(),
            grpc.aio.Metadata(("grpc-status-details-bin", b"\xff\xff")),
            "damaged",
        ),
        _error(ErrorInfo(domain="example.com", reason="DISALLOWED")),
        _error(Status(code=9)),
        _error(ErrorInfo(domain="segue", reason="DISALLOWED"), code=5),
        _error(ErrorInfo(domain="segue", reason="DISALLOWED"), details="said by a proxy"),
    ],
)
def test_what_is_no_refusal(error: grpc.RpcError) -> None:
    """Nothing, another's, or details of another status: it is not guessed at."""
    assert refusal_of(error) is None


def test_the_page_for_callers_lists_each_reason() -> None:
    """With its code, and no other reason."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| `([A-Z_]+)` \|", REFUSALS_PAGE.read_text(), re.MULTILINE)
    assert dict(rows) == {reason.value: code.name for reason, code in CODES.items()}
    assert len(rows) == len(RefusalReason)


def test_refusals_of_a_node_without_an_id() -> None:
    """The layer serves without one."""
    make: Refusing = Refuser(None).refusal
    assert make(RefusalReason.DISALLOWED, None, "no").node is None
