"""The main job, step by step: from the upgrade server's start to the last file read back."""

import asyncio
import random
import time
from asyncio import TaskGroup
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from segue.demo.broken import has_halted
from segue.demo.clients import Clients, Heard, started_clients
from segue.demo.facts import Facts
from segue.demo.hearsay import Hearsay
from segue.demo.observer import Observer
from segue.demo.options import Example, Source, rules_of
from segue.demo.timeline import Timeline, Window, draw_up
from segue.demo.watch import Watch
from segue.demo.worker import Setup
from segue.errors import OperatorError, PeerError, SegueError
from segue.journey import Phase
from segue.local import LocalSettings, LocalSystem, is_alive
from segue.model.ids import ClassName, NodeId, SystemName, Version
from segue.node.handover import mode_of
from segue.node.plan import HandOver
from segue.wire.client import UpgradeServer

SYSTEM, CLASS = SystemName("blockstore"), ClassName("BlockNode")
_POLL_S = 0.25
_START_LIMIT_S = 60.0
_ROLLOUT_LIMIT_S = 120.0
#: Old processes stay for about a connection's age, to forward what still comes to them.
_DRAIN_LIMIT_S = 30.0
#: Load of the first version alone, and of all on upgraded nodes.
_BEFORE_S, _AFTER_S = 4.0, 6.0
#: Between two releases: so short that nodes are still on their way to the one when the other comes.
_NEXT_RELEASE_S = 3.0
#: A node that fails tries again after a second, and then gives up.
_TRIES_ONCE_MORE = ("--retries", "1", "--retry-s", "1")
#: After the load, for the nodes' last counts to reach the upgrade server.
_SETTLE_S = 2.0
_SAMPLE_FILES, _SAMPLE_PAUSE_S = 8, 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the main job works with.

    Attributes:
        source: the files, in a folder that nobody changes meanwhile.
        example: the system.
        nodes: how many nodes.
        seed: what the load's choices are drawn from.
        folder: an empty folder for all that is written.
        broken: whether the last version has a self-test that fails, so that the rollout must halt.
    """

    source: Source
    example: Example
    nodes: int
    seed: int
    folder: Path
    broken: bool = False


class MainJob:
    """Does the main job once.

    Args:
        setting: what to work with.
        watch: shows how it goes.
    """

    def __init__(self, setting: Setting, watch: Watch) -> None:
        self._setting = setting
        self._watch = watch
        self._versions = tuple(setting.example.releases)
        self._seen = Observer(self._versions)
        options = _TRIES_ONCE_MORE if setting.broken else ()
        local = LocalSettings(system=SYSTEM, class_name=CLASS, nodes=setting.nodes, node_options=options)
        self._fleet = LocalSystem(setting.folder, local)
        self._clients: list[Clients] = []
        self._hearsay = Hearsay()
        self._pids_before: dict[NodeId, int] = {}
        self._pids_left: frozenset[int] = frozenset()
        self._load_began_s = self._load_ended_s = 0.0

    async def do(self) -> tuple[Facts, Timeline | None]:
        """Do it, and return what was observed; no timeline if not even a status was had.

        Raises:
            SegueError: a process did not start, or ended of itself.
        """
        async with self._fleet as fleet, UpgradeServer(fleet.url) as server:
            bundles = await self._begin()
            async with self._background(server), AsyncExitStack() as speaking:
                first = await speaking.enter_async_context(self._speaking(self._versions[0]))
                await self._start_nodes()
                await self._store(first)
                await self._load_first(first)
                others = [await speaking.enter_async_context(self._speaking(version)) for version in self._versions[1:]]
                upgraded = await self._upgrade(first, others, bundles)
                await self._load_upgraded(upgraded=upgraded)
                await self._wind_up()
        return self._facts(), self._timeline()

    async def _begin(self) -> Mapping[Version, Path]:
        """Start the upgrade server, publish the first version, and return `{version: its bundle}`."""
        self._step("Starting the upgrade server, building the releases")
        fleet, releases = self._fleet, self._setting.example.releases
        await fleet.start_server()
        async with TaskGroup() as group:
            building = {
                version: group.create_task(fleet.build(folder, releases.get(Version(version - 1))))
                for version, folder in releases.items()
            }
        bundles = {version: built.result() for version, built in building.items()}
        self._step(f"Publishing version {self._versions[0]}")
        await fleet.until_listening()
        await fleet.publish(bundles[self._versions[0]])
        return bundles

    async def _start_nodes(self) -> None:
        version = self._versions[0]
        self._step(f"Starting {self._setting.nodes} nodes on version {version}")
        await self._fleet.start_nodes()
        if not await self._reached(lambda: self._all_serve(version), _START_LIMIT_S):
            raise SegueError(f"not all nodes served version {version} after {_START_LIMIT_S:.0f} s: {self._states()}")

    async def _store(self, clients: Clients) -> None:
        files = self._setting.source.files
        words = f"{len(files):,} files, {self._setting.source.size_bytes / 1e6:.1f} MB"
        self._step(f"Storing {words}, through version {clients.version} clients", files=len(files))
        await clients.store(files)

    async def _load_first(self, clients: Clients) -> None:
        self._step(f"Version {clients.version} clients put and get at random")
        self._load_began_s = time.time()
        await clients.load(self._setting.source.files)
        await asyncio.sleep(_BEFORE_S)
        self._pids_before = {node: status.pid for node, status in self._seen.nodes().items() if status.pid is not None}

    async def _upgrade(self, first: Clients, others: Sequence[Clients], bundles: Mapping[Version, Path]) -> bool:
        """Publish release after release under the load of all that are out, and say whether all nodes upgraded."""
        async with TaskGroup() as group:
            sampling = [group.create_task(self._sample(first))]
            for clients in others:
                await self._publish(clients.version, bundles[clients.version])
                await clients.load(self._setting.source.files)
                sampling.append(group.create_task(self._sample(clients)))
                if clients is not others[-1]:
                    await asyncio.sleep(_NEXT_RELEASE_S)
            upgraded = await self._rolled_out()
            for task in sampling:
                task.cancel()
        return upgraded

    async def _publish(self, version: Version, bundle: Path) -> None:
        callers = _and([f"{other}" for other in self._versions if other < version])
        self._step(f"Publishing version {version}, while clients of version {callers} keep calling")
        await self._fleet.publish(bundle)

    async def _rolled_out(self) -> bool:
        """Wait for the nodes to upgrade, or for the rollout to halt if that is what it must do; say whether it came."""
        if self._setting.broken:
            self._step("The canary tries it, fails and goes back; the others wait")
            return await self._reached(lambda: has_halted(self._seen.status), _ROLLOUT_LIMIT_S)
        self._step(f"Nodes upgrade, while clients of version {_and(list(map(str, self._versions)))} keep calling")
        limit_s = _ROLLOUT_LIMIT_S * (len(self._versions) - 1)
        return await self._reached(lambda: self._all_serve(self._versions[-1]), limit_s)

    async def _load_upgraded(self, *, upgraded: bool) -> None:
        """Let the load go on for a while, and the processes that were replaced end."""
        newest = self._versions[-1]
        if self._setting.broken:
            state = "The rollout has halted" if upgraded else "The rollout has not halted in time"
        else:
            state = (
                f"Every node runs version {newest}" if upgraded else f"Not all nodes came to version {newest} in time"
            )
        self._step(f"{state}: the load goes on for a while")
        await asyncio.sleep(_AFTER_S)
        await self._reached(lambda: not self._replaced_alive(), _DRAIN_LIMIT_S)
        self._pids_left = self._replaced_alive()

    def _replaced_alive(self) -> frozenset[int]:
        """Return the processes that were a node's, are not any more, and have not ended."""
        current = {status.pid for status in self._seen.nodes().values()}
        seen = {pid for pids in self._seen.pids_seen.values() for pid in pids} | set(self._pids_before.values())
        return frozenset(pid for pid in seen - current if is_alive(pid))

    async def _sample(self, clients: Clients) -> None:
        choices = random.Random(f"{self._setting.seed}/{clients.version}/sample")
        files = self._setting.source.files
        while True:
            reading = await clients.read(choices.sample(files, min(_SAMPLE_FILES, len(files))))
            self._seen.sampled.append(reading)
            await asyncio.sleep(_SAMPLE_PAUSE_S)

    async def _wind_up(self) -> None:
        """End the load, and read everything back through every version."""
        async with TaskGroup() as group:
            for clients in self._clients:
                group.create_task(clients.stop_load())
        self._load_ended_s = time.time()
        files, versions = self._setting.source.files, _and(list(map(str, self._versions)))
        words = f"Reading {len(files):,} files back, through clients of version {versions}"
        self._step(words, files=len(self._versions) * len(files))
        async with TaskGroup() as group:
            readings = [group.create_task(clients.read(files)) for clients in self._clients]
        self._seen.readings += [reading.result() for reading in readings]
        self._step("Collecting the nodes' last counts")
        await asyncio.sleep(_SETTLE_S)

    @asynccontextmanager
    async def _background(self, server: UpgradeServer) -> AsyncIterator[None]:
        """Poll the status and show how it goes, as long as the context is open."""
        async with TaskGroup() as group:
            tasks = [group.create_task(self._poll(server)), group.create_task(self._show())]
            yield
            for task in tasks:
                task.cancel()

    async def _poll(self, server: UpgradeServer) -> None:
        while True:
            with suppress(PeerError, OperatorError):
                self._seen.see_status(await server.status(SYSTEM))
                self._hearsay.see(self._seen.nodes().values(), len(self._fleet.members))
            await asyncio.sleep(_POLL_S)

    async def _show(self) -> None:
        while True:
            self._watch.show(self._seen.view())
            self._fleet.require_all()
            await asyncio.sleep(_POLL_S)

    @asynccontextmanager
    async def _speaking(self, version: Version) -> AsyncIterator[Clients]:
        """Start clients of one version; they and those of the others hear of each other's puts."""
        setup = Setup(
            client=str(self._setting.example.client),
            release=str(self._setting.example.releases[version]),
            version=version,
            members=dict(self._fleet.members.items()),
            root=str(self._setting.source.root),
            seed=self._setting.seed,
        )
        heard = Heard(tally=self._seen.see_tally, put=self._hearsay.pass_on, progress=self._seen.see_progress)
        async with started_clients(setup, heard, self._fleet.logs / f"clients-{version}.log") as clients:
            self._clients.append(clients)
            self._hearsay.add(clients)
            yield clients

    def _step(self, words: str, *, files: int | None = None) -> None:
        self._seen.begin(words, files=files)
        self._watch.show(self._seen.view())

    def _all_serve(self, version: Version) -> bool:
        nodes = self._seen.nodes()
        return len(nodes) == len(self._fleet.members) and all(
            node.version == version and node.phase == Phase.SERVING for node in nodes.values()
        )

    def _states(self) -> str:
        nodes = self._seen.nodes().values()
        return ", ".join(f"{node.id} {node.phase} {node.failure or ''}".strip() for node in nodes) or "none was seen"

    async def _reached(self, condition: Callable[[], bool], limit_s: float) -> bool:
        """Wait until `condition` holds, and say whether it did in time."""
        try:
            async with asyncio.timeout(limit_s):
                while not condition():
                    self._fleet.require_all()
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            return False
        return True

    def _published_at(self) -> Mapping[Version, datetime]:
        """Return when each version that came under load was published, of those that were."""
        releases = self._seen.status.releases if self._seen.status else ()
        moments = {Version(release.version): release.published_at for release in releases}
        return {version: moments[version] for version in self._versions[1:] if version in moments}

    def _facts(self) -> Facts:
        seen, releases = self._seen, self._setting.example.releases
        return Facts(
            seed=self._setting.seed,
            duration_s=seen.elapsed_s,
            versions=self._versions,
            private=self._versions[-1] >= self._setting.example.private_since,
            nodes=tuple(self._fleet.members),
            files=len(self._setting.source.files),
            size_bytes=self._setting.source.size_bytes,
            published_at=self._published_at(),
            calls=seen.calls(),
            pids_before=self._pids_before,
            pids_seen=seen.pids_seen,
            pids_left=self._pids_left,
            samples=tuple(seen.sampled),
            readings=tuple(seen.readings),
            rules={version: rules_of(releases[version], CLASS) for version in self._versions[1:]},
            status=seen.status,
            broken=self._setting.broken,
            hand_over=mode_of(HandOver.AUTO),
        )

    def _timeline(self) -> Timeline | None:
        published_at = self._published_at()
        if self._seen.status is None or not published_at:
            return None
        window = Window(
            start_s=self._load_began_s,
            end_s=self._load_ended_s,
            published_s=tuple(moment.timestamp() for moment in published_at.values()),
        )
        return draw_up(self._seen.status, self._seen.samples, self._seen.tallies, window, self._versions)


def _and(texts: Sequence[str]) -> str:
    """Return a list in words: `1`, `1 and 2`, `1, 2 and 3`."""
    return " and ".join([*([", ".join(texts[:-1])] if texts[:-1] else []), *texts[-1:]])
