"""One node's way with its crashes, and what must hold at its end."""

import asyncio
import random
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path

from segue import journey
from segue.errors import OperatorError, PeerError
from segue.journey import Phase
from segue.local.machine import accepts, free_ports, runtime_folder
from segue.model.ids import NodeId, Version
from segue.node.orders import Restart, give_order
from segue.testing.crashing import processes
from segue.testing.crashing.callers import StoreCaller, Writer, patiently
from segue.testing.crashing.life import Notes, Order, digest_of
from segue.testing.crashing.lives import Life, Lives
from segue.testing.crashing.plans import Outcome, Plan
from segue.testing.crashing.points import Moment, Point, Step, Victim, read_journal, steps_of
from segue.testing.crashing.store import STORE, SYSTEM, files_of, tree_of
from segue.wire.client import UpgradeServer
from segue.wire.messages import NodeStatus, SystemStatus

NODE = NodeId("n1")
#: For anything that a node must reach by itself, on a busy machine.
LIMIT_S = 120.0
_LOOK_S = 0.05
#: A caller waits so long in a pause: an agent that was killed in it is there again before.
_WAIT_S = 30.0
#: A transform's process is there for longer than this: Python itself takes longer to come up.
_TRANSFORM_S = 0.1
#: What the log of a node that does as it should never has, whatever is killed.
_NEVER_SAID = ("AssertionError", "UnexpectedEvent", "the state is open twice", "no row of the table")


