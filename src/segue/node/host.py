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
import uuid
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Any

import grpc.aio

from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest
from segue.layer.usage import Usage
from segue.model.address import split_address
from segue.model.ids import Version
from segue.node import handover
from segue.node.control import listen
from segue.node.objects import Objects
from segue.node.plan import HostPlan, Stage, future_from_json

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
        self._heard = plan.release.version
        self._usage = Usage()
        newest = Newest(plan.release.version)
        self._dispatch = Dispatch(usage=self._usage, newest=newest, on_newer=self._hear)
        self._objects = Objects(plan, self._dispatch, newest)
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
                return {"took_ms": await self._objects.install(future_from_json(arguments["future"]))}
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
        """Import all there is to import, so that nothing is left for the pause.

        Raises:
            ReleaseError: the release does not import, or a name in its manifest is not there.
        """
        if self.phase is Phase.COLD:
            self._objects.load()
            self.phase = Phase.WARM

    async def start(self, stage: Stage) -> None:
        """Make the object and its simulations on their folders; what the author's code raises is raised."""
        if self.phase in (Phase.WARM, Phase.QUIET):
            await self._objects.start(stage)
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

    async def quiesce(self, timeout_s: float) -> None:
        """Let calls inside end, park those that come, and close the object and its simulations.

        Raises:
            TimeoutError: calls inside did not end; the object is still open, and `serve` puts it back.
        """
        if self.phase is not Phase.SERVING:
            return
        await self._dispatch.quiesce(timeout_s)
        await self._objects.close()
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
            await self._objects.close()
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
            "facts": dict(self._objects.facts),
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

    def _hear(self, version: Version) -> None:
        self._heard = max(self._heard, version)
        self._newer.set()

    def _look_whether_gone(self) -> None:
        calls = self._dispatch.in_flight
        if handover.connections(self._port) == 0 and calls.parked == 0 and calls.forwarded == 0:
            self.gone.set()
        else:
            asyncio.get_running_loop().call_later(_LEAVING_LOOK_S, self._look_whether_gone)


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
