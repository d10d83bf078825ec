"""The ways to make a call: each has a server process of its own, and its place in the table."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc.aio
from google.protobuf.wrappers_pb2 import BytesValue

from benchmarks.envoy import envoy
from benchmarks.null import CALL, MESSAGES, STREAM
from benchmarks.paired import Block, Call
from segue.layer.grpc_channel import labelled_channel

PAYLOAD = b"x" * 100
_REQUEST = BytesValue(value=PAYLOAD)

#: Calls to each new server before its first round, for connections, caches and the kernel's buffers.
_UNARY_WARM_UP, _STREAM_WARM_UP = 300, 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to make a call.

    Attributes:
        server: the kind of server, of `benchmarks.server`.
        labelled: whether the caller has a labelled channel, of version 1; else a plain one.
        streams: whether the call is the one with a stream of replies.
        proxied: whether the calls go through an Envoy.
        base: the way that it is compared with.
        limit: what its ratio to `base` may be; None if none was asked for.
    """

    server: str
    labelled: bool = True
    streams: bool = False
    proxied: bool = False
    base: str = "bare"
    limit: float | None = None

    @property
    def bare(self) -> str:
        """The way to make this kind of call with nothing of Segue in it."""
        return "stream_bare" if self.streams else "bare"

    @property
    def block(self) -> Block:
        """How its calls are made in a round. A call that streams is long: what ran before it does not count."""
        return Block(calls=1, discarded=0) if self.streams else Block(calls=40, discarded=5)


#: The limits are those of the issues that asked for them.
WAYS: Mapping[str, Way] = {
    "bare": Way(server="bare", labelled=False),
    "same_version": Way(server="current", limit=1.05),
    "one_simulation": Way(server="past_1", limit=1.08),
    "ten_simulations": Way(server="past_10", limit=1.25),
    "observer": Way(server="observed"),
    "envoy_sidecar": Way(server="bare", labelled=False, proxied=True),
    "stream_bare": Way(server="bare", labelled=False, streams=True, base="stream_bare"),
    "stream_by_hand": Way(server="by_hand", labelled=False, streams=True, base="stream_bare"),
    "stream_one_simulation": Way(server="past_1", streams=True, base="stream_by_hand", limit=1.10),
}


@asynccontextmanager
async def opened(way: Way, program: Path | None) -> AsyncIterator[Call]:
    """Start a way's server, and give what makes one call, warmed up.

    Args:
        way: which.
        program: Envoy, for ways that go through one.
    """
    with _server(way.server) as port:
        if not way.proxied:
            async with _calling(way, port) as call:
                yield call
            return
        assert program is not None, way
        async with envoy(program, port) as proxy, _calling(way, proxy) as call:
            yield call


@contextmanager
def _server(kind: str) -> Iterator[int]:
    """Run a server in a process of its own, and give its port."""
    command = [sys.executable, "-m", "benchmarks.server", kind]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.communicate("", timeout=10)


@asynccontextmanager
async def _calling(way: Way, port: int) -> AsyncIterator[Call]:
    target = f"127.0.0.1:{port}"
    channel = labelled_channel(target, version=1) if way.labelled else grpc.aio.insecure_channel(target)
    serializers: Sequence[Any] = (BytesValue.SerializeToString, BytesValue.FromString)
    async with channel:
        if way.streams:
            call: Call = partial(_count, channel.unary_stream(STREAM, *serializers))
        else:
            call = partial(channel.unary_unary(CALL, *serializers), _REQUEST)
        for _ in range(_STREAM_WARM_UP if way.streams else _UNARY_WARM_UP):
            await call()
        yield call


async def _count(call: grpc.aio.UnaryStreamMultiCallable[BytesValue, BytesValue]) -> None:
    """Take all replies of one call, and see that none is missing."""
    replies = 0
    async for _ in call(_REQUEST):
        replies += 1
    assert replies == MESSAGES, replies
