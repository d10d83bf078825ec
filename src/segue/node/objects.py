"""The object and the simulations of one process: loaded, started on their folders, installed, closed."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

from segue.author import Node, Simulation
from segue.errors import ReleaseError
from segue.layer.chain import Chain, Link
from segue.layer.grpc_node_channel import node_channel
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest, label_source
from segue.model.ids import ClassName, NodeId, SystemName, Version
from segue.node.plan import Future, HostPlan, ReleasePlan, Stage
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

    @property
    def versions(self) -> list[Version]:
        """The versions that are answered."""
        return [link.version for link in self._chain.links] if self._chain else []

    def load(self) -> None:
        """Import the release, and the one before it.

        Raises:
            ReleaseError: the release does not import, or a name in its manifest is not there.
        """
        if self._plan.previous:
            self._load(self._plan.previous)
        release = self._load(self._plan.release)
        release.resolve(self._plan.release.object)
        if self._plan.release.past:
            release.resolve(self._plan.release.past)

    async def start(self, stage: Stage) -> None:
        """Make the object and its simulations on their folders, and let the object test itself.

        A future simulation that fails does not keep the object down: `versions` then goes without it.

        Raises:
            Exception: what the author's code raised.
        """
        own = self._plan.release
        release = self._releases[own.version]
        instance = release.resolve(own.object)(self._node(own.version, stage.state))
        await _call_if_there(instance, "start")
        links = [Link(version=own.version, role="current", instance=instance)]
        if own.past and stage.past:
            version = Version(own.version - 1)
            past: Simulation = release.resolve(own.past)(self._node(version, stage.past), instance)
            await past.start()
            links.insert(0, Link(version=version, role="past", instance=past))
        await _call_if_there(instance, "self_test")
        self._show(Chain(tuple(links)))
        if stage.future:
            try:
                await self.install(stage.future)
            except Exception:
                logger.exception(
                    "version %s is not answered: it could not be installed again", stage.future.release.version
                )

    async def install(self, future: Future) -> float:
        """Have a newer version's calls answered from now on, disturbing no call in flight.

        Returns:
            How long it took, in milliseconds; 0 if it was installed already.

        Raises:
            ReleaseError, Exception: the release does not import or its simulation does not start; the
                chain is as it was.
        """
        before = self._chain
        assert before is not None, "a future simulation needs an object to delegate to"
        version = future.release.version
        if any(link.version == version for link in before.links):
            return 0.0
        began = time.perf_counter()
        # A large release takes long to import, and calls go on meanwhile: hence a thread.
        make = await asyncio.to_thread(self._load_future, future.release)
        Path(future.state).mkdir(parents=True, exist_ok=True)
        simulation = make(self._node(version, future.state), before.links[-1].instance)
        link = Link(version=version, role="future", instance=simulation, ready=False)
        try:
            # It observes before it starts, so that no call falls between what it reads and what it is told.
            self._show(Chain((*before.links, link)))
            await simulation.start()
            self._show(Chain((*before.links, replace(link, ready=True))))
        except BaseException:
            self._show(before)
            await _stop_quietly(simulation)
            raise
        return (time.perf_counter() - began) * 1000

    async def close(self) -> None:
        """Close the simulations, which delegate to the object, before the object."""
        if self._chain is None:
            return
        for link in sorted(self._chain.links, key=lambda link: link.role == "current"):
            await _call_if_there(link.instance, "stop")

    def _load(self, plan: ReleasePlan) -> LoadedRelease:
        if plan.version not in self._releases:
            previous = self._releases.get(Version(plan.version - 1))
            self._releases[plan.version] = LoadedRelease(Path(plan.folder), plan.version, previous=previous)
        return self._releases[plan.version]

    def _load_future(self, plan: ReleasePlan) -> Callable[[Node, object], Simulation]:
        if plan.future is None:
            raise ReleaseError(f"release {plan.version} names no future simulation: add `future` to its release.toml")
        make: Callable[[Node, object], Simulation] = self._load(plan).resolve(plan.future)
        return make

    def _node(self, version: Version, state: str) -> Node:
        Path(state).mkdir(parents=True, exist_ok=True)
        plan = self._plan

        label = label_source(version, self._newest, NodeId(plan.node_id))

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