class Trial:
    """One node on trial.

    Args:
        folder: an empty folder, but for the node's `state`, which may be there.
        lives: starts agents.
        plan: what happens.
        server: the upgrade server that the node reports to.
        url: where that is.
        runtime: a short folder for the node's sockets.
    """

    def __init__(self, folder: Path, lives: Lives, plan: Plan, server: UpgradeServer, url: str, runtime: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.log = folder / "node.log"
        self.notes = Notes(folder / "notes.jsonl")
        (port,) = free_ports(1)
        self.address = f"127.0.0.1:{port}"
        self._lives = lives
        self._plan = plan
        self._server = server
        self._url = url
        self._runtime = runtime
        self._rng = random.Random(plan.seed)
        self._life: Life | None = None
        #: So much of the journal is from before the trial.
        self._ran = len(read_journal(self.state / "journal.jsonl"))
        self._ending = False
        #: Set when the first agent may be started.
        self.may_begin = asyncio.Event()

    async def keep_alive(self) -> None:
        """Start an agent when it is time, and another whenever it was killed: nothing else is done for the node."""
        await self.may_begin.wait()
        points = (*self._plan.way.first, *self._plan.points)
        delays_s = {str(point): self._rng.random() * self._there_s(point) for point in points}
        settings = {
            "server_url": self._url, "system": SYSTEM, "class_name": STORE, "node_id": NODE, "address": self.address,
            "poll_s": 0.1, "max_connection_age_s": 1.0, "probation_s": 0.3,
            "retry_s": 0.2, "retries": 100,  # the crash of a process counts as a failure
        }  # fmt: skip
        order = Order(trial=self.folder, settings=settings, points=points, delays_s=delays_s, looks=self._plan.looks)
        while not self._ending:
            seed = self._rng.randrange(2**32)
            self._life = await self._lives.agent(order, log=self.log, seed=seed, runtime=self._runtime)
            status = await self._life.ended()
            assert status == -signal.SIGKILL, f"the agent has ended by itself, with status {status}"

    def _there_s(self, point: Point) -> float:
        """Say about how long the victim is there while the point's command runs."""
        took_s = self._plan.took_s.get(point.step.phase.name, 0.0)
        return min(took_s, _TRANSFORM_S) if point.victim is Victim.TRANSFORM else took_s

    async def kill_at_times(self) -> None:
        """Kill from outside, when the plan says."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number, kill in enumerate(self._plan.kills):
            await asyncio.sleep(began + kill.at_s - loop.time())
            agents = 0
            if kill.victim in (Victim.AGENT, Victim.ALL) and self._life is not None:
                agents = int(self._life.kill())  # before the others, or it would see them die
            found = processes.find(self.folder)
            processes.kill(found.of(kill.victim))
            counts = {kind: times for kind, times in found.counts(kill.victim).items() if kind != "agent" or agents}
            self.notes.add(crash=f"kill {number}: {kill.victim}", killed=counts, at_s=kill.at_s)

    async def restart(self) -> None:
        """Order the process to be replaced, again and again until it was; the agent may be killed meanwhile."""
        done = Step(phase=Phase.RESTART_HANDING_OVER, event="HandedOver")
        while done not in steps_of(read_journal(self.state / "journal.jsonl")):
            try:
                await give_order(self.state, Restart(), timeout_s=LIMIT_S)
            except (PeerError, OperatorError):
                await asyncio.sleep(_LOOK_S)

    async def until(self, version: Version, since: datetime) -> NodeStatus:
        """Wait until the node has reported after `since` that it serves `version` and is at rest."""
        while True:
            try:
                status = await self._server.status(SYSTEM)
            except (PeerError, OperatorError):
                status = None
            for node in status.nodes if status else ():
                arrived = node.version == version and node.phase == Phase.SERVING and node.pid is not None
                if arrived and node.last_seen > since:
                    return node
            await asyncio.sleep(_LOOK_S)

    async def end(self) -> None:
        """Kill all of it."""
        self._ending = True
        if self._life:
            self._life.kill()
            await self._life.ended()
        processes.kill(processes.find(self.folder).of(Victim.ALL))

    def words(self) -> str:
        """Say all that is known of the trial, for a failure."""
        path = self.state / "journal.jsonl"
        log = self.log.read_text(errors="replace").splitlines()[-150:] if self.log.exists() else []
        crashes = "\n".join(map(str, self.notes.read("crash")))
        entries = path.read_text() if path.exists() else ""
        last = "\n".join(log)
        there = processes.find(self.folder)
        return f"seed {self._plan.seed}\n{there}\ncrashes:\n{crashes}\njournal:\n{entries}log:\n{last}"

    async def check(self, status: SystemStatus, written: Mapping[str, bytes]) -> Mapping[str, bytes | None]:
        """Check what must hold at the end, and return the node's state but for what was written meanwhile."""
        events = read_journal(self.state / "journal.jsonl")
        at, commands = journey.fold(events)
        assert (at.phase, at.upgrade, commands) == (Phase.SERVING, None, ()), at
        wrong = self.notes.read("wrong")
        assert not wrong, wrong
        left = list((self.state / "making").iterdir())
        assert not left, left
        said = [line for line in self.log.read_text(errors="replace").splitlines() if any(map(line.count, _NEVER_SAID))]
        assert not said, said
        self._check_permits(status, events[self._ran :])
        self._check_old()
        await self._until_alone()
        state = tree_of(self.state / "states" / str(at.object_version) / "object")
        for path, content in files_of(at.object_version, written).items():
            assert state.pop(path, None) == content, path
        return {path: content for path, content in state.items() if not (content is None and _is_empty(path, state))}

    def _check_permits(self, status: SystemStatus, events: Sequence[journey.Event]) -> None:
        """Each permit was returned, and one of them after an upgrade, if there was one."""
        kinds = Counter(type(event) for event in events)
        assert all(permit.returned_at is not None for permit in status.permits), status.permits
        mine = [permit for permit in status.permits if permit.failure is None]
        assert len(mine) == kinds[journey.Committed], status.permits
        assert len(status.permits) == kinds[journey.PermitGranted], status.permits

    def _check_old(self) -> None:
        """The state from before the upgrade is kept as it was when the object was closed."""
        committed = self.notes.read("committed")
        if committed:
            (kept,) = (self.state / "old").iterdir()
            assert kept.name.startswith(f"{self._plan.way.ran}-"), kept
            assert digest_of(kept) == committed[-1]["committed"], f"{kept} is not as it was"

    def kept(self) -> frozenset[str]:
        """Return what the node keeps of versions, besides their objects' states."""
        found = (self.state / name for name in ("states", "future"))
        return frozenset(str(path.relative_to(self.state)) for folder in found for path in folder.glob("*/*"))

    async def _until_alone(self) -> None:
        """Wait until one process of the application is left, and none of a transform."""
        while True:
            found = processes.find(self.folder)
            if len(found.application) == 1 and not found.transform and not found.others:
                return
            await asyncio.sleep(_LOOK_S)


def _is_empty(path: str, state: Mapping[str, bytes | None]) -> bool:
    """Say whether the folder is there only for what was written meanwhile: it is named after its keys' first letter."""
    return not any(name.startswith(f"{path}/") for name in state) and path.rpartition("/")[2] == "w"


async def _on_the_way(trial: Trial, plan: Plan, bundles: Mapping[Version, bytes], server: UpgradeServer) -> Outcome:
    loop, way = asyncio.get_running_loop(), plan.way
    published = way.target if way.away else way.ran
    await _publish(server, bundles, range(1, published + 1))
    trial.may_begin.set()
    if way.ran and not way.away:
        await trial.until(way.ran, datetime.min.replace(tzinfo=UTC))
    speak = range(1, way.target + 1)
    async with _writing(trial.address, speak if way.ran else (), plan) as writers:
        began = loop.time()
        await _publish(server, bundles, range(published + 1, way.target + 1))
        async with asyncio.TaskGroup() as orders:
            if way.restarts:
                orders.create_task(trial.restart())
            await trial.kill_at_times()
        await trial.until(way.target, datetime.now(UTC))
        lasted_s = loop.time() - began
    met = [failure for writer in writers for failure in writer.met]
    assert not (met and plan.spares_callers), met
    written = {key: value for writer in writers for key, value in writer.acknowledged.items()}
    async with StoreCaller(way.target, trial.address) as caller:
        for key, value in plan.values.items():
            await patiently(caller, key, value)
    for speaks in speak:
        await _read_back(StoreCaller(Version(speaks), trial.address), written)
    steps = steps_of(read_journal(trial.state / "journal.jsonl"))
    return Outcome(
        steps=steps,
        took_s={note["took"]: note["took_s"] for note in sorted(trial.notes.read("took"), key=itemgetter("took_s"))},
        lasted_s=lasted_s,
        crashes={note["crash"]: note["killed"] for note in trial.notes.read("crash")},
        there=sorted(_seen(trial.notes, steps), key=str),
        state=await trial.check(await server.status(SYSTEM), written),
        kept=trial.kept(),
    )


def _seen(notes: Notes, steps: Sequence[Step]) -> set[Point]:
    return {
        Point(step=steps[note["there"]], moment=Moment(note["moment"]), victim=Victim(victim))
        for note in notes.read("there")
        if note["there"] < len(steps)
        for victim in note["victims"]
    }


async def _publish(server: UpgradeServer, bundles: Mapping[Version, bytes], versions: Iterable[int]) -> None:
    for version in versions:
        await server.publish(bundles[Version(version)])


@asynccontextmanager
async def _writing(address: str, speak: Iterable[int], plan: Plan) -> AsyncIterator[list[Writer]]:
    """Have a writer of each version write for the time of the context; at its end, all is acknowledged."""
    async with AsyncExitStack() as callers, asyncio.TaskGroup() as running:
        writers = []
        for version in speak:
            caller = await callers.enter_async_context(StoreCaller(Version(version), address, timeout_s=_WAIT_S))
            name = f"w{version}-{plan.way.name}-"  # a node that went another way before has keys of that
            writers.append(Writer(caller, name, random.Random(f"{plan.seed}/{version}")))
            running.create_task(writers[-1].run())
        yield writers
        for writer in writers:
            writer.stop()


async def _read_back(caller: StoreCaller, written: Mapping[str, bytes]) -> None:
    async with caller:
        for key, value in written.items():
            assert await patiently(caller, key) == value, f"{key} is not what was acknowledged"


@asynccontextmanager
async def _upgrade_server(folder: Path, lives: Lives) -> AsyncIterator[tuple[UpgradeServer, str]]:
    """Run an upgrade server for the time of the context."""
    (port,) = free_ports(1)
    life = await lives.server(folder / "server", port=port, log=folder / "server.log")
    try:
        async with asyncio.timeout(LIMIT_S):
            while not await accepts(f"127.0.0.1:{port}"):  # noqa: ASYNC110 - nothing in this process tells
                await asyncio.sleep(_LOOK_S)
        url = f"http://127.0.0.1:{port}"
        async with UpgradeServer(url) as server:
            yield server, url
    finally:
        life.kill()
        await life.ended()


async def run_trial(
    folder: Path, lives: Lives, plan: Plan, bundles: Mapping[Version, bytes], *, ran: Path | None = None
) -> Outcome:
    """Send a node on its way, with its crashes, and check what must hold at its end.

    Args:
        folder: where all of it goes; made, and must not be there.
        lives: starts agents and upgrade servers.
        plan: what happens.
        bundles: of the releases: `{version: bundle}`.
        ran: the state folder of a node that ran `plan.way.ran`, which is copied; None for a node that never ran.

    Raises:
        AssertionError: something does not hold; with the seed, the crashes, the journal and the last lines of the log.
    """
    folder.mkdir(parents=True)
    if ran:
        shutil.copytree(ran, folder / "state", symlinks=True)
    runtime = Path(tempfile.mkdtemp(prefix="segue-", dir=runtime_folder()))
    try:
        async with _upgrade_server(folder, lives) as (server, url):
            trial = Trial(folder, lives, plan, server, url, runtime)
            try:
                async with asyncio.timeout(LIMIT_S), asyncio.TaskGroup() as tasks:
                    tasks.create_task(trial.keep_alive())
                    outcome = await _on_the_way(trial, plan, bundles, server)
                    await trial.end()
                return outcome
            except Exception as error:
                raise AssertionError(f"{plan.way.name}: {_first(error)!r}\n{trial.words()}") from error
            finally:
                await trial.end()
    finally:
        shutil.rmtree(runtime, ignore_errors=True)


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
