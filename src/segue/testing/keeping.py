"""The store of values as a system of real processes, for tests of what goes wrong in an upgrade.

It is the store that is crashed on, which has each Put on disk before it answers. Its code is short and nothing of it
is generated, so a node is there soon.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from segue.layer.grpc_channel import labelled_channel
from segue.local import LocalSettings, LocalSystem
from segue.model.ids import NodeId, Version
from segue.release.bundle import build
from segue.testing.crashing.callers import StoreCaller
from segue.testing.crashing.store import STORE, SYSTEM, tree_of, write_bundles
from segue.testing.rig import Rig, changed
from segue.wire.client import UpgradeServer
from segue.wire.messages import NodeStatus

#: As `rig.changed` takes them.
Edits = Mapping[str, Mapping[str, str]]

#: Where a release has what: the object of a version, its transform and simulations.
NODE, UPGRADE = "kept_values/node.py", "kept_values/upgrade.py"
#: The line of `NODE` after which methods of the object can be put.
OBJECT = "class Store(Kept):\n"
N1, N2 = NodeId("n1"), NodeId("n2")


def write_releases(folder: Path) -> Mapping[int, Path]:
    """Write the folders of the store's three releases below `folder`: `{version: its folder}`."""
    write_bundles(folder, Version(3))
    return {version: folder / f"store-{version}" for version in (1, 2, 3)}


class Keeping(Rig):
    """A running store of values.

    Args:
        local: its processes.
        server: its upgrade server.
        settings: what its nodes have in common.
        releases: the folders of the releases, as `write_releases` has it.
    """

    def __init__(
        self, local: LocalSystem, server: UpgradeServer, settings: LocalSettings, releases: Mapping[int, Path]
    ) -> None:
        super().__init__(local, server, settings)
        self._releases = dict(releases)
        #: What was put and acknowledged, by node: `{node: {key: value}}`.
        self.acknowledged: dict[NodeId, dict[str, bytes]] = {node: {} for node in local.members}

    async def release(
        self,
        version: int,
        edits: Edits | None = None,
        *,
        files: Mapping[str, str] | None = None,
    ) -> None:
        """Publish a release, changed or as it is.

        Args:
            version: which.
            edits: as `rig.changed` takes them.
            files: `{path in the release: text}` of further files.
        """
        folder = self._releases[version]
        folder = changed(folder, folder.parent / f"published-{version}", edits or {})
        for name, text in (files or {}).items():
            (folder / name).write_text(text)
        self._releases[version] = folder
        await self.server.publish(await asyncio.to_thread(build, folder, previous=self._releases.get(version - 1)))

    async def put(self, *keys: str, version: int = 1, node: NodeId = N1) -> None:
        """Put a value for each key as a plain client would: no call is made twice."""
        async with StoreCaller(Version(version), self.local.members[node], timeout_s=30.0) as caller:
            for key in keys:
                value = f"{key} of version {version}\n\0".encode() * 3
                await caller.put(key, value)
                self.acknowledged[node][key] = value

    async def check_values(self, *versions: int, node: NodeId = N1) -> None:
        """Check, as a plain client of each version, that all that was acknowledged is there."""
        for version in versions:
            async with StoreCaller(Version(version), self.local.members[node], timeout_s=30.0) as caller:
                for key, value in self.acknowledged[node].items():
                    assert await caller.get(key) == value, f"{key}, as version {version} reads it"

    async def until_given_up(self, node: NodeId = N1) -> NodeStatus:
        """Wait until a node waits for its operator, and return it."""
        return await self.until_node(
            node, lambda found: found.waits_for_operator and found.phase == "serving", "has given up"
        )

    def state_of(self, version: int, node: NodeId = N1) -> Mapping[str, bytes | None]:
        """Return what is in the folder of a version's object: `{path: content}`."""
        return tree_of(self.local.state(node) / "states" / str(version) / "object")

    def left_over(self, node: NodeId = N1) -> Sequence[Path]:
        """Return what a transform has left behind."""
        return list((self.local.state(node) / "making").iterdir())

    def reading(self, node: NodeId = N1) -> "Reading":
        """Return a client that reads on and on, while its context is open."""
        return Reading(self.local.members[node], self.acknowledged[node])


class Reading:
    """A plain client of version 1 that reads one value after another while its context is open: no call may fail.

    Args:
        address: where the node is.
        values: what is there.
    """

    def __init__(self, address: str, values: Mapping[str, bytes]) -> None:
        self._address = address
        self._values = dict(values)
        self._tasks = asyncio.TaskGroup()
        self._done = asyncio.Event()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        self._tasks.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        self._done.set()
        await self._tasks.__aexit__(kind, error, trace)

    async def _read(self) -> None:
        async with labelled_channel(
            self._address, version=Version(1), options=[("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            get: Any = channel.unary_unary("/store.Store/Get")
            while not self._done.is_set():
                for key, value in self._values.items():
                    assert await get(key.encode(), timeout=60.0) == value
                    await asyncio.sleep(0.02)


@asynccontextmanager
async def keeping(
    folder: Path,
    *options: str,
    nodes: int = 1,
    edits: Edits | None = None,
    first: bool = True,
) -> AsyncIterator[Keeping]:
    """Run a store of values on version 1, until the context is left.

    Args:
        folder: where all of it goes; the state of node n1 is in `system/n1`.
        options: of every node's agent.
        nodes: how many there are.
        edits: to release 1.
        first: False to leave it to the caller to wait for the first start.
    """
    settings = LocalSettings(system=SYSTEM, class_name=STORE, nodes=nodes, poll_s=0.2, max_connection_age_s=1.0)
    local = LocalSystem(folder / "system", settings)
    async with local, UpgradeServer(local.url) as server:
        rig = Keeping(local, server, settings, write_releases(folder))
        await local.start_server()
        for node in local.members:
            await local.start_node(node, *options)
        await local.until_listening()
        await rig.release(1, edits)
        if first:
            await rig.until_serving(1)
        yield rig
