"""The application's process: it loads a release, runs the node's object, and serves its port.

Started by the agent as `python -m segue.node.host`, with a `HostPlan` as JSON on standard input; it
writes `ready` on standard output when its control socket listens, and is then told what to do there.
Every question may be asked twice, since the agent repeats the last one after a crash.
"""

import asyncio
import json
import logging
import os
import signal
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

import grpc.aio

from segue.author import Node, Simulation
from segue.errors import ReleaseError
from segue.layer.chain import Chain, Link
from segue.layer.grpc_channel import LabelledChannel
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest, label_source
from segue.layer.usage import Usage
from segue.model.address import split_address
from segue.model.ids import ClassName, NodeId, SystemName, Version
from segue.node import handover
from segue.node.control import listen
from segue.node.plan import Future, HostPlan, ReleasePlan, Stage, future_from_json
from segue.release.modules import LoadedRelease

logger = logging.getLogger(__name__)

#: How often a process that was replaced looks whether its last connection has gone.
_LEAVING_LOOK_S = 0.1
#: How long calls may go on when the node is told to stop for good.
_STOP_GRACE_S = 5.0


class Phase(StrEnum):
    """Where this process is on its way from warm to gone."""

    COLD = "cold"
    WARM = "warm"
    STARTED = "started"
    SERVING = "serving"
    QUIET = "quiet"
    LEAVING = "leaving"


