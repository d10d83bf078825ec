"""The object and the simulations of one process: loaded, started on their folders, installed, closed."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

from segue.author import Node, Simulation
from segue.errors import PeerError, ReleaseError
from segue.layer.chain import Link
from segue.layer.grpc_live_chain import LiveChain, Maker
from segue.layer.grpc_node_channel import node_channel
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest, label_source
from segue.layer.message_size import receiving
from segue.model.ids import ClassName, NodeId, SystemName, Version
from segue.model.view import FleetView
from segue.node.plan import Carry, Future, HostPlan, ReleasePlan, Stage
from segue.node.predicate import objection
from segue.release.durable import make_folder
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
        self._live = LiveChain(dispatch)
        self._object: object | None = None
        #: What the newest object of the chain speaks on its channels.
        self._speaks = Newest(plan.own.version)
        #: Past simulations answer no version older than this.
        self._oldest = plan.oldest

    @property
    def versions(self) -> list[Version]:
        """The versions that are answered, oldest first."""
        return self._live.versions

    def load(self, futures: Sequence[ReleasePlan] = ()) -> None:
        """Import what the process runs, its past simulations, and all the releases that these are made of.

        Args:
            futures: releases to import as well, since `start` will install them; if one cannot be, it can wait.

        Raises:
            ReleaseError: a release does not import, or a name in its manifest is not there.
        """
        for plan in self._plan.releases:
            release = self._load(plan)
            if plan.past and plan.version > self._oldest:
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
        self._object = instance = self._load(own).resolve(own.object)(self._node(own.version, speaks, stage.state))
        await _call_if_there(instance, "start")
        since = min(max(own.version, self._oldest), stage.carries)
        current = Link(version=stage.carries, since=since, role="current", instance=instance)
        await self._live.start(current, self._past(), partial(_call_if_there, instance, "self_test"))
        self._speaks = speaks
        for future in stage.futures:
            try:
                await self.answer(future)
            except Exception:
                logger.exception("version %s is not answered: it could not be installed again", future.version)
                break

    def _past(self) -> list[Maker]:
        """Return the past simulations to start, newest first; each answers what stood between two releases."""
        newest_first = [*reversed(self._plan.releases), None]
        makers = []
        for plan, older in pairwise(newest_first):
            if plan is None or plan.past is None or plan.version <= self._oldest:
                continue
            version = Version(plan.version - 1)
            since = min(version, older.version if older else version)
            node = self._node(version, Newest(version), plan.past.state)
            make = partial(self._load(plan).resolve(plan.past.code), node)
            makers.append(Maker(make=make, version=version, since=max(since, self._oldest)))
        return makers

    async def answer(self, future: Future) -> float:
        """Have the next newer version's calls answered from now on, disturbing no call in flight.

        Returns:
            How long it took, in milliseconds; 0 if they were answered already.

        Raises:
            PeerError: the version before it is not answered.
            ReleaseError, Exception: the release does not import or its simulation does not start; the
                chain is as it was.
        """
        newest = self._live.newest
        if future.version <= newest:
            return 0.0
        if future.version > newest + 1:
            raise PeerError(
                f"version {future.version} cannot be answered yet: the newest that is, is {newest}; "
                f"install {newest + 1} first"
            )
        began = time.perf_counter()
        if isinstance(future, Carry):
            self._live.carry(future.version)
            self._speaks.learn(future.version)
        else:
            await self._install(future)
        return (time.perf_counter() - began) * 1000

    async def _install(self, plan: ReleasePlan) -> None:
        """Put a future simulation above the chain."""
        assert plan.future is not None, plan
        # A large release takes long to import, and calls go on meanwhile: hence a thread.
        make = await asyncio.to_thread(self._load_future, plan)
        speaks = Newest(plan.version)
        node = self._node(plan.version, speaks, plan.future.state)
        try:
            await self._live.install(Maker(make=partial(make, node), version=plan.version, since=plan.version))
        except BaseException:
            self._forget(plan.version)
            raise
        self._speaks = speaks

    async def retire(self, oldest: Version, timeout_s: float) -> None:
        """Answer no version older than `oldest` any more, disturbing no call in flight.

        Past simulations that answer no other version end when the last call has left them, and their code is
        unloaded. The object stays with the newest version that it answers, and so does what is above it. Safe to
        repeat, also after a failure.

        Args:
            oldest: of the versions that are to be answered.
            timeout_s: seconds that calls inside have to end.

        Raises:
            TimeoutError: they have not; no new call comes to these simulations, which are still there.
            Exception: what the author's `stop` raised; that simulation is gone all the same.
        """
        self._oldest = max(self._oldest, oldest)
        try:
            await self._live.retire(oldest, timeout_s)
        except TimeoutError:
            raise  # calls are inside: their code stays
        except BaseException:
            self._unload_unused()
            raise
        self._unload_unused()

    def _unload_unused(self) -> None:
        """Unload the releases that nothing in the chain is made of."""
        # A past simulation of version v is made of the release whose type v speaks, and of those above.
        used = max(version for version in self._releases if version <= self.versions[0])
        for version in [version for version in self._releases if version < used]:
            self._releases.pop(version).unload()

    async def objection(self, version: Version, code: str, fleet: FleetView | None = None) -> str | None:
        """Return why the node should not go to `version` now, as its release says; None if it may.

        Args:
            version: a release that is loaded, as its future simulation is installed.
            code: its predicate, or its own function, `module:function`.
            fleet: what the function sees; None for a predicate, which sees the object.

        Raises:
            PeerError: the release is not loaded here.
            ReleaseError: it has no such function.
            Exception: what the author's code raised.
        """
        release = self._releases.get(version)
        if release is None or self._object is None:
            raise PeerError(f"version {version} is not answered here yet")
        return await objection(release.resolve(code), self._object if fleet is None else fleet)

    async def close(self) -> None:
        """Close each simulation before what it delegates to, and the object last."""
        await self._live.stop()
        if self._object is not None:
            await _call_if_there(self._object, "stop")

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
        """Unload a release that failed, and those above it, whose `previous` it is: they are loaded afresh later."""
        for failed in sorted(one for one in self._releases if one >= version):
            self._releases.pop(failed).unload()

    def _node(self, version: Version, speaks: Newest, state: str) -> Node:
        make_folder(Path(state))  # what the object then keeps there is of no use without the folder's own name
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
            open_channel=partial(node_channel, label=label, options=receiving(plan.max_message_bytes), tls=plan.tls),
            take_report=self._take_report,
        )

    def _take_report(self, facts: Mapping[str, float]) -> None:
        self.facts.update(facts)


async def _call_if_there(instance: object, name: str) -> None:
    method = getattr(instance, name, None)
    if method is not None:
        await method()
