"""What is compressed at one end stays compressed on its way to the other: bytes on the wire are counted."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import pytest

from segue.layer.grpc_channel import labelled_channel

MakeWorld = Callable[..., Awaitable[Any]]
Hear = Callable[[str, Any], Awaitable[tuple[list[str], Any]]]

#: Compresses to less than a hundredth.
TEXT = "x" * 200_000
FIRST = (("first", "1"),)
#: More than all that is not messages, and less than `TEXT`.
FEW_BYTES = 20_000


@dataclass
class Wire:
    """Passes what clients send on to a server, and back, and counts the bytes of each direction."""

    sent: int = 0
    received: int = 0
    address: str = ""

    async def carry(self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = target.rpartition(":")
        onward_reader, onward_writer = await asyncio.open_connection(host, int(port))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pass(reader, onward_writer, "sent"))
            group.create_task(self._pass(onward_reader, writer, "received"))

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, count: str) -> None:
        try:
            while data := await reader.read(1 << 16):
                setattr(self, count, getattr(self, count) + len(data))
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass  # one end has closed
        finally:
            writer.close()


@pytest.fixture
async def wire_to() -> AsyncIterator[Callable[[str], Awaitable[Wire]]]:
    """Stand between clients and a server."""
    async with AsyncExitStack() as opened:

        async def start(target: str) -> Wire:
            wire = Wire()

            async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                await wire.carry(target, reader, writer)

            server = await opened.enter_async_context(await asyncio.start_server(carry, "127.0.0.1", 0))
            wire.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            return wire

        yield start


WireTo = Callable[[str], Awaitable[Wire]]


async def counted(node: Any, wire: Wire, kind: str, hear: Hear, **options: Any) -> None:
    requests = [TEXT] if kind in ("Up", "Both") else None
    async with labelled_channel(wire.address, version=node.way.version) as channel:
        replies, error = await hear(kind, await node.begin(kind, TEXT, requests, channel, **options))
    assert error is None
    assert [len(reply) for reply in replies] == [len(TEXT) + 2 * node.way.depth + 2]


async def test_a_caller_that_compresses(
    main_way: Any, kind: str, world: MakeWorld, scripted: Any, hear: Hear, wire_to: WireTo
) -> None:
    """Its requests come compressed, and are read; replies come as the object sends them."""
    node = await world(main_way, scripted(whole=True))
    wire = await wire_to(node.address)
    await counted(node, wire, kind, hear, compression=grpc.Compression.Gzip)
    assert wire.sent < FEW_BYTES
    assert wire.received > len(TEXT)


@pytest.mark.parametrize("at", [0, -1], ids=["object", "simulation"])
async def test_a_server_that_compresses(
    main_way: Any, kind: str, at: int, world: MakeWorld, scripted: Any, hear: Hear, wire_to: WireTo
) -> None:
    """What the object, or a simulation, has compressed comes compressed.

    It sends initial metadata first: without, `grpc.aio` forgets to compress the one reply of a method that has one.
    """
    scripts = [scripted(whole=True), *(scripted() for _ in range(main_way.depth))]
    scripts[at] = scripted(whole=True, gzip=True, initial=FIRST)
    node = await world(main_way, *scripts)
    wire = await wire_to(node.address)
    await counted(node, wire, kind, hear)
    assert wire.sent > len(TEXT)
    assert wire.received < FEW_BYTES


async def test_replies_compressed_from_the_first(
    main_way: Any, answered_by_stream: str, world: MakeWorld, scripted: Any, hear: Hear, wire_to: WireTo
) -> None:
    """A stream of replies is compressed without a word of metadata before it, and the caller sees none of ours."""
    node = await world(main_way, scripted(whole=True, gzip=True))
    wire = await wire_to(node.address)
    await counted(node, wire, answered_by_stream, hear)
    assert wire.received < FEW_BYTES
    call = await node.begin(answered_by_stream)
    assert tuple(await call.initial_metadata()) == ()
    await hear(answered_by_stream, call)
