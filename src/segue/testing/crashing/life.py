"""One life of an agent on trial: the real agent, which kills at its points and leaves notes of it."""

import asyncio
import hashlib
import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from segue import journey
from segue.journey import Phase
from segue.model.clock import SystemClock
from segue.node import processes as node_processes
from segue.node.agent import run_agent
from segue.node.execute import Executor
from segue.node.journal import Journal
from segue.node.settings import NodeSettings
from segue.testing.crashing import processes
from segue.testing.crashing.points import Moment, Point, Step, Victim, is_next, read_journal, steps_of

#: Between two looks for a victim that is not there yet.
_LOOK_S = 0.002
_LOOK_ON_S = 0.02
#: Until a process of the application is started again, at most: many are killed in a row.
_WAIT_LIMIT_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What an agent on trial is told.

    Attributes:
        trial: the folder of the trial; the node's state is in its `state`, the notes are in its `notes.jsonl`.
        settings: of the node, as keyword arguments of `NodeSettings`.
        points: where to kill, each once in the trial.
        delays_s: `{point: seconds from when the victim is there}`, of those that are to fall into a command.
        looks: True to note at every moment who could be killed there.
    """

    trial: Path
    settings: Mapping[str, Any]
    points: tuple[Point, ...] = ()
    delays_s: Mapping[str, float] = field(default_factory=dict)
    looks: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return {
            "trial": str(self.trial),
            "settings": dict(self.settings),
            "points": [str(point) for point in self.points],
            "delays_s": dict(self.delays_s),
            "looks": self.looks,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Order":
        """Return the order that `to_json` was asked for."""
        points = tuple(Point.parse(text) for text in data["points"])
        return cls(**{**data, "trial": Path(data["trial"]), "points": points})


class Notes:
    """What the lives of a trial leave for whoever looks at it: lines of JSON in one file.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, **note: Any) -> None:
        """Add a note in one write, so that no crash leaves half of one."""
        with self._path.open("ab", buffering=0) as file:
            file.write(json.dumps(note).encode() + b"\n")

    def read(self, kind: str) -> list[dict[str, Any]]:
        """Return the notes that have an entry `kind`, oldest first."""
        if not self._path.exists():
            return []
        notes = [json.loads(line) for line in self._path.read_bytes().splitlines()]
        return [note for note in notes if kind in note]


