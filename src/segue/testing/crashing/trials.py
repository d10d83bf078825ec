"""Runs trials, some at once, compares each with its way without a crash, and counts the crashes."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from segue.model.ids import Version
from segue.testing.crashing.lives import Lives, lives
from segue.testing.crashing.plans import Outcome, Plan, at_points, at_random_times, points_of, without_crash
from segue.testing.crashing.points import Point, Victim
from segue.testing.crashing.store import write_bundles
from segue.testing.crashing.trial import run_trial
from segue.testing.crashing.ways import WAYS, Way

#: Trials at once: a node that starts up or waits for a disk leaves a core to others. With three, a third is idle.
_AT_ONCE = 4


@dataclass(slots=True, kw_only=True)
class Trials:
    """The trials of one run of the tests.

    Attributes:
        seed: of all that is random.
        folder: where they go.
        lives: starts agents.
        bundles: of the releases: `{version: bundle}`.
        references: what came of each way without a crash: `{way's name: outcome}`.
        crashes: `{trial: {point or kill: {kind of process: how many were killed}}}`, of those that went well.
        failures: what did not hold in the others, in words.
    """

    seed: str
    folder: Path
    lives: Lives
    bundles: Mapping[Version, bytes]
    references: dict[str, Outcome] = field(default_factory=dict)
    crashes: dict[str, Mapping[str, Mapping[str, int]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))

    def points(self, way: Way, victim: Victim) -> list[Point]:
        """Return every point of a way at which `victim` can be killed."""
        return points_of(way, self.references[way.name], victim)

    async def refer(self, way: Way) -> None:
        """Send a node on a way without a crash; what begins where this way ends begins with its folder."""
        self.references[way.name] = await self._run(without_crash(way, self.seed), way.name, keep=True)

    async def crash_at(self, way: Way, points: Sequence[Point], name: str) -> None:
        """Crash at each of these points, in as many trials as it takes.

        A process that was killed at one step may not be there at the next, so what was missed is tried again.
        """
        left = points
        for number in range(1, len(points) + 1):
            plan = at_points(way, left, self.references[way.name], f"{self.seed}/{name}/{number}")
            outcome = await self._try(plan, f"{name}, trial {number}")
            if outcome is None:
                return
            missed = [point for point in left if str(point) not in outcome.crashes]
            if not missed:
                return
            if len(missed) == len(left):
                self.failures.append(f"{name}, trial {number}: never came to {', '.join(map(str, missed))}")
                return
            left = missed

    async def crash_at_random_times(self, way: Way, name: str, crashes: int) -> None:
        """Crash so many times from outside."""
        plan = at_random_times(way, self.references[way.name], f"{self.seed}/{name}", crashes)
        await self._try(plan, name)

    @property
    def count(self) -> int:
        """How many crashes there were that killed somebody."""
        return sum(len(crashes) for crashes in self.crashes.values())

    def summary(self) -> Iterable[str]:
        """Say how many crashes there were, and from which seed."""
        yield f"{self.count} crashes in {len(self.crashes)} trials, seed {self.seed}"
        for name, crashes in self.crashes.items():
            yield f"{len(crashes):4} {name}"

    async def _try(self, plan: Plan, name: str) -> Outcome | None:
        """Run a trial, and return what came of it; None if something did not hold, which is noted then."""
        try:
            return await self._run(plan, name)
        except AssertionError as error:
            self.failures.append(f"{name}: {error}")
            return None

    async def _run(self, plan: Plan, name: str, *, keep: bool = False) -> Outcome:
        async with self._room:
            folder = self.folder / name.replace("/", "-")
            ran = self._ran(plan.way) if plan.way.ran else None
            outcome = await run_trial(folder, self.lives, plan, self.bundles, ran=ran)
        reference = self.references.get(plan.way.name)
        if reference:
            assert outcome.state == reference.state, f"seed {plan.seed}: {folder} is not as it is without a crash"
            assert outcome.kept == reference.kept, f"seed {plan.seed}: {folder} keeps {sorted(outcome.kept)}"
        self.crashes[name] = {crash: killed for crash, killed in outcome.crashes.items() if killed}
        if not keep:
            shutil.rmtree(folder)
        return outcome

    def _ran(self, way: Way) -> Path:
        """Return the state folder of a node that arrived at the version at which this way begins."""
        before = next(one for one in WAYS if one.target == way.ran)
        return self.folder / before.name / "state"


@asynccontextmanager
async def trials(folder: Path, seed: str) -> AsyncIterator[Trials]:
    """Send a node on every way without a crash, and give what runs trials, for the time of the context."""
    bundles = write_bundles(folder / "releases", max(way.target for way in WAYS))
    async with lives() as starts:
        found = Trials(seed=seed, folder=folder, lives=starts, bundles=bundles)
        for way in WAYS:
            await found.refer(way)
        yield found
