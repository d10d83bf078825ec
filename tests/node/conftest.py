"""Real processes of the application, of a release of a few lines that keeps what it is told in a file."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from segue.layer.grpc_channel import labelled_channel
from segue.local import free_ports
from segue.model.ids import Version
from segue.node.hosts import HostProcess, Hosts
from segue.node.plan import HostPlan, ReleasePlan, SimulationPlan, Stage

#: The object: `Say` appends to a file that is open from `start` to `stop`, and answers all that was said.
NODE = """
import asyncio, os
import grpc

class Notes:
    def __init__(self, node):
        self.path = node.state / "notes"
        self.file = None

    def register(self, server):
        handler = grpc.unary_unary_rpc_method_handler(self.Say)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("notes.Notes", {"Say": handler}),))

    async def start(self):
        self.file = self.path.open("ab", buffering=0)

    async def stop(self):
        self.file.close()

    async def Say(self, request, context):
        self.file.write(request)
        return self.path.read_bytes()
"""

#: The simulation of version 2, which says the same over version 1's object.
UPGRADE = """
import segue
from .node import Notes

class Version2(segue.FutureSimulation, Notes):
    def __init__(self, node, delegate):
        segue.FutureSimulation.__init__(self, node, delegate)

    async def start(self):
        (self.state / "seen").touch()

    async def stop(self):
        pass

    async def Say(self, request, context):
        return b"future " + await self.delegate.Say(request, context)
"""

Edits = Mapping[str, str]
Spawn = Callable[..., Awaitable[HostProcess]]
Say = Callable[..., Awaitable[bytes]]


def free_port() -> int:
    (port,) = free_ports(1)
    return port


@pytest.fixture
def plan(tmp_path: Path) -> HostPlan:
    """The plan of a process that runs version 1 of the notes."""
    (tmp_path / "usage").mkdir()
    return HostPlan(
        system="notes", class_name="Notes", node_id="n1", address=f"127.0.0.1:{free_port()}", max_connection_age_s=1,
        control=str(tmp_path / "1.control"), peer=str(tmp_path / "1.peer"), usage=str(tmp_path / "usage"),
        releases=(release(tmp_path / "release-1", 1, {}),),
    )  # fmt: skip


def release(folder: Path, version: int, edits: Edits) -> ReleasePlan:
    """Write a release of the notes, with text in it replaced."""
    (folder / "notes").mkdir(parents=True)
    for name, text in {"node.py": NODE, "upgrade.py": UPGRADE}.items():
        for old, new in edits.items():
            text = text.replace(old, new)
        (folder / "notes" / name).write_text(text)
    (folder / "notes" / "__init__.py").touch()
    return ReleasePlan(
        version=Version(version), folder=str(folder), object="notes.node:Notes",
        future=SimulationPlan(code="notes.upgrade:Version2", state=f"{folder}-state") if version > 1 else None,
    )  # fmt: skip


@pytest.fixture
def make_release(tmp_path: Path) -> Callable[..., ReleasePlan]:
    """Writes a release: version, and `{text: what to put in its place}`."""

    def make(version: int, edits: Edits | None = None) -> ReleasePlan:
        return release(tmp_path / f"release-{version}-{len(edits or {})}", version, edits or {})

    return make


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """The folders of version 1's object."""
    return Stage(state=str(tmp_path / "object"), carries=Version(1))


@pytest.fixture
async def spawn(plan: HostPlan) -> AsyncIterator[Spawn]:
    """Starts a process of the plan, with fields of the plan changed; at the end, none runs any more."""
    started: list[HostProcess] = []
    async with asyncio.TaskGroup() as tasks:
        hosts = Hosts(tasks)

        async def start(**changes: object) -> HostProcess:
            started.append(await hosts.spawn(replace(plan, **changes), len(started) + 1))  # type: ignore[arg-type]  # any field
            return started[-1]

        yield start
        for host in started:
            await host.end()


@pytest.fixture
def say(plan: HostPlan) -> Say:
    """Says something to the node in a version, on a connection of its own, and returns all that was said."""

    async def call(text: bytes, *, version: int = 1, target: str = plan.address) -> bytes:
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with labelled_channel(target, version=Version(version), options=options) as channel:
            method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/notes.Notes/Say")
            return await method(text)

    return call


@pytest.fixture
def refused(say: Say) -> Callable[..., Awaitable[grpc.StatusCode | None]]:
    """Says something, and returns the status that it ends with; None if it is not answered in a moment."""

    async def call(text: bytes, *, within_s: float = 0.5, **to: object) -> grpc.StatusCode | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                try:
                    await say(text, **to)
                except grpc.aio.AioRpcError as error:
                    code: grpc.StatusCode = error.code()
                    return code
                return grpc.StatusCode.OK
        return None

    return call
