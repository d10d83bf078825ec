"""The object and the simulations of one process: loaded, started on their folders, installed, closed."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from segue.author import Node, Simulation
from segue.errors import PeerError, ReleaseError
from segue.layer.chain import Chain, Link
from segue.layer.grpc_node_channel import node_channel
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest, label_source
from segue.model.ids import ClassName, NodeId, SystemName, Version
from segue.node.plan import Carry, Future, HostPlan, ReleasePlan, SimulationPlan, Stage
from segue.release.modules import LoadedRelease

logger = logging.getLogger(__name__)


class Objects:
    """What a process runs.

    Args:
        plan: what the agent wants of this process.
        dispatch: what is shown every change of the chain.
        newest: what the process knows, for the labels of the objects' own calls.
    """

    def __init__(self, plan: HostPlan, dispatch: Dispatch, newest: Newest) -> None:
        #: What the object reported of the node: `{name: last value}`.
        self.facts: dict[str, float] = {}
        self._plan = plan
        self._dispatch = dispatch
        self._newest = newest
        self._releases: dict[Version, LoadedRelease] = {}
        self._chain: Chain | None = None
        #: What the newest object of the chain speaks on its channels.
        self._speaks: Newest | None = None
        #: Past simulations answer no version older than this.
        self._oldest = Version(0)
        #: Past simulations that are in the chain no more, and may have calls inside.
        self._leaving: list[Link] = []

    @property
    def versions(self) -> list[Version]:
        """The versions that are answered, oldest first."""
        links = self._chain.links if self._chain else ()
        return [Version(version) for link in links for version in link.versions]

    def load(self, futures: Sequence[ReleasePlan] = ()) -> None:
        """Import what the process runs, its past simulations, and all the releases that these are made of.

        Args:
            futures: releases to import as well, since `start` will install them; if one cannot be, it can wait.

        Raises:
            ReleaseError: a release does not import, or a name in its manifest is not there.
        """
        for plan in self._plan.releases:
            release = self._load(plan)
            if plan.past:
                release.resolve(plan.past.code)
        self._load(self._plan.own).resolve(self._plan.own.object)
        try:
            for plan in futures:
                self._load_future(plan)
        except ReleaseError:
            logger.exception("a future simulation could not be imported")

    async def start(self, stage: Stage) -> None:
        """Make the object and its simulations on their folders, and let the object test itself.

        A future simulation that fails does not keep the object down: `versions` then goes without it, and
        without those above it.

        Raises:
            Exception: what the author's code raised.
        """
        own = self._plan.own
        speaks = Newest(stage.carries)
        instance = self._load(own).resolve(own.object)(self._node(own.version, speaks, stage.state))
        await _call_if_there(instance, "start")
        since = own.version if own.version < stage.carries else None
        chain = [Link(version=stage.carries, since=since, role="current", instance=instance)]
        for plan, older in zip(reversed(self._plan.releases), (*reversed(self._plan.releases[:-1]), None), strict=True):
            if plan.past and plan.version > self._oldest:
                link = await self._start_past(plan, plan.past, older, chain[0].instance)
                chain.insert(0, _not_before(link, self._oldest))
        await _call_if_there(instance, "self_test")
        self._speaks = speaks
        self._show(Chain(tuple(chain)))
        for future in stage.futures:
            try:
                await self.answer(future)
            except Exception:
                logger.exception("version %s is not answered: it could not be installed again", future.version)
                break

    async def _start_past(
        self, plan: ReleasePlan, simulation: SimulationPlan, older: ReleasePlan | None, delegate: object
    ) -> Link:
        """Start the past simulation that a release brought; it answers what stood between that and the older one."""
        version = Version(plan.version - 1)
        node = self._node(version, Newest(version), simulation.state)
        past: Simulation = self._load(plan).resolve(simulation.code)(node, delegate)
        await past.start()
        since = older.version if older and older.version < version else None
        return Link(version=version, since=since, role="past", instance=past)

    async def answer(self, future: Future) -> float:
        """Have the next newer version's calls answered from now on, disturbing no call in flight.

        Returns:
            How long it took, in milliseconds; 0 if they were answered already.

        Raises:
            PeerError: the version before it is not answered.
            ReleaseError, Exception: the release does not import or its simulation does not start; the
                chain is as it was.
        """
        before = self._chain
        assert before is not None, "a future needs an object to stand on"
        if future.version <= before.newest:
            return 0.0
        if future.version > before.newest + 1:
            raise PeerError(
                f"version {future.version} cannot be answered yet: the newest that is, is {before.newest}; "
                f"install {before.newest + 1} first"
            )
        began = time.perf_counter()
        if isinstance(future, Carry):
            self._carry(before, future.version)
        else:
            await self._install(before, future)
        return (time.perf_counter() - began) * 1000

    def _carry(self, before: Chain, version: Version) -> None:
        """Have the newest object of the chain answer one version more, and speak it."""
        newest = before.links[-1]
        assert self._speaks is not None, before
        self._show(Chain((*before.links[:-1], replace(newest, version=version, since=newest.since or newest.version))))
        self._speaks.learn(version)

    async def _install(self, before: Chain, plan: ReleasePlan) -> None:
        """Put a future simulation above the chain."""
        assert plan.future is not None, plan
        # A large release takes long to import, and calls go on meanwhile: hence a thread.
        make = await asyncio.to_thread(self._load_future, plan)
        speaks = Newest(plan.version)
        try:
            simulation = make(self._node(plan.version, speaks, plan.future.state), before.links[-1].instance)
        except BaseException:
            self._forget(plan.version)
            raise
        link = Link(version=plan.version, role="future", instance=simulation, ready=False)
        try:
            # It observes before it starts, so that no call falls between what it reads and what it is told.
            self._show(Chain((*before.links, link)))
            await simulation.start()
            self._show(Chain((*before.links, replace(link, ready=True))))
        except BaseException:
            self._show(before)
            await _stop_quietly(simulation)
            self._forget(plan.version)
            raise
        self._speaks = speaks

    async def remove(self, oldest: Version, timeout_s: float) -> None:
        """Answer no version older than `oldest` any more, disturbing no call in flight.

        Past simulations that answer no other version end when the last call has left them, and their code is
        unloaded. The object and what is above it stay, whatever they answer. Safe to repeat, also after a failure.

        Args:
            oldest: of the versions that past simulations are to answer.
            timeout_s: seconds that calls inside have to end.

        Raises:
            TimeoutError: they have not; no new call comes to these simulations, which are still there.
            Exception: what the author's `stop` raised; that simulation is gone all the same.
        """
        before = self._chain
        assert before is not None, "there is nothing to remove"
        self._oldest = max(self._oldest, oldest)
        past = [link for link in before.links if link.role == "past"]
        gone = [link for link in past if link.version < oldest]
        self._leaving += gone
        if past and past[0].versions[0] < oldest:
            kept = [_not_before(link, oldest) for link in past[len(gone) :]]
            self._show(Chain((*kept, *before.links[len(past) :])))
        await self._dispatch.settled(timeout_s)
        try:
            while self._leaving:
                await _call_if_there(self._leaving.pop(0).instance, "stop")
        finally:
            self._unload_unused()

    def _unload_unused(self) -> None:
        """Unload the releases that nothing in the chain is made of."""
        assert self._chain is not None
        # A past simulation of version v is made of the release whose type v speaks, and of those above.
        used = max(version for version in self._releases if version <= self._chain.links[0].version)
        for version in [version for version in self._releases if version < used]:
            self._releases.pop(version).unload()

    async def close(self) -> None:
        """Close each simulation before what it delegates to, and the object last."""
        if self._chain is None:
            return
        while self._leaving:
            await _call_if_there(self._leaving.pop(0).instance, "stop")
        links = self._chain.links
        at = links.index(self._chain.current)
        for _, link in sorted(enumerate(links), key=lambda entry: -abs(entry[0] - at)):
            await _call_if_there(link.instance, "stop")

    def _load(self, plan: ReleasePlan) -> LoadedRelease:
        """Load a release; its `previous` is the newest that is loaded below it, so that all share message classes."""
        if plan.version not in self._releases:
            below = max((version for version in self._releases if version < plan.version), default=None)
            previous = None if below is None else self._releases[below]
            self._releases[plan.version] = LoadedRelease(Path(plan.folder), plan.version, previous=previous)
        return self._releases[plan.version]

    def _load_future(self, plan: ReleasePlan) -> Callable[[Node, object], Simulation]:
        assert plan.future is not None, plan
        try:
            make: Callable[[Node, object], Simulation] = self._load(plan).resolve(plan.future.code)
        except ReleaseError:
            self._forget(plan.version)
            raise
        return make

    def _forget(self, version: Version) -> None:
        """Unload a release that failed: it leaves nothing behind, and is loaded afresh when it is tried again."""
        if failed := self._releases.pop(version, None):
            failed.unload()

    def _node(self, version: Version, speaks: Newest, state: str) -> Node:
        Path(state).mkdir(parents=True, exist_ok=True)
        plan = self._plan
        label = label_source(speaks, self._newest, NodeId(plan.node_id))
        return Node(
            system=SystemName(plan.system),
            class_name=ClassName(plan.class_name),
            id=NodeId(plan.node_id),
            version=version,
            state=Path(state),
            address=plan.address,
            attributes=plan.attributes,
            config=plan.config,
            open_channel=partial(node_channel, label=label),
            take_report=self._take_report,
        )

    def _take_report(self, facts: Mapping[str, float]) -> None:
        self.facts.update(facts)

    def _show(self, chain: Chain) -> None:
        self._dispatch.show(chain)
        self._chain = chain


def _not_before(link: Link, oldest: Version) -> Link:
    """Return `link` without the versions below `oldest`; it has one from there on."""
    if link.since is None or link.since >= oldest:
        return link
    return replace(link, since=oldest if oldest < link.version else None)


async def _call_if_there(instance: object, name: str) -> None:
    method = getattr(instance, name, None)
    if method is not None:
        await method()


async def _stop_quietly(simulation: Simulation) -> None:
    """Let a simulation that failed to start close what it opened; that it failed is what matters."""
    try:
        await simulation.stop()
    except Exception:
        logger.exception("a simulation that failed to start could not be stopped either")
