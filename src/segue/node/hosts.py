"""The agent's view of the application's processes: start one, find one again, ask it, see it end."""

import asyncio
import json
import logging
import os
import signal
import sys
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from segue.errors import PeerError
from segue.model.ids import Version
from segue.node.control import AuthorCodeError, HostFaultError, ask, peer_pid
from segue.node.ending import ended
from segue.node.plan import Carry, Future, HostPhase, HostPlan, ReleasePlan, Stage

logger = logging.getLogger(__name__)

#: Until a new process listens for the agent; Python itself takes most of it on a busy machine.
READY_TIMEOUT_S = 60.0
#: For answers that need no work of the author's code.
ANSWER_TIMEOUT_S = 30.0
#: To end gracefully; then it is killed.
END_TIMEOUT_S = 15.0
#: For imports, and for starts of objects and simulations, which may read all their state.
START_TIMEOUT_S = 600.0


class HostProcess:
    """One process of the application, whether this agent started it or found it.

    Args:
        generation: its number among the node's processes.
        control: its control socket.
        pid: its process id.

    Raises:
        ProcessLookupError: there is no such process.
    """

    def __init__(self, *, generation: int, control: Path, pid: int) -> None:
        self.generation = generation
        self.pid = pid
        self._control = control
        #: What it was at its last answer, so that it is not asked for what it has done: that would take a part of the
        #: pause. None while it is asked, and where it did not answer.
        self._phase: HostPhase | None = None
        # Unlike its id, this is never another process's (pidfd_open(2)).
        self._descriptor = os.pidfd_open(pid)
        weakref.finalize(self, os.close, self._descriptor)

    async def warm(self, futures: Sequence[ReleasePlan] = ()) -> None:
        """Have it import its releases, and those of the futures that it will be told to start.

        Raises (this and what follows, as `control.ask`):
            AuthorCodeError: the release's code failed in it.
            PeerError: it could not for another reason, is gone, or did not answer in time.
        """
        if self._phase in (None, HostPhase.COLD):
            await self._ask_step("warm", START_TIMEOUT_S, futures=[asdict(future) for future in futures])

    async def start(self, stage: Stage) -> None:
        """Have it start its object and simulations."""
        if self._phase not in (HostPhase.STARTED, HostPhase.SERVING):
            await self._ask_step("start", START_TIMEOUT_S, stage=stage.to_json())

    async def serve(self, *, replacing: bool = False) -> None:
        """Have it answer calls.

        Args:
            replacing: whether a process that serves is about to be told to leave. Where ports cannot pass between two
                processes, this one then waits with them until it is told to serve once more, without this.
        """
        await self._ask_step("serve", ANSWER_TIMEOUT_S, replacing=replacing)

    async def install(self, future: Future) -> float:
        """Have it answer a newer version, and return the milliseconds that took; if it fails, all is as before."""
        match future:
            case Carry(version=version):
                answer = await self._ask("carry", START_TIMEOUT_S, version=version)
            case _:
                answer = await self._ask("install", START_TIMEOUT_S, release=asdict(future))
        return float(answer["took_ms"])

    async def retire(self, oldest: Version, timeout_s: float) -> None:
        """Have it answer no version below `oldest` any more; calls inside have `timeout_s` seconds to end."""
        await self._ask("retire", timeout_s + ANSWER_TIMEOUT_S, oldest=oldest, timeout_s=timeout_s)

    async def quiesce(self, timeout_s: float, streams_s: float = 0.0, successor: Path | None = None) -> float:
        """Have it go quiet, and return for how many milliseconds calls wait already.

        Args:
            timeout_s: seconds that calls have to end.
            streams_s: seconds that streams have before that.
            successor: what `leave` will name, if it is known and listens.
        """
        wait_s = timeout_s + streams_s + ANSWER_TIMEOUT_S
        name = None if successor is None else str(successor)
        answer = await self._ask_step("quiesce", wait_s, timeout_s=timeout_s, streams_s=streams_s, successor=name)
        return float(answer["waits_ms"])

    async def leave(self, successor: Path, *, at_once: bool = False) -> None:
        """Have it forward its calls to the process at `successor`, and end with its last connection.

        Args:
            successor: that process's socket for such calls.
            at_once: whether that process waits for the ports.
        """
        await self._ask_step("leave", ANSWER_TIMEOUT_S, successor=str(successor), at_once=at_once)

    async def claims(self, known: int) -> int:
        """Wait until callers claimed a newer version more than `known` times, and return how often they did."""
        answer = await self._ask("claims", None, known=known)
        return int(answer["claims"])

    async def report(self, acknowledged: int = 0, rows: int = 0) -> dict[str, Any]:
        """Return its phase, the versions that it answers, its facts, and counts if `rows` of them are wanted.

        Args:
            acknowledged: the number of the last batch of counts that reached the upgrade server.
            rows: counts at most.
        """
        return await self._ask("report", ANSWER_TIMEOUT_S, acknowledged=acknowledged, rows=rows)

    async def objection(self, version: Version, code: str, fleet: dict[str, Any] | None = None) -> str | None:
        """Return why the node should not go to `version` now; None if it may.

        Args:
            version: a release whose future simulation it has installed.
            code: the release's predicate, or its own function, `module:function`.
            fleet: what the function sees, as `FleetView.from_json` takes it; None for a predicate.
        """
        answer = await self._ask("objection", ANSWER_TIMEOUT_S, version=version, code=code, fleet=fleet)
        text: str | None = answer["text"]
        return text

    async def answers(self) -> frozenset[Version]:
        """Return the versions whose calls it answers."""
        return frozenset((await self.report())["answers"])

    async def ended(self) -> None:
        """Return when the process is gone."""
        await ended(self._descriptor)

    async def end(self) -> None:
        """End it, gracefully if it answers, and return when it is gone."""
        try:
            async with asyncio.timeout(END_TIMEOUT_S):
                await self._ask("stop", None)
                await self.ended()
        except (TimeoutError, PeerError, AuthorCodeError) as error:
            logger.warning("process %s of the application is killed, as it does not end: %s", self.pid, error)
            self.kill()
            await self.ended()

    def kill(self) -> None:
        """Kill it, with the calls that are inside; one that is gone is left alone."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def __repr__(self) -> str:
        return f"HostProcess(generation={self.generation}, pid={self.pid})"

    async def _ask_step(self, question: str, wait_s: float | None, **arguments: Any) -> dict[str, Any]:
        """Ask for a step, and remember where it led."""
        self._phase = None
        answer = await self._ask(question, wait_s, **arguments)
        self._phase = HostPhase(answer["phase"])
        return answer

    async def _ask(self, question: str, wait_s: float | None, **arguments: Any) -> dict[str, Any]:
        return await ask(self._control, question, wait_s=wait_s, **arguments)


class Hosts:
    """Starts processes of the application and reaps them.

    Args:
        tasks: where the waiting for their ends lives.
    """

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self._tasks = tasks

    async def spawn(self, plan: HostPlan, generation: int) -> HostProcess:
        """Start a process and return it, listening for the agent but with nothing imported.

        Args:
            plan: what it is told.
            generation: its number; its control socket goes by it.

        Raises:
            HostFaultError: it ended before it was ready, or was not ready in time; its log says why.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "segue.node.host",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        self._tasks.create_task(_reap(process))
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                process.stdin.write(json.dumps(plan.to_json()).encode())
                await process.stdin.drain()
                process.stdin.close()
                ready = await process.stdout.readline()
        except (TimeoutError, OSError):
            ready = b""
        except BaseException:
            _kill(process)  # nobody would know of it
            raise
        if ready != b"ready\n":
            _kill(process)
            raise HostFaultError("the application's process did not come up; its log says why")
        try:
            return HostProcess(generation=generation, control=Path(plan.control), pid=process.pid)
        except ProcessLookupError:
            raise HostFaultError("the application's process ended as soon as it had come up") from None

    def find(self, run: Path) -> list[HostProcess]:
        """Return the processes that an earlier agent left, however busy they are, oldest first.

        Args:
            run: the folder of the node's sockets.
        """
        found = []
        controls = {int(path.stem): path for path in run.glob("*.control") if path.stem.isdecimal()}
        for generation, control in sorted(controls.items()):
            pid = peer_pid(control)
            if pid is not None:
                with suppress(ProcessLookupError):
                    found.append(HostProcess(generation=generation, control=control, pid=pid))
        return found


def _kill(process: asyncio.subprocess.Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()


async def _reap(process: asyncio.subprocess.Process) -> None:
    """Wait for the process's end, so that it does not stay as a zombie."""
    status = await process.wait()
    if status:
        logger.warning("process %s of the application ended with status %s", process.pid, status)
    else:
        logger.info("process %s of the application has left", process.pid)
