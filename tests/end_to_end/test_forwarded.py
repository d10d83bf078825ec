"""A call that comes to a process which was replaced is as if it had come to the new one: each of the four kinds."""

import asyncio
import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from segue.layer.grpc_channel import labelled_channel
from segue.local import LocalSettings, is_alive
from segue.model.ids import ClassName, NodeId, SystemName, Version
from segue.release.bundle import build
from segue.testing.rig import Rig, prepared

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(120)]

N1 = NodeId("n1")
KINDS = ("Unary", "Down", "Up", "Both")
LIMIT_S = 60.0
#: Longer than the test: the connection stays with the process that it came to.
AGE_S = 1000
LATE_S = 0.4
OWN = [["own", "1"], ["own-bin", "02ff"]]

NODE = '''
"""Notes who calls, and answers with what it was sent; a call whose name begins with `hang` has no end of its own."""

import asyncio
import json
import os

import grpc

KINDS = {
    "Unary": grpc.unary_unary_rpc_method_handler,
    "Down": grpc.unary_stream_rpc_method_handler,
    "Up": grpc.stream_unary_rpc_method_handler,
    "Both": grpc.stream_stream_rpc_method_handler,
}


def add_to(servicer, server):
    methods = {name: kind(getattr(servicer, name)) for name, kind in KINDS.items()}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("witness.Witness", methods),))


class Witness:
    def __init__(self, node):
        self.notes = node.config["notes"]

    def register(self, server):
        add_to(self, server)

    def note(self, name, **what):
        with open(self.notes, "a") as file:
            file.write(json.dumps({"call": name.decode(), **what}) + "\\n")

    async def meet(self, name, context):
        pairs = context.invocation_metadata()
        sent = [(key, value.hex() if isinstance(value, bytes) else value) for key, value in pairs]
        self.note(name, sent=sent, left_s=context.time_remaining())
        await context.send_initial_metadata((("process", str(os.getpid())),))
        context.set_trailing_metadata((("last-bin", b"\\x00" + name),))
        if name.startswith(b"hang"):
            try:
                await asyncio.Event().wait()
            finally:
                self.note(name, over=True)

    async def Unary(self, request, context):
        await self.meet(request, context)
        return request

    async def Down(self, request, context):
        await self.meet(request, context)
        for _ in range(2):
            yield request

    async def Up(self, requests, context):
        sent = [request async for request in requests]
        await self.meet(sent[0], context)
        return b"+".join(sent)

    async def Both(self, requests, context):
        met = False
        async for request in requests:
            if not met:
                await self.meet(request, context)
            met = True
            yield request
'''

UPGRADE = '''
"""The same words in both versions, and a transform that waits to be told."""

import os
import time

import segue

from .node import add_to


class Passing:
    def register(self, server):
        add_to(self, server)

    async def Unary(self, request, context):
        return await self.delegate.Unary(request, context)

    async def Down(self, request, context):
        async for reply in self.delegate.Down(request, context):
            yield reply

    async def Up(self, requests, context):
        return await self.delegate.Up(requests, context)

    async def Both(self, requests, context):
        async for reply in self.delegate.Both(requests, context):
            yield reply


class Past(Passing, segue.PastSimulation):
    pass


class Future(Passing, segue.FutureSimulation):
    pass


def transform(old, new, context):
    while not os.path.exists({gate!r}):
        time.sleep(0.01)
'''

MANIFEST = """
[release]
system = "witness"
version = {version}
[classes.Witness]
object = "witness.node:Witness"
"""
MANIFEST_UPGRADE = """[classes.Witness.upgrade]
transform = "witness.upgrade:transform"
past = "witness.upgrade:Past"
future = "witness.upgrade:Future"
"""


def write_release(folder: Path, version: int, gate: Path) -> Path:
    release = folder / f"witness-{version}"
    (release / "witness").mkdir(parents=True)
    (release / "release.toml").write_text(MANIFEST.format(version=version) + (MANIFEST_UPGRADE if version > 1 else ""))
    (release / "witness" / "node.py").write_text(NODE)
    if version > 1:
        (release / "witness" / "upgrade.py").write_text(UPGRADE.replace("{gate!r}", repr(str(gate))))
    return release