def digest_of(folder: Path) -> str:
    """Return a hash of all names and contents below `folder`."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        content = path.read_bytes() if path.is_file() else b""
        found.update(f"{path.relative_to(folder)}\0{len(content)}\0".encode() + content)
    return found.hexdigest()


class _Crashes:
    """Kills at the points of one order."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._notes = Notes(order.trial / "notes.jsonl")
        fired = {note["crash"] for note in self._notes.read("crash")}
        self._armed = [point for point in order.points if str(point) not in fired]
        self._state = order.trial / "state"
        self._firing = threading.Lock()

    def done(self) -> list[Step]:
        """Return the steps that are in the journal."""
        return steps_of(read_journal(self._state / "journal.jsonl"))

    def reached(self, moment: Moment, phase: Phase, event: str | None, done: list[Step]) -> None:
        """Kill, if a point is armed for this moment of the step that comes after `done`."""
        if self._order.looks:
            self._look(moment, done)
        for point in self._at(moment, phase, event, done):
            self._fire(point)

    @contextmanager
    def within(self, phase: Phase, done: list[Step]) -> Iterator[None]:
        """Kill at some moment of the context, if a point is armed there; in a thread, since commands may block."""
        ended = threading.Event()
        points = list(self._at(Moment.DURING, phase, None, done))
        threads = [threading.Thread(target=self._wait, args=(point, ended), daemon=True) for point in points]
        if self._order.looks:
            threads.append(threading.Thread(target=self._look_on, args=(done, ended), daemon=True))
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join()

    def _wait(self, point: Point, ended: threading.Event) -> None:
        """Fire when the victim has been there for the point's delay, and at the latest when the command ends."""
        while not self._is_there(point.victim) and not ended.wait(_LOOK_S):
            pass
        ended.wait(self._order.delays_s.get(str(point), 0.0))
        while not self._fire(point) and not ended.wait(_LOOK_S):
            pass

    def _look(self, moment: Moment, done: list[Step]) -> None:
        """Note who could be killed at this moment."""
        found = processes.find(self._order.trial)
        self._notes.add(there=len(done), moment=moment, victims=[one for one in Victim if found.counts(one)])

    def _look_on(self, done: list[Step], ended: threading.Event) -> None:
        self._look(Moment.DURING, done)
        while not ended.wait(_LOOK_ON_S):
            self._look(Moment.DURING, done)

    def _is_there(self, victim: Victim) -> bool:
        return bool(processes.find(self._order.trial).counts(victim))

    def _at(self, moment: Moment, phase: Phase, event: str | None, done: list[Step]) -> Iterator[Point]:
        for point in list(self._armed):
            named = event is None or point.step.event == event
            if point.moment is moment and named and is_next(point.step, done, phase):
                yield point

    def _fire(self, point: Point) -> bool:
        """Kill, if the victim is there, and say whether it was."""
        with self._firing:
            found = processes.find(self._order.trial)
            counts = found.counts(point.victim)
            if not counts:
                return False
            self._armed.remove(point)
            self._notes.add(crash=str(point), killed=counts)
            processes.kill(found.of(point.victim))
            if point.victim in (Victim.AGENT, Victim.ALL):
                os.kill(os.getpid(), signal.SIGKILL)
            return True

    def took(self, phase: Phase, took_s: float) -> None:
        """Note how long a command took."""
        self._notes.add(took=phase.name, took_s=took_s)

    def check_old(self, at: journey.Journey) -> None:
        """Note it if the old object's folder is not as it was when the object was closed."""
        held = self._order.trial / "quiet.json"
        if held.exists():
            kept = json.loads(held.read_text())
            if digest_of(Path(kept["folder"])) != kept["digest"]:
                self._notes.add(wrong=f"{kept['folder']} has changed before {at.phase.value}")
            if at.phase is Phase.COMMITTING:
                self._notes.add(committed=kept["digest"])
            if at.phase in (Phase.COMMITTING, Phase.RESUMING, Phase.RESTART_STARTING):
                held.unlink()  # from now on, it may be written to, or is put away

    def hold_old(self, at: journey.Journey) -> None:
        """Remember what is in the old object's folder, which is closed."""
        folder = self._state / "states" / str(at.object_version) / "object"
        held = self._order.trial / "quiet.json"
        partial = held.with_suffix(".partial")
        partial.write_text(json.dumps({"folder": str(folder), "digest": digest_of(folder)}))
        partial.rename(held)


def _wrap(crashes: _Crashes) -> None:
    """Have this process's agent kill at its points."""
    run, append = Executor.run, Journal.append

    async def crashing_run(self: Executor, command: journey.Command, at: journey.Journey) -> journey.Event:
        done = crashes.done()
        crashes.check_old(at)
        crashes.reached(Moment.BEFORE, at.phase, None, done)
        began = asyncio.get_running_loop().time()
        with crashes.within(at.phase, done):
            event = await run(self, command, at)
        crashes.took(at.phase, asyncio.get_running_loop().time() - began)
        return event

    def crashing_append(self: Journal, event: journey.Event) -> None:
        at, _ = journey.fold(self.events)
        done, name = steps_of(self.events), type(event).__name__
        if isinstance(event, journey.Quiesced):
            crashes.hold_old(at)
        crashes.reached(Moment.AFTER, at.phase, name, done)
        append(self, event)
        crashes.reached(Moment.JOURNALLED, at.phase, name, done)

    Executor.run = crashing_run  # type: ignore[method-assign]  # the seam
    Journal.append = crashing_append  # type: ignore[method-assign]  # the seam


def live(order: Order) -> None:
    """Be the agent that `order` describes, until it is killed, by itself or from outside.

    Raises:
        SegueError: the agent ended by itself.
    """
    os.environ[processes.MARK] = str(order.trial)
    node_processes._WAIT_LIMIT_S = _WAIT_LIMIT_S
    _wrap(_Crashes(order))
    settings = NodeSettings(**{**order.settings, "state": order.trial / "state"})
    asyncio.run(run_agent(settings, SystemClock()))
