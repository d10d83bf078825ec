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
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from segue.errors import PeerError
from segue.layer.grpc_health import Health
from segue.layer.grpc_server import Dispatch
from segue.layer.label import Newest, unlabelled_default
from segue.layer.parked import ParkLimits
from segue.layer.usage import Unreported, Usage
from segue.model.ids import NodeId, Version
from segue.model.usage import CallCounts
from segue.model.view import FleetView
from segue.node.control import holding, listen
from segue.node.leaving import Leaving
from segue.node.listening import Listening
from segue.node.logs import LogSettings, set_up, take_prints
from segue.node.objects import Objects
from segue.node.plan import Carry, Future, HostPhase, HostPlan, ReleasePlan, Stage
from segue.release.durable import sync_path

logger = logging.getLogger(__name__)

#: How long calls may go on when the node is told to stop for good.
_STOP_GRACE_S = 5.0
#: For a future simulation to be installed: less than the agent waits, so that it hears how that went.
_INSTALL_S = 300.0
#: For all that a process does when it is told to end by a signal.
_END_S = 10.0
#: For gates to close before the first call: nothing is inside.
_NO_CALLS_S = 5.0


class Host:
    """One process's release, object, simulations and port.

    Args:
        plan: what the agent wants of this process.
        tasks: where the waiting for the last connection lives.
    """

    def __init__(self, plan: HostPlan, tasks: asyncio.TaskGroup) -> None:
        self.phase = HostPhase.COLD
        self.gone = asyncio.Event()
        self._plan = plan
        #: Whether the last start or close of the object failed: it may have its state open, in part.
        self._half_open = False
        self._incarnation = uuid.uuid4().hex
        #: One step at a time: a question that is asked again waits until the first asking has been answered.
        self._step = asyncio.Lock()
        self._claims = 0
        self._claimed = asyncio.Event()
        self._usage = Usage()
        self._unreported = Unreported(self._usage)
        newest = Newest(plan.own.version)
        self._dispatch = Dispatch(
            usage=self._usage,
            newest=newest,
            on_newer=self._hear,
            default=unlabelled_default(plan.unlabelled),
            parking=ParkLimits(wait_s=plan.park_limit_s, calls=plan.park_calls, request_bytes=plan.park_bytes),
            node=NodeId(plan.node_id),
        )
        self._objects = Objects(plan, self._dispatch, newest)
        self._listening = Listening(self._dispatch, plan)
        self._health = Health(self._dispatch)
        self._leaving = Leaving(
            dispatch=self._dispatch, listening=self._listening, plan=plan, tasks=tasks, gone=self.gone
        )

    async def answer(self, question: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Do what the agent asks; raise what went wrong.

        Args:
            question: one of the names below.
            arguments: as the question needs them.
        """
        if question == "claims":
            return {"claims": await self.claims(arguments["known"])}
        if question == "report":
            return self.report(**arguments)
        if question == "objection":
            seen = arguments.get("fleet")
            fleet = FleetView.from_json(seen) if seen is not None else None
            return {"text": await self._objects.objection(Version(arguments["version"]), arguments["code"], fleet)}
        async with self._step:
            if self.phase is HostPhase.ENDING and question != "stop":
                raise PeerError("the application's process is ending")
            match question:
                case "warm":
                    await self.warm([ReleasePlan.from_json(release) for release in arguments["futures"]])
                case "start":
                    await self.start(Stage.from_json(arguments["stage"]))
                case "serve":
                    await self.serve(**arguments)
                case "install":
                    return await self.install(ReleasePlan.from_json(arguments["release"]))
                case "carry":
                    return await self.install(Carry(version=Version(arguments["version"])))
                case "retire":
                    await self._objects.retire(Version(arguments["oldest"]), arguments["timeout_s"])
                case "quiesce":
                    went_quiet = await self.quiesce(**arguments)
                    return self._where() | went_quiet
                case "leave":
                    await self.leave(Path(arguments["successor"]), at_once=arguments.get("at_once", False))
                case "stop":
                    await self.stop()
                case _:
                    raise AssertionError(f"no answer to {question!r}")
        return self._where()

    def _where(self) -> dict[str, Any]:
        return {"pid": os.getpid(), "phase": self.phase}

    async def warm(self, futures: Sequence[ReleasePlan]) -> None:
        """Import all there is to import, and listen for relayed calls, so that nothing is left for the pause.

        Args:
            futures: what `start` will be told to install.

        Raises:
            ReleaseError: the release does not import, or a name in its manifest is not there.
            PeerError: relayed calls cannot come here.
        """
        if self.phase is HostPhase.COLD:
            self._objects.load(futures)
            # Whoever is too early waits until it is certain that this process, and no other, has the port.
            await self._dispatch.quiesce(_NO_CALLS_S)
            try:
                await self._listening.prepare()
            except OSError as error:
                raise PeerError(f"no calls can be relayed here: {error}") from error
            self.phase = HostPhase.WARM

    async def start(self, stage: Stage) -> None:
        """Make the object and its simulations on their folders; what the author's code raises is raised.

        A process that leaves comes back: calls wait here again, until `serve`. That loses nothing only if its
        successor has answered no call.

        Raises:
            PeerError: it is too late, the process is ending; or the object did not start when it was told to before.
            Exception: what the author's code raised.
        """
        if self.phase is HostPhase.WARM and self._half_open:
            # An agent that died meanwhile is followed by one that asks again: two objects would be on one folder.
            raise PeerError("the object did not start when it was told to before: only another process can start it")
        if self.phase is HostPhase.LEAVING:
            self._leaving.come_back()
            self.phase = HostPhase.QUIET
        if self.phase in (HostPhase.WARM, HostPhase.QUIET):
            self._half_open = True
            await self._objects.start(stage)
            self._half_open = False
            self.phase = HostPhase.STARTED

    async def serve(self, replacing: bool = False) -> None:
        """Answer calls: take the addresses, or, if this process has them already, let the parked calls go on.

        Args:
            replacing: whether a process that serves is about to leave. Where ports cannot pass between two, this one
                waits with them until it is asked again, with False.

        Raises:
            PeerError: an address is not to be had, or the kernel cannot steer to it; no call was answered. Or the
                process leaves, and was not started again.
        """
        if self.phase is HostPhase.LEAVING:
            raise PeerError("the application's process leaves, and its object is closed: start it first")
        try:
            await self._listening.take(replacing=replacing)
        except OSError as error:
            raise PeerError(f"the port cannot be taken: {error}") from error
        self._let_calls_in()
        self.phase = HostPhase.SERVING

    def _let_calls_in(self) -> None:
        """Let calls in; the first ever waits until it is on disk that there is no way back to the state before."""
        if self._plan.answered is None or Path(self._plan.answered).exists():
            self._dispatch.resume()
        else:
            self._dispatch.stand_by(self._let_the_first_in)

    def _let_the_first_in(self) -> None:
        assert self._plan.answered is not None, self._plan
        word = Path(self._plan.answered)
        word.touch()
        sync_path(word)
        sync_path(word.parent)
        self._dispatch.resume()

    async def install(self, future: Future) -> dict[str, Any]:
        """Have a newer version's calls answered, and say how long that took; if it fails, all is as before."""
        async with asyncio.timeout(_INSTALL_S):
            return {"took_ms": await self._objects.answer(future)}

    async def quiesce(self, timeout_s: float, streams_s: float = 0.0, successor: str | None = None) -> dict[str, Any]:
        """Let calls inside end, park those that come, and close the object and its simulations.

        Args:
            timeout_s: seconds that unary calls have to end.
            streams_s: seconds that streams have to end before that, by themselves; then they are ended.
            successor: the socket of the process that `leave` will name, if it listens there: the connection to it is
                made while the state is transformed.

        Returns:
            For how many milliseconds calls wait, as `waits_ms`.

        Raises:
            TimeoutError: calls inside did not end; the object is still open, and `serve` puts it back.
            PeerError: the object did not close when it was told to before; `start` and `serve` put the node back.
            Exception: what the author's code raised; `start` and `serve` put the node back.
        """
        since = now = asyncio.get_running_loop().time()
        if self.phase is HostPhase.SERVING:
            since = await self._dispatch.quiesce(timeout_s, streams_s=streams_s)
            self.phase, self._half_open = HostPhase.QUIET, True
            await self._objects.close()
            self._half_open = False
            if successor is not None:
                self._leaving.prepare(Path(successor))
            now = asyncio.get_running_loop().time()
        elif self._half_open:  # who asks again, as an agent that died did not hear of it, is not told that all is well
            raise PeerError("the object did not close when it was told to before: it may still write its state")
        return {"waits_ms": (now - since) * 1000}

    async def leave(self, successor: Path, *, at_once: bool = False) -> None:
        """Forward every call to the process at `successor`, and end when the last connection has.

        Args:
            successor: its socket for such calls.
            at_once: whether it waits for the ports; they are free then when this returns.
        """
        self.phase = HostPhase.LEAVING
        await self._leaving.to(successor, at_once=at_once)

    async def stop(self) -> None:
        """End for good: no new calls, those inside get a few seconds, the object is closed."""
        if self.phase is HostPhase.ENDING:
            return
        objects_are_open = self.phase in (HostPhase.STARTED, HostPhase.SERVING)
        self.phase = HostPhase.ENDING
        self._health.stop()
        try:
            await self._listening.stop(_STOP_GRACE_S)
            await self._leaving.stop()
            if objects_are_open:
                await self._objects.close()
        finally:
            self.keep_usage()
            self.gone.set()

    async def claims(self, known: int) -> int:
        """Return how often callers claimed a newer version, as soon as that is more than `known`."""
        while self._claims <= known:
            self._claimed.clear()
            await self._claimed.wait()
        return self._claims

    def report(self, acknowledged: int = 0, rows: int = 0) -> dict[str, Any]:
        """Return what the agent wants to know: the object's facts, versions answered, counts of calls.

        Args:
            acknowledged: the number of the last batch of counts that reached the upgrade server.
            rows: counts at most; with 0 nothing is offered, and nothing acknowledged.
        """
        report = {
            "pid": os.getpid(),
            "phase": self.phase,
            "answers": self._objects.versions,
            "facts": dict(self._objects.facts),
            "in_flight": asdict(self._dispatch.in_flight),
        }
        if not rows:
            return report
        batch = self._unreported.take(acknowledged, rows)
        return report | self._calls(batch.counts) | {"batch": batch.number, "more": batch.more}

    def _calls(self, counts: CallCounts) -> dict[str, Any]:
        calls = [{**asdict(key), "count": count} for key, count in counts.items()]
        return {"incarnation": self._incarnation, "calls": calls}

    def keep_usage(self) -> None:
        """Leave the counts that were not acknowledged on disk for the agent: whole, or not at all."""
        path = Path(self._plan.usage) / f"{self._incarnation}.json"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(self.report() | self._calls(self._unreported.rest())))
        sync_path(partial)
        partial.rename(path)
        sync_path(path.parent)

    def _hear(self, _claimed: Version) -> None:
        self._claims += 1
        self._claimed.set()


async def run(plan: HostPlan) -> None:
    """Be the process that `plan` describes, until it has left or is told to stop."""
    async with holding(Path(plan.control)), asyncio.TaskGroup() as tasks:
        host = Host(plan, tasks)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, host.gone.set)
        for number in (signal.SIGINT, signal.SIGHUP):  # a terminal sends them to the agent too, and the agent decides
            loop.add_signal_handler(number, lambda: None)
        control = await listen(Path(plan.control), host.answer)
        print("ready", flush=True)
        # From now on nobody reads our standard output: what the author's code prints goes where logs go.
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        take_prints(LogSettings.of_environment())
        await host.gone.wait()
        try:
            async with asyncio.timeout(_END_S):  # whatever step is under way has so long to end
                await host.answer("stop", {})
        except TimeoutError:
            host.keep_usage()
        finally:
            control.close()


def main() -> None:
    """Run the process that standard input describes."""
    set_up(LogSettings.of_environment(), "application")
    plan = HostPlan.from_json(json.load(sys.stdin))
    asyncio.run(run(plan))


if __name__ == "__main__":
    main()