class Host:
    """One process's release, object, simulations and port.

    Args:
        plan: what the agent wants of this process.
    """

    def __init__(self, plan: HostPlan) -> None:
        self.plan = plan
        self.phase = Phase.COLD
        self.incarnation = uuid.uuid4().hex
        self.gone = asyncio.Event()
        self._newer = asyncio.Event()
        self._facts: dict[str, float] = {}
        self._usage = Usage()
        self._newest = Newest(plan.release.version)
        self._heard = plan.release.version
        self._dispatch = Dispatch(usage=self._usage, newest=self._newest, on_newer=self._hear)
        self._releases: dict[Version, LoadedRelease] = {}
        self._chain: Chain | None = None
        self._server: grpc.aio.Server | None = None
        self._successor: grpc.aio.Channel | None = None

    async def answer(self, question: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Do what the agent asks; raise what went wrong.

        Args:
            question: one of the names below.
            arguments: as the question needs them.
        """
        match question:
            case "warm":
                self.warm()
            case "start":
                await self.start(Stage.from_json(arguments["stage"]))
            case "serve":
                await self.serve()
            case "install":
                return {"took_ms": await self.install(future_from_json(arguments["future"]))}
            case "quiesce":
                await self.quiesce(arguments["timeout_s"])
            case "leave":
                self.leave(Path(arguments["successor"]))
            case "stop":
                await self.stop()
            case "newer":
                return {"version": await self.newer(Version(arguments["known"]))}
            case "report":
                return self.report()
            case _:
                raise AssertionError(f"no answer to {question!r}")
        return {"pid": os.getpid(), "phase": self.phase}

    def warm(self) -> None:
        """Import the release, and the one before it, so that nothing is left to import in the pause.

        Raises:
            ReleaseError: the release does not import, or a name in its manifest is not there.
        """
        if self.phase is not Phase.COLD:
            return
        if self.plan.previous:
            self._load(self.plan.previous)
        release = self._load(self.plan.release)
        release.resolve(self.plan.release.object)
        if self.plan.release.past:
            release.resolve(self.plan.release.past)
        self.phase = Phase.WARM

    async def start(self, stage: Stage) -> None:
        """Make the object and its simulations on their folders, and let the object test itself.

        Raises:
            ReleaseError: `self_test` said no.
            Exception: what the author's code raised.
        """
        if self.phase not in (Phase.WARM, Phase.QUIET):
            return
        release = self._releases[self.plan.release.version]
        node = self._node(self.plan.release.version, stage.state)
        instance = release.resolve(self.plan.release.object)(node)
        await _call_if_there(instance, "start")
        links = [Link(version=self.plan.release.version, role="current", instance=instance)]
        if self.plan.release.past and stage.past:
            version = Version(self.plan.release.version - 1)
            past: Simulation = release.resolve(self.plan.release.past)(self._node(version, stage.past), instance)
            await past.start()
            links.insert(0, Link(version=version, role="past", instance=past))
        await _call_if_there(instance, "self_test")
        self._show(Chain(tuple(links)))
        if stage.future:
            await self.install(stage.future)
        if self.phase is Phase.WARM:
            self.phase = Phase.STARTED

    async def serve(self) -> None:
        """Answer calls: take the port, or, if this process has it already, let the parked calls go on."""
        if self._server is None:
            server = grpc.aio.server(
                options=(
                    ("grpc.so_reuseport", 1),
                    ("grpc.max_connection_age_ms", int(self.plan.max_connection_age_s * 1000)),
                )
            )
            server.add_generic_rpc_handlers((self._dispatch,))
            server.add_insecure_port(f"unix:{self.plan.peer}")
            server.add_insecure_port(self.plan.address)
            await server.start()
            self._server = server
            handover.steer_to_newest(self._port)
        self._dispatch.resume()
        self.phase = Phase.SERVING

    async def install(self, future: Future) -> float:
        """Answer a newer version's calls from now on, disturbing no call in flight.

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
        release = await asyncio.to_thread(self._load, future.release)
        if future.release.future is None:
            raise ReleaseError(f"release {version} names no future simulation: add `future` to its release.toml")
        make = release.resolve(future.release.future)
        Path(future.state).mkdir(parents=True, exist_ok=True)
        simulation: Simulation = make(self._node(version, future.state), before.links[-1].instance)
        link = Link(version=version, role="future", instance=simulation, ready=False)
        try:
            # It observes before it starts, so that no call falls between what it reads and what it is told.
            self._show(Chain((*before.links, link)))
            await simulation.start()
            self._show(Chain((*before.links, replace(link, ready=True))))
        except BaseException:
            self._show(before)
            raise
        return (time.perf_counter() - began) * 1000

    async def quiesce(self, timeout_s: float) -> None:
        """Let calls inside end, park those that come, and close the object and its simulations.

        Raises:
            TimeoutError: calls inside did not end; the object is still open, and `serve` puts it back.
        """
        if self.phase is not Phase.SERVING:
            return
        await self._dispatch.quiesce(timeout_s)
        assert self._chain is not None
        await self._close_objects()
        self.phase = Phase.QUIET

    def leave(self, successor: Path) -> None:
        """Forward every call to the process at `successor`, and end when the last connection has."""
        if self.phase is Phase.LEAVING:
            return
        self._successor = grpc.aio.insecure_channel(
            f"unix:{successor}",
            options=(("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)),
        )
        self._dispatch.forward(self._successor)
        self.phase = Phase.LEAVING
        asyncio.get_running_loop().call_later(_LEAVING_LOOK_S, self._look_whether_gone)

    async def stop(self) -> None:
        """End for good: no new calls, those inside get a few seconds, the object is closed."""
        if self._server:
            await self._server.stop(_STOP_GRACE_S)
        if self._successor:
            await self._successor.close()
        if self.phase in (Phase.STARTED, Phase.SERVING):
            await self._close_objects()
        self.gone.set()

    async def newer(self, known: Version) -> Version:
        """Return the newest version that a caller's label named, as soon as it is newer than `known`."""
        while self._heard <= known:
            self._newer.clear()
            await self._newer.wait()
        return self._heard

    def report(self) -> dict[str, Any]:
        """Return what the agent tells the upgrade server: calls counted so far, the object's facts."""
        calls = [{**asdict(key), "count": count} for key, count in self._usage.counts().items()]
        return {
            "pid": os.getpid(),
            "phase": self.phase,
            "incarnation": self.incarnation,
            "node_version": self.plan.release.version,
            "calls": calls,
            "facts": dict(self._facts),
        }

    def keep_usage(self) -> None:
        """Leave the last counts of calls on disk for the agent: whole, or not at all."""
        path = Path(self.plan.usage) / f"{self.incarnation}.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(self.report()))
        partial.rename(path)

    @property
    def _port(self) -> int:
        return split_address(self.plan.address)[1]

    def _load(self, plan: ReleasePlan) -> LoadedRelease:
        if plan.version not in self._releases:
            release = LoadedRelease(
                Path(plan.folder), plan.version, previous=self._releases.get(Version(plan.version - 1))
            )
            if plan.future:
                release.resolve(plan.future)
            self._releases[plan.version] = release
        return self._releases[plan.version]

    def _node(self, version: Version, state: str) -> Node:
        Path(state).mkdir(parents=True, exist_ok=True)
        plan = self.plan

        label = label_source(version, self._newest, NodeId(plan.node_id))

        def open_channel(target: str) -> grpc.aio.Channel:
            return LabelledChannel(grpc.aio.insecure_channel(target), label)

        return Node(
            system=SystemName(plan.system),
            class_name=ClassName(plan.class_name),
            id=NodeId(plan.node_id),
            version=version,
            state=Path(state),
            address=plan.address,
            attributes=plan.attributes,
            config=plan.config,
            open_channel=open_channel,
            take_report=self._take_report,
        )

    def _take_report(self, facts: Mapping[str, float]) -> None:
        self._facts.update(facts)

    def _hear(self, version: Version) -> None:
        self._heard = max(self._heard, version)
        self._newer.set()

    def _show(self, chain: Chain) -> None:
        self._dispatch.show(chain)
        self._chain = chain

    async def _close_objects(self) -> None:
        """Close the simulations, which delegate to the object, before the object."""
        assert self._chain is not None
        for link in sorted(self._chain.links, key=lambda link: link.role == "current"):
            await _call_if_there(link.instance, "stop")

    def _look_whether_gone(self) -> None:
        calls = self._dispatch.in_flight
        if handover.connections(self._port) == 0 and calls.parked == 0 and calls.forwarded == 0:
            self.gone.set()
        else:
            asyncio.get_running_loop().call_later(_LEAVING_LOOK_S, self._look_whether_gone)


async def _call_if_there(instance: object, name: str) -> None:
    method = getattr(instance, name, None)
    if method is not None:
        await method()


async def run(plan: HostPlan) -> None:
    """Be the process that `plan` describes, until it has left or is told to stop."""
    host = Host(plan)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, host.gone.set)
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # Ctrl-C reaches the agent too, and the agent decides
    control = await listen(Path(plan.control), host.answer)
    print("ready", flush=True)
    # From now on nobody reads our standard output: what the author's code prints goes where logs go.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    await host.gone.wait()
    await host.stop()
    host.keep_usage()
    control.close()


def main() -> None:
    """Run the process that standard input describes."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    plan = HostPlan.from_json(json.load(sys.stdin))
    asyncio.run(run(plan))


if __name__ == "__main__":
    main()
