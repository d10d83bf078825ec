"""The main job, step by step: from the upgrade server's start to the last file read back."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from segue.demo.clients import Clients, Heard, started_clients
from segue.demo.facts import Facts
from segue.demo.observer import Observer
from segue.demo.options import Example, Source, rules_of
from segue.demo.timeline import Timeline, Window, draw_up
from segue.demo.watch import Watch
from segue.demo.worker import Setup
from segue.errors import OperatorError, PeerError, SegueError
from segue.journey import Phase
from segue.local import LocalSettings, LocalSystem, is_alive
from segue.model.ids import ClassName, NodeId, SystemName, Version
from segue.wire.client import UpgradeServer

SYSTEM, CLASS = SystemName("blockstore"), ClassName("BlockNode")
OLD, NEW = Version(1), Version(2)

_POLL_S = 0.25
_START_LIMIT_S = 60.0
_ROLLOUT_LIMIT_S = 120.0
#: Old processes stay for about a connection's age, to forward what still comes to them.
_DRAIN_LIMIT_S = 30.0
#: Load of version 1 alone, and of both on upgraded nodes.
_BEFORE_S, _AFTER_S = 4.0, 6.0
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
    """

    source: Source
    example: Example
    nodes: int
    seed: int
    folder: Path


class MainJob:
    """Does the main job once.

    Args:
        setting: what to work with.
        watch: shows how it goes.
    """

    def __init__(self, setting: Setting, watch: Watch) -> None:
        self._setting = setting
        self._watch = watch
        self._seen = Observer((OLD, NEW))
        local = LocalSettings(system=SYSTEM, class_name=CLASS, nodes=setting.nodes)
        self._fleet = LocalSystem(setting.folder, local)
        self._clients: list[Clients] = []
        self._pids_before: dict[NodeId, int] = {}
        self._pids_left: frozenset[int] = frozenset()
        self._load_began_s = self._load_ended_s = 0.0

    async def do(self) -> tuple[Facts, Timeline | None]:
        """Do it, and return what was observed; no timeline if not even a status was had.

        Raises:
            SegueError: a process did not start, or ended of itself.
        """
        async with self._fleet as fleet, UpgradeServer(fleet.url) as server:
            second = await self._begin()
            async with self._background(server), self._speaking(OLD) as old:
                await self._start_nodes()
                await self._store(old)
                await self._load_old(old)
                async with self._speaking(NEW) as new:
                    await self._publish(second)
                    await self._roll_out(old, new)
                    await self._wind_up(old, new)
        return self._facts(), self._timeline()

    async def _begin(self) -> Path:
        """Start the upgrade server, publish version 1, and return version 2's bundle."""
        self._step("Starting the upgrade server, building the releases")
        fleet, releases = self._fleet, self._setting.example.releases
        await fleet.start_server()
        async with asyncio.TaskGroup() as group:
            first = group.create_task(fleet.build(releases[0]))
            second = group.create_task(fleet.build(releases[1], releases[0]))
        self._step(f"Publishing version {OLD}")
        await fleet.until_listening()
        await fleet.publish(first.result())
        return second.result()

    async def _start_nodes(self) -> None:
        self._step(f"Starting {self._setting.nodes} nodes on version {OLD}")
        await self._fleet.start_nodes()
        if not await self._reached(lambda: self._all_serve(OLD), _START_LIMIT_S):
            raise SegueError(f"not all nodes served version {OLD} after {_START_LIMIT_S:.0f} s: {self._states()}")

    async def _store(self, old: Clients) -> None:
        files = self._setting.source.files
        words = f"{len(files):,} files, {self._setting.source.size_bytes / 1e6:.1f} MB"
        self._step(f"Storing {words}, through version {OLD} clients", files=len(files))
        await old.store(files)

    async def _load_old(self, old: Clients) -> None:
        self._step(f"Version {OLD} clients put and get at random")
        self._load_began_s = time.time()
        await old.load(self._setting.source.files)
        await asyncio.sleep(_BEFORE_S)
        self._pids_before = {node: status.pid for node, status in self._seen.nodes().items() if status.pid is not None}

    async def _publish(self, bundle: Path) -> None:
        self._step(f"Publishing version {NEW}, while version {OLD} clients keep calling")
        await self._fleet.publish(bundle)

    async def _roll_out(self, old: Clients, new: Clients) -> None:
        """Let the nodes upgrade under both versions' load, and sample files meanwhile."""
        self._step("Nodes upgrade, while clients of both versions keep calling")
        await new.load(self._setting.source.files)
        async with asyncio.TaskGroup() as group:
            sampling = [group.create_task(self._sample(clients)) for clients in (old, new)]
            upgraded = await self._reached(lambda: self._all_serve(NEW), _ROLLOUT_LIMIT_S)
            for task in sampling:
                task.cancel()
        state = (
            f"Every node runs version {NEW}" if upgraded else f"After {_ROLLOUT_LIMIT_S:.0f} s not all nodes upgraded"
        )
        self._step(f"{state}: the load goes on for a while")
        await asyncio.sleep(_AFTER_S)
        await self._reached(lambda: not self._alive_before(), _DRAIN_LIMIT_S)
        self._pids_left = self._alive_before()

    def _alive_before(self) -> frozenset[int]:
        return frozenset(pid for pid in self._pids_before.values() if is_alive(pid))

    async def _sample(self, clients: Clients) -> None:
        choices = random.Random(f"{self._setting.seed}/{clients.version}/sample")
        files = self._setting.source.files
        while True:
            reading = await clients.read(choices.sample(files, min(_SAMPLE_FILES, len(files))))
            self._seen.sampled.append(reading)
            await asyncio.sleep(_SAMPLE_PAUSE_S)

    async def _wind_up(self, old: Clients, new: Clients) -> None:
        """End the load, and read everything back through both versions."""
        async with asyncio.TaskGroup() as group:
            for clients in (old, new):
                group.create_task(clients.stop_load())
        self._load_ended_s = time.time()
        files = self._setting.source.files
        self._step(f"Reading {len(files):,} files back, through clients of both versions", files=2 * len(files))
        async with asyncio.TaskGroup() as group:
            readings = [group.create_task(clients.read(files)) for clients in (old, new)]
        self._seen.readings += [reading.result() for reading in readings]
        self._step("Collecting the nodes' last counts")
        await asyncio.sleep(_SETTLE_S)

    @asynccontextmanager
    async def _background(self, server: UpgradeServer) -> AsyncIterator[None]:
        """Poll the status and show how it goes, as long as the context is open."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._poll(server)), group.create_task(self._show())]
            yield
            for task in tasks:
                task.cancel()

    async def _poll(self, server: UpgradeServer) -> None:
        while True:
            with suppress(PeerError, OperatorError):
                self._seen.see_status(await server.status(SYSTEM))
            await asyncio.sleep(_POLL_S)

    async def _show(self) -> None:
        while True:
            self._watch.show(self._seen.view())
            self._fleet.require_all()
            await asyncio.sleep(_POLL_S)

    @asynccontextmanager
    async def _speaking(self, version: Version) -> AsyncIterator[Clients]:
        """Start clients of one version; they and those of the other hear of each other's puts."""
        setup = Setup(
            client=str(self._setting.example.client),
            release=str(self._setting.example.releases[0 if version == OLD else 1]),
            version=version,
            members=dict(self._fleet.members.items()),
            root=str(self._setting.source.root),
            seed=self._setting.seed,
        )
        heard = Heard(tally=self._seen.see_tally, put=self._pass_on, progress=self._seen.see_progress)
        async with started_clients(setup, heard, self._fleet.logs / f"clients-{version}.log") as clients:
            self._clients.append(clients)
            yield clients

    def _pass_on(self, version: Version, numbers: Sequence[int]) -> None:
        for clients in self._clients:
            if clients.version != version:
                clients.hear_of(version, numbers)

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

    def _published_at(self) -> datetime | None:
        releases = self._seen.status.releases if self._seen.status else ()
        return next((release.published_at for release in releases if release.version == NEW), None)

    def _facts(self) -> Facts:
        seen = self._seen
        return Facts(
            seed=self._setting.seed,
            duration_s=seen.elapsed_s,
            from_version=OLD,
            to_version=NEW,
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
            rules=rules_of(self._setting.example.releases[1], CLASS),
            status=seen.status,
        )

    def _timeline(self) -> Timeline | None:
        published_at = self._published_at()
        if self._seen.status is None or published_at is None:
            return None
        window = Window(start_s=self._load_began_s, end_s=self._load_ended_s, zero_s=published_at.timestamp())
        return draw_up(self._seen.status, self._seen.samples, self._seen.tallies, window, (OLD, NEW))
