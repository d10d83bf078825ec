"""One null server in a process of its own: `python -m benchmarks.server KIND`. It says its port and serves."""

import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import grpc.aio

from benchmarks.null import ByHand, Null, Observing, Past
from segue.author import Node, Simulation
from segue.layer.chain import Link
from segue.layer.grpc_live_chain import LiveChain, Maker
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest
from segue.layer.usage import Usage
from segue.model.ids import ClassName, NodeId, SystemName, Version


def _node(state: Path, version: Version) -> Node:
    return Node(
        system=SystemName("bench"),
        class_name=ClassName("Null"),
        id=NodeId("n1"),
        version=version,
        state=state,
        address="",
        open_channel=grpc.aio.insecure_channel,
        take_report=lambda _: None,
    )


def _maker(make: Callable[[Node, object], Simulation], state: Path, version: Version) -> Maker:
    return Maker(make=partial(make, _node(state, version)), version=version, since=version)


async def _bare(server: grpc.aio.Server, _: Path) -> None:
    Null().register(server)


async def _by_hand(server: grpc.aio.Server, _: Path) -> None:
    ByHand().register(server)


async def _chain(server: grpc.aio.Server, state: Path, *, past: int, observed: bool = False) -> None:
    """Put a chain in front of a server as a node has it: so many past simulations below the object."""
    current = Version(past + 1)
    dispatch = Dispatch(usage=Usage(), newest=Newest(current), on_newer=lambda _: None, node=NodeId("n1"))
    live = LiveChain(dispatch)
    older = [_maker(Past, state, Version(version)) for version in range(past, 0, -1)]
    await live.start(Link(version=current, role="current", instance=Null()), older)
    if observed:
        await live.install(_maker(Observing, state, Version(current + 1)))
    server.add_generic_rpc_handlers((dispatch,))


#: Each puts what answers in front of a server.
KINDS: dict[str, Callable[[grpc.aio.Server, Path], Awaitable[None]]] = {
    "bare": _bare,
    "by_hand": _by_hand,
    "current": partial(_chain, past=0),
    "past_1": partial(_chain, past=1),
    "past_10": partial(_chain, past=10),
    "observed": partial(_chain, past=0, observed=True),
}


async def _serve(kind: str) -> None:
    with tempfile.TemporaryDirectory(prefix="segue-bench-") as state:
        server = grpc.aio.server()
        await KINDS[kind](server, Path(state))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(port, flush=True)
        # The parent's end of the pipe closes when it ends, however it ends.
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await server.stop(None)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