class Witnessed:
    """A plain client of version 1 on one connection, and what the object has noted of its calls.

    Args:
        channel: to the node; whoever opened it closes it.
        path: of the object's notes.
    """

    def __init__(self, channel: grpc.aio.Channel, path: Path) -> None:
        self._channel: Any = channel
        self._path = path

    def begin(self, kind: str, name: str, **options: Any) -> Any:
        path, request = f"/witness.Witness/{kind}", name.encode()
        match kind:
            case "Unary":
                return self._channel.unary_unary(path)(request, **options)
            case "Down":
                return self._channel.unary_stream(path)(request, **options)
            case "Up":
                return self._channel.stream_unary(path)([request, request], **options)
        return self._channel.stream_stream(path)([request, request], **options)

    def notes(self, name: str) -> list[dict[str, Any]]:
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        return [note for note in map(json.loads, lines) if note["call"] == name]

    async def passes_metadata(self, kind: str, name: str) -> int:
        """Have a call answered, check what passed either way besides messages, and return who answered."""
        call = self.begin(kind, name, metadata=(("own", "1"), ("own-bin", b"\x02\xff")), timeout=LIMIT_S)
        replies = [await call] if kind in ("Unary", "Up") else [reply.decode() async for reply in call]
        request = name.encode()
        assert replies == {"Unary": [request], "Up": [request + b"+" + request]}.get(kind, [name, name])
        (met,) = self.notes(name)
        assert [pair for pair in met["sent"] if pair[0].startswith("own")] == OWN
        assert ["segue-label", "1/1"] in met["sent"]
        assert 0 < met["left_s"] <= LIMIT_S + 1  # gRPC rounds it up on the way
        assert dict(await call.trailing_metadata()) == {"last-bin": b"\0" + request}
        return int(str(dict(await call.initial_metadata())["process"]))

    async def ends_in_time(self, kind: str, name: str) -> None:
        """Have a deadline end a call that has no end of its own."""
        call = self.begin(kind, name, timeout=LATE_S)
        async with asyncio.timeout(LIMIT_S):
            assert await call.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    async def is_cancelled(self, kind: str, name: str) -> None:
        """Cancel a call when the object has it, and wait until the object's is over, too."""
        call = self.begin(kind, name)
        await until(lambda: self.notes(name), f"the object has {name}")
        assert self.notes(name)[0]["left_s"] is None
        call.cancel()
        await self.is_over(name)
        assert await call.code() is grpc.StatusCode.CANCELLED

    async def is_over(self, name: str) -> None:
        """Wait until the object's part in a call has ended that has no end of its own."""
        await until(lambda: self.notes(name)[1:], f"{name} is over in the object")


async def until(holds: Callable[[], object], what: str) -> None:
    try:
        async with asyncio.timeout(LIMIT_S):
            while not holds():  # noqa: ASYNC110 - other processes do not tell
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {LIMIT_S:g} s: {what}") from None


async def serving(rig: Rig, version: int) -> int:
    """Wait until the node serves a version, and return its process."""
    (now,) = (await rig.until_serving(version)).nodes
    assert now.pid is not None
    return now.pid


async def meets(client: Witnessed, stage: str) -> set[int]:
    """Make all calls there are at once, and return which processes have answered."""
    async with asyncio.TaskGroup() as calls:
        told = [calls.create_task(client.passes_metadata(kind, f"{stage} {kind}")) for kind in KINDS]
        for kind in KINDS:
            calls.create_task(client.ends_in_time(kind, f"hang late {stage} {kind}"))
            calls.create_task(client.is_cancelled(kind, f"hang cancelled {stage} {kind}"))
    for kind in KINDS:
        late = f"hang late {stage} {kind}"
        await client.is_over(late)
        assert 0 < client.notes(late)[0]["left_s"] <= LATE_S + 1
    return {task.result() for task in told}


async def parks(client: Witnessed, gate: Path) -> set[int]:
    """Make all calls there are in the pause, end it by `gate`, and return which processes have answered."""
    async with asyncio.TaskGroup() as parked:
        told = [parked.create_task(client.passes_metadata(kind, f"parked {kind}")) for kind in KINDS]
        cancelled = [client.begin(kind, f"parked cancelled {kind}") for kind in KINDS]
        async with asyncio.TaskGroup() as ending:
            for kind in KINDS:
                ending.create_task(client.ends_in_time(kind, f"parked late {kind}"))
        for call in cancelled:
            call.cancel()
            assert await call.code() is grpc.StatusCode.CANCELLED
        assert not any(task.done() for task in told)
        gate.touch()
    for kind in KINDS:
        assert not client.notes(f"parked late {kind}")
        assert not client.notes(f"parked cancelled {kind}")
    return {task.result() for task in told}


async def test_all_four_kinds(tmp_path: Path) -> None:
    """Metadata pass both ways, deadlines are kept and cancellations arrive, as before: in the pause and after it.

    The client keeps the connection that it had to the old process, which so is there as long as the client is.
    """
    gate = tmp_path / "gate"
    one, two = (write_release(tmp_path, version, gate) for version in (1, 2))
    settings = LocalSettings(
        system=SystemName("witness"), class_name=ClassName("Witness"), nodes=1, poll_s=0.1, max_connection_age_s=AGE_S
    )
    (tmp_path / "notes.toml").write_text(f"notes = {json.dumps(str(tmp_path / 'notes'))}\n")
    options = ("--probation-s", "0.2", "--config", str(tmp_path / "notes.toml"))
    async with prepared(tmp_path / "system", settings) as rig:
        await rig.server.publish(build(one))
        await rig.local.start_node(N1, *options)
        old = await serving(rig, 1)
        own = [("grpc.use_local_subchannel_pool", 1)]
        async with labelled_channel(rig.local.members[N1], version=Version(1), options=own) as channel:
            client = Witnessed(channel, tmp_path / "notes")
            assert await meets(client, "before") == {old}
            await rig.server.publish(build(two, previous=one))
            await rig.until_node(N1, lambda node: node.phase == "transforming", "transforms")
            answered_by = await parks(client, gate)
            new = await serving(rig, 2)
            assert answered_by == {new}
            assert await meets(client, "after") == {new}
            assert is_alive(old)
        gc.collect()  # a call that was cancelled has the connection as long as it is there itself
        await until(lambda: not is_alive(old), "the old process ends with its last connection")
