"""Each kind of server answers with what it was sent, through the objects that its row in the table says."""

from collections import Counter
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from google.protobuf.wrappers_pb2 import BytesValue

from benchmarks.null import CALL, MESSAGES, STREAM, Null, Observing, Onward
from benchmarks.server import KINDS
from benchmarks.ways import WAYS
from segue.layer.grpc_channel import labelled_channel

#: {kind of server: how many objects make a message of their own for a caller of version 1}
OBJECTS = {"bare": 0, "by_hand": 1, "current": 0, "past_1": 1, "past_10": 10, "observed": 0}


@pytest.mark.parametrize("kind", KINDS)
async def test_a_call_goes_through_the_objects_of_its_row(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed: Counter[str] = Counter()

    def counted(owner: type, name: str) -> None:
        method: Any = getattr(owner, name)

        async def call(*arguments: Any) -> Any:
            passed[owner.__name__] += 1
            return await method(*arguments)

        monkeypatch.setattr(owner, name, call)

    counted(Null, "Call")
    counted(Onward, "Call")
    server = grpc.aio.server()
    await KINDS[kind](server, tmp_path)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    serializers = (BytesValue.SerializeToString, BytesValue.FromString)
    try:
        async with labelled_channel(f"127.0.0.1:{port}", version=1) as channel:
            assert await channel.unary_unary(CALL, *serializers)(BytesValue(value=b"abc")) == BytesValue(value=b"abc")
            assert (passed["Null"], passed["Onward"]) == (1, OBJECTS[kind])
            replies = [reply async for reply in channel.unary_stream(STREAM, *serializers)(BytesValue(value=b"abc"))]
            assert replies == [BytesValue(value=b"abc")] * MESSAGES
    finally:
        await server.stop(None)


async def test_the_observer_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of calls of the version below it, which callers of that version make."""
    told: list[bytes] = []
    saw: Any = Observing.saw

    async def hear(simulation: Any, request: BytesValue, reply: BytesValue, context: Any) -> None:
        told.append(reply.value)

    hear.__dict__.update(saw.__dict__)
    monkeypatch.setattr(Observing, "saw", hear)
    server = grpc.aio.server()
    await KINDS["observed"](server, tmp_path)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with labelled_channel(f"127.0.0.1:{port}", version=1) as channel:
            await channel.unary_unary(CALL, BytesValue.SerializeToString, BytesValue.FromString)(BytesValue(value=b"a"))
    finally:
        await server.stop(None)
    assert told == [b"a"]


def test_each_way_is_compared_with_one_of_its_kind() -> None:
    """A stream with a stream, and all that is compared with itself has no limit."""
    for name, way in WAYS.items():
        assert WAYS[way.base].streams == way.streams
        assert WAYS[way.bare].server == "bare"
        assert name != way.base or way.limit is None
