"""The pause of a node's upgrade, as the node reports it and as its callers see it.

One node of a small system goes through several versions, one after the other, while plain clients call it. In a pause
the node's calls wait, and are answered after it. In between, a plain server is restarted under the same load.
"""

import asyncio
import random
import statistics
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.install import system, watched
from benchmarks.load import Calling, loaded
from benchmarks.restart import Restart, plain
from segue.local import LocalSettings
from segue.model.ids import ClassName, NodeId, SystemName
from segue.release.bundle import build
from segue.testing.lineage import Lineage, tally_callers, write_lineage
from segue.testing.rig import Rig
from segue.wire.messages import UpgradeRow

#: What issue 4 allows, of all that is not the transform.
LIMIT_MS = 50.0
_NODE = NodeId("n1")
_SETTINGS = LocalSettings(system=SystemName("tally"), class_name=ClassName("Tally"), nodes=1, probation_s=0)
#: After an upgrade the load goes on a little, so that callers that wait are answered.
_SETTLE_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """One upgrade's pause.

    Attributes:
        pause_ms: from when the old object was quiet until the new one answered, as the node reports it.
        transform_ms: of that, the transform: its process, the author's function, and having all on disk.
        longest_call_ms: what the callers waited at most.
        calls, failed_calls: of the load.
    """

    pause_ms: float
    transform_ms: float
    longest_call_ms: float
    calls: int
    failed_calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PauseFigures:
    """Medians over upgrades, in milliseconds.

    Attributes:
        median_ms: the pause without the transform.
        with_transform_ms: the whole pause.
        longest_call_ms: of each upgrade, its longest call.
        callers_ms: of that, what was not the transform: `median_ms` as the callers saw it.
        limit_ms: what `median_ms` may be.
        upgrades: how many.
        calls, failed_calls: of all callers, in all upgrades.
    """

    median_ms: float
    with_transform_ms: float
    longest_call_ms: float
    callers_ms: float
    limit_ms: float
    upgrades: int
    calls: int
    failed_calls: int

    @property
    def verdict(self) -> str:
        """Whether the limit is kept."""
        return "kept" if self.median_ms <= self.limit_ms else "broken"


class Upgraded:
    """A node that is upgraded again and again.

    Args:
        rig: of its system, in which version 1 serves.
        lineage: the system's releases.
        calling: opens callers.
    """

    def __init__(self, rig: Rig, lineage: Lineage, calling: Calling) -> None:
        self._rig = rig
        self._lineage = lineage
        self._calling = calling
        self._version = 1

    async def upgrade(self, generator: random.Random) -> Pause:
        """Upgrade the node to the next version, under load."""
        folders, journal = self._lineage.folders, self._rig.local.state(_NODE) / "journal.jsonl"
        bundle = build(folders[self._version], previous=folders[self._version - 1])
        async with loaded(self._calling, self._rig.local.members[_NODE], generator) as load:
            known = journal.stat().st_size
            await self._rig.server.publish(bundle)
            await watched(journal, known)
            await asyncio.sleep(_SETTLE_S)
        self._version += 1
        row = await self._reported()
        return Pause(
            pause_ms=row.pause_ms,
            transform_ms=row.transform_ms,
            longest_call_ms=load.longest_call_ms(),
            calls=load.calls,
            failed_calls=load.failed_calls,
        )

    async def _reported(self) -> UpgradeRow:
        """Return what the node reports of its last upgrade."""
        node = await self._rig.until_node(
            _NODE, lambda now: len(now.upgrades) == self._version - 1, f"reports its upgrade to {self._version}"
        )
        return node.upgrades[-1]


@asynccontextmanager
async def upgraded(folder: Path, lineage: Lineage, calling: Calling) -> AsyncIterator[Upgraded]:
    """Run a node that serves version 1, to be upgraded."""
    async with system(folder, _SETTINGS) as rig:
        await rig.server.publish(build(lineage.folders[0]))
        await rig.local.start_nodes()
        await rig.until_serving(1)
        yield Upgraded(rig, lineage, calling)


async def measure_pauses(
    rounds: int, generator: random.Random, tick: Callable[[], None]
) -> tuple[list[Pause], list[Restart]]:
    """Upgrade a node, and restart a plain server, in turn.

    Args:
        rounds: of one upgrade and one restart each.
        generator: where randomness comes from.
        tick: is called after each round.
    """
    pauses: list[Pause] = []
    restarts: list[Restart] = []
    with tempfile.TemporaryDirectory(prefix="segue-bench-") as temporary:
        folder = Path(temporary)
        state = folder / "plain"
        state.mkdir()
        lineage = write_lineage(folder / "releases", rounds + 1)
        with tally_callers(lineage) as calling:
            async with upgraded(folder, lineage, calling) as node, plain(lineage.folders[0], state, calling) as server:
                for _ in range(rounds):
                    pauses.append(await node.upgrade(generator))
                    restarts.append(await server.restart(generator))
                    tick()
    return pauses, restarts


def pause_figures(pauses: Sequence[Pause]) -> PauseFigures:
    """Put several upgrades together."""
    return PauseFigures(
        median_ms=round(statistics.median(one.pause_ms - one.transform_ms for one in pauses), 1),
        with_transform_ms=round(statistics.median(one.pause_ms for one in pauses), 1),
        longest_call_ms=round(statistics.median(one.longest_call_ms for one in pauses), 1),
        callers_ms=round(statistics.median(one.longest_call_ms - one.transform_ms for one in pauses), 1),
        limit_ms=LIMIT_MS,
        upgrades=len(pauses),
        calls=sum(one.calls for one in pauses),
        failed_calls=sum(one.failed_calls for one in pauses),
    )
