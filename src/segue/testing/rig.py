"""A rig for tests with real processes: a local system, what its upgrade server says of it, and its releases changed."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from segue.errors import OperatorError, PeerError
from segue.local import LocalSettings, LocalSystem
from segue.model.ids import NodeId
from segue.release.bundle import build
from segue.wire.client import UpgradeServer
from segue.wire.messages import NodeStatus, SystemStatus

#: A process of Python on a busy machine of two cores may need most of this to come up.
LIMIT_S = 60.0
_LOOK_S = 0.1


class Rig:
    """A local system under test.

    Args:
        local: its processes.
        server: its upgrade server.
        settings: what its nodes have in common.
    """

    def __init__(self, local: LocalSystem, server: UpgradeServer, settings: LocalSettings) -> None:
        self.local = local
        self.server = server
        self._system = settings.system

    async def until(self, condition: Callable[[SystemStatus], bool], what: str) -> SystemStatus:
        """Wait until the upgrade server's status fulfils `condition`, and return it.

        Args:
            condition: looks at one status.
            what: the condition in words, for the failure.

        Raises:
            AssertionError: not within a minute; with the last status and the nodes' last words.
        """
        last: SystemStatus | None = None
        try:
            async with asyncio.timeout(LIMIT_S):
                while True:
                    try:
                        last = await self.server.status(self._system)
                    except (PeerError, OperatorError):  # it is not up yet, or nothing was published
                        pass
                    else:
                        if condition(last):
                            return last
                    await asyncio.sleep(_LOOK_S)
        except TimeoutError:
            raise AssertionError(f"not within {LIMIT_S:g} s: {what}\n{self._words(last)}") from None

    async def until_serving(self, version: int) -> SystemStatus:
        """Wait until every node serves `version` and is at rest."""
        count = len(self.local.members)
        return await self.until(
            lambda now: len(now.nodes) == count and all(_serves(node, version) for node in now.nodes),
            f"every node serves version {version}",
        )

    async def until_node(self, node: NodeId, condition: Callable[[NodeStatus], bool], what: str) -> NodeStatus:
        """Wait until the status of one node fulfils `condition`, and return it."""

        def holds(now: SystemStatus) -> bool:
            return any(found.id == node and condition(found) for found in now.nodes)

        now = await self.until(holds, f"{node} {what}")
        return next(found for found in now.nodes if found.id == node)

    async def publish(self, release: Path, previous: Path | None = None) -> None:
        """Build a release and publish it, as `segue build` and `segue publish` do, without processes of their own."""
        await self.server.publish(await asyncio.to_thread(build, release, previous=previous))

    def _words(self, last: SystemStatus | None) -> str:
        said = [f"status: {last.model_dump_json(indent=1) if last else 'none was had'}"]
        for node in self.local.members:
            if (self.local.logs / f"{node}.log").exists():
                said.append(f"--- {node} said last:\n" + "\n".join(self.local.log(node).splitlines()[-25:]))
        return "\n".join(said)


@asynccontextmanager
async def prepared(folder: Path, settings: LocalSettings) -> AsyncIterator[Rig]:
    """Run the upgrade server of a system, with nothing published and no node started, until the context is left.

    Args:
        folder: an empty folder.
        settings: what the nodes have in common.
    """
    local = LocalSystem(folder, settings)
    async with local, UpgradeServer(local.url) as server:
        await local.start_server()
        await local.until_listening()
        yield Rig(local, server, settings)


@asynccontextmanager
async def rigged(folder: Path, settings: LocalSettings, release: Path) -> AsyncIterator[Rig]:
    """Run a system whose nodes all serve `release`, until the context is left.

    Args:
        folder: an empty folder.
        settings: what the nodes have in common.
        release: the folder of a release of version 1.
    """
    async with prepared(folder, settings) as rig:
        await rig.publish(release)
        await rig.local.start_nodes()
        await rig.until_serving(1)
        yield rig


def changed(release: Path, target: Path, edits: Mapping[str, Mapping[str, str]]) -> Path:
    """Copy a release's folder, with text in its files replaced, and return where it is.

    Args:
        release: the folder.
        target: where the copy goes.
        edits: `{file in the release: {text that stands there: what to put in its place}}`.

    Raises:
        AssertionError: a text does not stand there.
    """
    shutil.copytree(release, target)
    for name, replacements in edits.items():
        path = target / name
        text = path.read_text()
        for old, new in replacements.items():
            assert old in text, f"{old!r} does not stand in {path}"
            text = text.replace(old, new)
        path.write_text(text)
    return target


def _serves(node: NodeStatus, version: int) -> bool:
    return node.version == version and node.phase == "serving" and node.pid is not None
